/** What may be given again of a task's log, and as what. Pure. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { type Message, Role, type StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { isEmptied } from "./artifact-retention.ts";
import { ROUTING_EXTENSION } from "./routing-extension.ts";
import type { TaskImage } from "./task-log.ts";
import { EngineState } from "./task-state.ts";

/**
 * The result of a task as an agent would report it of another, which it calls `taskId`: status, artifacts, what the agent
 * said, metadata, and which task it was. Undefined where it is none, came of more than the first message, or has lost its contents.
 */
export function resultOf({ header, state, task, reply }: TaskImage, taskId: string): StreamResponse | undefined {
  if (state !== EngineState.COMPLETED) return undefined;
  if (task.history.filter(({ role }) => role === Role.USER).length !== 1) return undefined;
  if (task.artifacts.some(isEmptied)) return undefined;
  const from = header.taskId;
  if (reply) {
    const value = { ...withoutIds(reply), metadata: marked(reply.metadata, from) };
    return { $typeName: "lf.a2a.v1.StreamResponse", payload: { case: "message", value } };
  }
  const message = task.status?.message;
  const value = {
    ...task,
    id: taskId,
    contextId: "",
    status: task.status && { ...task.status, message: message && withoutIds(message) },
    history: task.history.filter(({ role }) => role === Role.AGENT).map(withoutIds),
    metadata: marked(task.metadata, from),
  };
  return { $typeName: "lf.a2a.v1.StreamResponse", payload: { case: "task", value } };
}

/** The ids are those of the other task, and what it refers to may be nobody's business here. */
const withoutIds = (message: Message): Message => ({ ...message, taskId: "", contextId: "", referenceTaskIds: [] });

function marked(metadata: JsonObject | undefined, cachedFrom: string): JsonObject {
  const said = metadata?.[ROUTING_EXTENSION];
  const own = typeof said === "object" && said !== null && !Array.isArray(said) ? said : {};
  return { ...metadata, [ROUTING_EXTENSION]: { ...own, cachedFrom } };
}

/** What was answered from the result cache names, under our extension, the task that the result is of; else empty. */
export function cachedFrom(metadata: JsonObject | undefined): string {
  const said: JsonValue | undefined = metadata?.[ROUTING_EXTENSION];
  if (typeof said !== "object" || said === null || Array.isArray(said)) return "";
  return typeof said.cachedFrom === "string" ? said.cachedFrom : "";
}
