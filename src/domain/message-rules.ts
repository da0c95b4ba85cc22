/** What a message must be before an agent is asked to take it (A2A specification, sections 3.1.1 and 3.3.4). */
import type { AgentCard, Message, SendMessageRequest } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { contentTypeNotSupported, extensionSupportRequired, type FieldViolation } from "./errors.ts";

/** Longest id that a client may choose: messageId, contextId, taskId, a push config's id. */
export const MAX_ID_LENGTH = 256;
/** Most parts of a message, and most tasks that it may refer to. */
export const MAX_PARTS = 1000;
export const MAX_REFERENCES = 100;

/** Limits of a send that the contract does not state; what it requires is checked from its own annotations. */
export function sendViolations(request: SendMessageRequest): FieldViolation[] {
  const { message, configuration } = request;
  const violations: FieldViolation[] = [];
  if (message) {
    for (const field of ["messageId", "contextId", "taskId"] as const) {
      violations.push(...idViolations(`message.${field}`, message[field]));
    }
    if (message.parts.length > MAX_PARTS) {
      violations.push({ field: "message.parts", description: `at most ${MAX_PARTS} parts; send fewer or larger ones` });
    }
    if (message.referenceTaskIds.length > MAX_REFERENCES) {
      violations.push({ field: "message.referenceTaskIds", description: `at most ${MAX_REFERENCES}` });
    }
  }
  if (configuration?.historyLength !== undefined) {
    violations.push(...historyViolations("configuration.historyLength", configuration.historyLength));
  }
  return violations;
}

/** An id that PostgreSQL can hold and a person can still read. */
export function idViolations(field: string, id: string): FieldViolation[] {
  if (id.length > MAX_ID_LENGTH) return [{ field, description: `at most ${MAX_ID_LENGTH} characters` }];
  if (id.includes("\0")) return [{ field, description: "must not hold the character U+0000" }];
  return [];
}

export function historyViolations(field: string, length: number | undefined): FieldViolation[] {
  return length !== undefined && length < 0 ? [{ field, description: "must be 0 or more; leave it out for all" }] : [];
}

/** Throws ContentTypeNotSupported when a part names a media type that nothing on the card takes. */
export function checkMediaTypes(message: Message, card: AgentCard): void {
  const accepted = new Set([...card.defaultInputModes, ...card.skills.flatMap((skill) => skill.inputModes)]);
  if (accepted.size === 0) return;
  message.parts.forEach((part, i) => {
    if (part.mediaType === "" || accepts(accepted, part.mediaType)) return;
    const modes = [...accepted].join(", ");
    throw contentTypeNotSupported(
      `message.parts[${i}].mediaType: the agent does not take "${part.mediaType.slice(0, 128)}". It takes ${modes}.`,
      { mediaType: part.mediaType.slice(0, 128), accepted: modes },
    );
  });
}

/** Agents write `text` as well as `text/plain` and `text/*`. */
function accepts(accepted: ReadonlySet<string>, mediaType: string): boolean {
  const bare = mediaType.split(";", 1)[0]!.trim().toLowerCase();
  const family = bare.split("/", 1)[0]!;
  for (const mode of accepted) {
    const candidate = mode.split(";", 1)[0]!.trim().toLowerCase();
    if (candidate === bare || candidate === "*/*" || candidate === "*") return true;
    if (candidate === `${family}/*` || candidate === family) return true;
  }
  return false;
}

/** Throws ExtensionSupportRequired when the card requires an extension that the client did not name. */
export function checkExtensions(named: readonly string[], card: AgentCard): void {
  const required = card.capabilities?.extensions.filter((e) => e.required && !named.includes(e.uri)) ?? [];
  if (required.length > 0) throw extensionSupportRequired(required.map((e) => e.uri));
}
