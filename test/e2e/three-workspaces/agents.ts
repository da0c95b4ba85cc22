/** Agents of the three workspaces: of the same ids, and each says whose it is. */
import { randomUUID } from "node:crypto";
import { fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { type StreamResponse, StreamResponseSchema } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { DELEGATION_EXTENSION } from "../../../src/domain/delegation-extension.ts";
import type { AgentHandler } from "../../../src/outbound/in-process-channel.ts";
import { inProcessCard } from "../running-app.ts";
import type { Marked } from "./workspace-rows.ts";

const item = (json: JsonValue): StreamResponse => fromJson(StreamResponseSchema, json);

/** Says what it heard. A first message that begins with `ask` it answers with a question. */
export const agentOf = ({ agentMark }: Marked): AgentHandler =>
  async function* ({ parts }, { task }) {
    const { content } = parts[0]!;
    const text = content.case === "text" ? content.value : JSON.stringify(content.value);
    const ids = { taskId: task?.id ?? randomUUID(), contextId: task?.contextId ?? randomUUID() };
    const says = `${agentMark} heard ${text}`;
    const message = { messageId: randomUUID(), ...ids, role: "ROLE_AGENT", parts: [{ text: says }] };
    const status = (state: string) => item({ statusUpdate: { ...ids, status: { state, message } } });
    if (!task) {
      const metadata = { from: agentMark };
      const { taskId: id, contextId } = ids;
      yield item({ task: { id, contextId, status: { state: "TASK_STATE_WORKING" }, metadata } });
      if (text.startsWith("ask")) {
        yield status("TASK_STATE_INPUT_REQUIRED");
        return;
      }
    }
    const artifact = { artifactId: "said", name: agentMark, parts: [{ text: says }] };
    yield item({ artifactUpdate: { ...ids, artifact, lastChunk: true } });
    yield status("TASK_STATE_COMPLETED");
  };

/** What the function that plays a workspace's agents is called: nobody who is lent one must learn it. */
export const placeOf = ({ mark }: Marked): string => `place-${mark}`;

export function cardOf(workspace: Marked, agentId: string): JsonObject {
  const { agentMark } = workspace;
  const skill = (id: string) => ({ id, name: id, description: `${agentMark} does ${id}`, tags: ["test"] });
  return {
    ...(inProcessCard(placeOf(workspace)) as JsonObject),
    name: `${agentId} of ${agentMark}`,
    description: `The agent of ${agentMark}`,
    capabilities: { streaming: true, extensions: [{ uri: DELEGATION_EXTENSION }] },
    skills: agentId === "echo" ? [skill("say"), skill("pay")] : [skill(agentId)],
  };
}
