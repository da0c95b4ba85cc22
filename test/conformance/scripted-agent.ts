/**
 * The agent behind the server. What it does is told by the first word of the message, and is the same every time:
 *
 * | text       | what happens                                                                     |
 * | ---------- | -------------------------------------------------------------------------------- |
 * | `complete` | works, gives the artifact "result", completes                                    |
 * | `chunks`   | works, gives the artifact "story" in three pieces, completes                     |
 * | `echo`     | completes with the artifact "echo", which holds the parts of the message         |
 * | `ask`      | asks for input; whatever comes next becomes the artifact "answer"                |
 * | `auth`     | asks for authorization, and goes on likewise                                     |
 * | `reject`   | rejects the task                                                                 |
 * | `fail`     | works, then fails                                                                |
 * | `throw`    | throws, as an agent with a bug does                                              |
 * | `message`  | answers with a bare Message and no task                                          |
 * | `work`     | works until it is canceled                                                       |
 * | `rubbish`  | answers with something that is no A2A                                            |
 * | `spoil`    | works, then sends something that is no A2A                                       |
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { create, fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { type StreamResponse, StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import { inProcessCard } from "../e2e/running-app.ts";

const actorCard = inProcessCard("actor");

/**
 * Another agent of the same script. It streams nothing, and takes only messages that name its extension. It can do what the
 * first can, and something of its own, whose id is no label.
 */
export const strictCard = {
  ...actorCard,
  name: "Strict",
  skills: [
    ...(actorCard.skills as object[]),
    { id: "stern tone!", name: "Stern tone", description: "Says it sternly.", tags: ["test"] },
  ],
  capabilities: { streaming: false, extensions: [{ uri: "urn:example:tone", required: true }] },
};

export async function* act(
  ...[message, { task, signal }]: Parameters<AgentHandler>
): AsyncGenerator<StreamResponse, void> {
  const ids = { taskId: task?.id ?? randomUUID(), contextId: task?.contextId ?? randomUUID() };
  const { content } = message.parts[0]!;
  const text = content.case === "text" ? content.value : "";
  const word = text.split(" ", 1)[0];

  const says = (text: string): JsonObject => ({
    messageId: `agent-${text.length}`,
    ...ids,
    role: "ROLE_AGENT",
    parts: [{ text }],
  });
  const status = (state: string, text?: string) =>
    item({ statusUpdate: { ...ids, status: { state: `TASK_STATE_${state}`, ...(text && { message: says(text) }) } } });
  const artifact = (artifactId: string, parts: JsonValue[], chunk: { append?: boolean; lastChunk?: boolean } = {}) =>
    item({ artifactUpdate: { ...ids, artifact: { artifactId, name: artifactId, parts }, lastChunk: true, ...chunk } });

  if (word === "message") {
    yield item({ message: { messageId: "agent-bare", role: "ROLE_AGENT", parts: [{ text: "Just this." }] } });
    return;
  }
  if (word === "rubbish") {
    yield create(StreamResponseSchema);
    return;
  }
  if (word === "throw") throw new Error("a bug");
  if (!task) {
    const { taskId: id, contextId } = ids;
    yield item({ task: { id, contextId, status: { state: "TASK_STATE_SUBMITTED" } } });
  }
  if (task) {
    yield status("WORKING");
    yield artifact("answer", [{ text }]);
    yield status("COMPLETED", `You said: ${text}`);
    return;
  }
  switch (word) {
    case "complete":
      yield status("WORKING", "On it.");
      yield artifact("result", [{ text: "All done." }]);
      yield status("COMPLETED", "Done.");
      return;
    case "chunks":
      yield status("WORKING");
      yield artifact("story", [{ text: "Once " }], { lastChunk: false });
      yield artifact("story", [{ text: "upon " }], { append: true, lastChunk: false });
      yield artifact("story", [{ text: "a time." }], { append: true });
      yield status("COMPLETED");
      return;
    case "echo":
      yield create(StreamResponseSchema, {
        payload: {
          case: "artifactUpdate",
          value: { ...ids, artifact: { artifactId: "echo", parts: message.parts }, lastChunk: true },
        },
      });
      yield status("COMPLETED");
      return;
    case "ask":
      yield status("INPUT_REQUIRED", "Where to?");
      return;
    case "auth":
      yield status("AUTH_REQUIRED", "Who are you?");
      return;
    case "reject":
      yield status("REJECTED", "Not this one.");
      return;
    case "fail":
      yield status("WORKING");
      yield status("FAILED", "It broke.");
      return;
    case "work":
      yield status("WORKING");
      await once(signal, "abort");
      return;
    case "spoil":
      yield status("WORKING");
      yield create(StreamResponseSchema);
      return;
    default:
      throw new Error(`there is no script "${word}"`);
  }
}

const item = (json: JsonValue): StreamResponse => fromJson(StreamResponseSchema, json);
