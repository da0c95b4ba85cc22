/** How an agent says on behalf of which of its tasks it sends another one, in the metadata of the request. Pure. */
import { create } from "@bufbuild/protobuf";
import { type AgentCard, type AgentExtension, AgentExtensionSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { FieldViolation } from "./errors.ts";
import { MAX_ID_LENGTH } from "./message-rules.ts";

export const DELEGATION_EXTENSION = "urn:signalbox:a2a:delegation:v1";

/** Tasks that may stand above one. */
export const MAX_DELEGATION_DEPTH = 16;

/** How our cards declare it (A2A specification, section 4.6.1). */
export const delegationDeclaration = (): AgentExtension =>
  create(AgentExtensionSchema, {
    uri: DELEGATION_EXTENSION,
    description: [
      "The metadata of a SendMessageRequest may name the task on whose behalf it is sent,",
      'as {"parentTaskId": "018f..."}: one that has not ended.',
      'An agent that declares this extension is told the id of each task that it is given, as {"taskId": "018f..."}.',
      "The new task draws on what that one has reserved of budgets, and has its deadline at the latest.",
    ].join(" "),
    required: false,
  });

/** The id of the parent that a request names, or what is wrong with it; undefined where it names none. */
export function parentNamed(metadata: Record<string, unknown> | undefined): string | FieldViolation[] | undefined {
  const said = metadata?.[DELEGATION_EXTENSION];
  if (said === undefined) return undefined;
  const field = `metadata["${DELEGATION_EXTENSION}"]`;
  if (typeof said !== "object" || said === null || Array.isArray(said)) {
    return [{ field, description: 'must be an object, as {"parentTaskId": "018f..."}' }];
  }
  const { parentTaskId } = said as Record<string, unknown>;
  if (typeof parentTaskId === "string" && parentTaskId !== "" && parentTaskId.length <= MAX_ID_LENGTH)
    return parentTaskId;
  return [{ field: `${field}.parentTaskId`, description: "must be the id of a task that has not ended" }];
}

/** Whether an agent sends tasks on behalf of those that it has, as its card declares. */
export const mayDelegate = ({ capabilities }: Pick<AgentCard, "capabilities">): boolean =>
  capabilities?.extensions.some(({ uri }) => uri === DELEGATION_EXTENSION) ?? false;

/** The metadata of a request to an agent, with the id of the task that it is given: what it names as a parent. */
export function withTask(metadata: Record<string, unknown> | undefined, taskId: string): Record<string, unknown> {
  const said = metadata?.[DELEGATION_EXTENSION];
  const own = typeof said === "object" && said !== null && !Array.isArray(said) ? said : {};
  return { ...metadata, [DELEGATION_EXTENSION]: { ...own, taskId } };
}
