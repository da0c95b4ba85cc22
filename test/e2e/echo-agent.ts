/** An agent in the process that completes every task with what it heard, and its own name. */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";

/** Its artifact says `NAME heard TEXT`. */
export function echoAgent(name: string): AgentHandler {
  return async ({ parts }) => {
    const content = { case: "text" as const, value: `${name} heard ${parts[0]?.content.value}` };
    const value = {
      id: randomUUID(),
      contextId: randomUUID(),
      status: { state: TaskState.COMPLETED },
      artifacts: [{ artifactId: "echo", name: "echo", parts: [{ content }] }],
    };
    return create(StreamResponseSchema, { payload: { case: "task", value } });
  };
}
