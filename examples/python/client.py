#!/usr/bin/python3
"""An A2A client in Python that knows nothing of Signalbox but its gRPC address.

It asks the server which services it has, sends a message and waits for the task, then sends it again and follows the
task while it runs. Exit status 0 when all of this worked, 1 when the server refused.
"""

import argparse
import sys
import uuid

import grpc
import reflection_pb2
import reflection_pb2_grpc
from google.rpc import error_details_pb2, status_pb2
from lf.a2a.v1 import a2a_pb2, a2a_pb2_grpc

TIMEOUT_S = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", nargs="?", default="Hello from Python.")
    parser.add_argument("--address", default="127.0.0.1:50051", help="host:port of the gRPC listener")
    parser.add_argument("--tenant", default="", help="a.AGENT to reach one agent; empty for the default agent")
    options = parser.parse_args()

    with grpc.insecure_channel(options.address) as channel:
        try:
            list_services(channel)
            agent = a2a_pb2_grpc.A2AServiceStub(channel)
            send(agent, request(options))
            stream(agent, request(options))
        except grpc.RpcError as error:
            print(explain(error), file=sys.stderr)
            return 1
    return 0


def list_services(channel: grpc.Channel) -> None:
    """Server reflection is one stream: each question on it gets one answer."""
    questions = iter([reflection_pb2.ServerReflectionRequest(list_services="*")])
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    for answer in stub.ServerReflectionInfo(questions, timeout=TIMEOUT_S):
        for service in answer.list_services_response.service:
            print("service", service.name)


def request(options: argparse.Namespace) -> a2a_pb2.SendMessageRequest:
    message = a2a_pb2.Message(
        message_id=str(uuid.uuid4()),
        role=a2a_pb2.ROLE_USER,
        parts=[a2a_pb2.Part(text=options.text)],
    )
    return a2a_pb2.SendMessageRequest(tenant=options.tenant, message=message)


def send(agent: a2a_pb2_grpc.A2AServiceStub, sent: a2a_pb2.SendMessageRequest) -> None:
    """Waits until the task has ended, or needs something from us."""
    answer = agent.SendMessage(sent, timeout=TIMEOUT_S)
    if answer.HasField("message"):
        print("message", text_of(answer.message.parts))
        return
    print("task", state_of(answer.task))
    for artifact in answer.task.artifacts:
        print("artifact", artifact.name, text_of(artifact.parts))


def stream(agent: a2a_pb2_grpc.A2AServiceStub, sent: a2a_pb2.SendMessageRequest) -> None:
    """Shows the task as it begins, and then each update."""
    for item in agent.SendStreamingMessage(sent, timeout=TIMEOUT_S):
        kind = item.WhichOneof("payload")
        if kind == "task":
            print("stream task", state_of(item.task))
        elif kind == "status_update":
            print("stream status", state_of(item.status_update))
        elif kind == "artifact_update":
            print("stream artifact", item.artifact_update.artifact.name, text_of(item.artifact_update.artifact.parts))
        else:
            print("stream message", text_of(item.message.parts))


def state_of(holder) -> str:
    """The state, and what the agent says with it, such as a question."""
    state = a2a_pb2.TaskState.Name(holder.status.state)
    said = text_of(holder.status.message.parts)
    return f"{state} {said}" if said else state


def text_of(parts) -> str:
    return "".join(part.text for part in parts if part.HasField("text"))


def explain(error: grpc.RpcError) -> str:
    """Programs decide by the reason in google.rpc.ErrorInfo, people read the sentence."""
    reasons = []
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                reasons.append(f"{info.reason} ({info.domain})")
    return " ".join(["error", error.code().name, *reasons, error.details()])


if __name__ == "__main__":
    sys.exit(main())
