/** A task that is given in plain words, as the message that an A2A client would send, and what is said of it back. */
import { create, type JsonObject } from "@bufbuild/protobuf";
import { Role, type SendMessageRequest, SendMessageRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type SubmitTaskRequest, TaskPriority } from "../../gen/signalbox/v1/task_pb.ts";
import { DELEGATION_EXTENSION } from "../domain/delegation-extension.ts";
import { type FieldViolation, invalidArgument, SignalboxError } from "../domain/errors.ts";
import { priorityOf } from "../domain/plain-task.ts";
import { ROUTING_EXTENSION } from "../domain/routing-extension.ts";

/** What is wrong with a request before it becomes a message. */
export function submitViolations({ content, priority }: SubmitTaskRequest): FieldViolation[] {
  const violations: FieldViolation[] = [];
  if (content.case === undefined) {
    violations.push({ field: "input", description: "is required: JSON for the agent, or words for it in text" });
  }
  if (priority !== TaskPriority.UNSPECIFIED && !priorityOf(priority))
    violations.push({ field: "priority", description: "is no priority" });
  return violations;
}

/** The message that says the same, to be answered at once with its task. */
export function messageOf(request: SubmitTaskRequest, messageId: string): SendMessageRequest {
  const { content, contextId } = request;
  const part =
    content.case === "input"
      ? { case: "data" as const, value: content.value }
      : { case: "text" as const, value: content.value ?? "" };
  const wishes = wishesOf(request);
  const metadata: JsonObject = {
    ...(Object.keys(wishes).length > 0 && { [ROUTING_EXTENSION]: wishes }),
    ...(request.parentTaskId !== "" && { [DELEGATION_EXTENSION]: { parentTaskId: request.parentTaskId } }),
  };
  return create(SendMessageRequestSchema, {
    message: { messageId, contextId, role: Role.USER, parts: [{ content: part }] },
    configuration: { returnImmediately: true },
    ...(Object.keys(metadata).length > 0 && { metadata }),
  });
}

function wishesOf(request: SubmitTaskRequest): JsonObject {
  const { capabilityId, agentId, labels, strategy, maxCost, priority, deadlineMs, idempotencyKey, noStore } = request;
  const priorityName = priorityOf(priority);
  return {
    ...(capabilityId !== "" && { capability: capabilityId }),
    ...(agentId !== "" && { agent: agentId }),
    ...(Object.keys(labels).length > 0 && { labels }),
    ...(strategy !== "" && { strategy }),
    ...(maxCost !== "" && { maxCost }),
    ...(priorityName && { priority: priorityName }),
    ...(deadlineMs !== 0n && { deadlineMs: Number(deadlineMs) }),
    ...(idempotencyKey !== "" && { idempotencyKey }),
    ...(noStore && { noStore }),
  };
}

/** Where the fields of a message come from. The longer path stands before the one that it begins with. */
const FIELDS: readonly (readonly [ofMessage: string, ofRequest: string])[] = [
  ["message.parts[0].data", "input"],
  ["message.parts[0]", "text"],
  ["message.contextId", "contextId"],
  [`metadata["${ROUTING_EXTENSION}"].capability`, "capabilityId"],
  [`metadata["${ROUTING_EXTENSION}"].agent`, "agentId"],
  [`metadata["${ROUTING_EXTENSION}"].`, ""],
  [`metadata["${DELEGATION_EXTENSION}"].`, ""],
];

/** The same refusal, with the fields that the client has sent. */
export function inPlainWords(error: unknown): unknown {
  if (!(error instanceof SignalboxError) || error.reason !== "INVALID_ARGUMENT") return error;
  return invalidArgument(
    error.violations.map(({ field, description }) => ({ field: renamed(field), description })),
    error,
  );
}

function renamed(field: string): string {
  const [path, name] = FIELDS.find(([ofMessage]) => field.startsWith(ofMessage)) ?? ["", ""];
  return name + field.slice(path.length);
}
