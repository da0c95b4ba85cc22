/** What a message must be before an agent is asked to take it (A2A specification, sections 3.1.1 and 3.3.4). */
import type { AgentCard, Message, Part, SendMessageRequest } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { clip, contentTypeNotSupported, extensionSupportRequired, type FieldViolation } from "./errors.ts";

/** Longest id that a client may choose: messageId, contextId, taskId, a push config's id. */
export const MAX_ID_LENGTH = 256;
/** Most parts of a message, and most tasks that it may refer to. */
export const MAX_PARTS = 1000;
export const MAX_REFERENCES = 100;
/** Most extensions of a message. */
export const MAX_EXTENSIONS = 100;
/** Longest URI that anybody may give us: an extension's, an agent's, a webhook's. */
export const MAX_URI_LENGTH = 2048;
/** Most media types that a client may say it accepts, and the longest one, a part's too. */
export const MAX_OUTPUT_MODES = 100;
const MAX_MEDIA_TYPE_LENGTH = 256;
/** What a refusal repeats of an agent's card at most. */
const MAX_ECHO_LENGTH = 512;
const NAMED_EXTENSIONS = 4;

/** Limits of a send that the contract does not state; what it requires is checked from its own annotations. */
export function sendViolations({ message, configuration }: SendMessageRequest): readonly FieldViolation[] {
  const found = message ? messageViolations(message) : NONE;
  if (!configuration) return found;
  const { acceptedOutputModes: modes, historyLength } = configuration;
  return joined(
    found,
    listViolations("configuration.acceptedOutputModes", modes, MAX_OUTPUT_MODES, mediaTypeViolations),
    historyViolations("configuration.historyLength", historyLength),
  );
}

function messageViolations(message: Message): readonly FieldViolation[] {
  return joined(
    idViolations("message.messageId", message.messageId),
    idViolations("message.contextId", message.contextId),
    idViolations("message.taskId", message.taskId),
    partViolations(message.parts),
    listViolations("message.referenceTaskIds", message.referenceTaskIds, MAX_REFERENCES, idViolations),
    listViolations("message.extensions", message.extensions, MAX_EXTENSIONS, uriViolations),
  );
}

function partViolations(parts: readonly Part[]): readonly FieldViolation[] {
  if (parts.length > MAX_PARTS) {
    return [{ field: "message.parts", description: `at most ${MAX_PARTS} parts; send fewer or larger ones` }];
  }
  if (parts.every(({ mediaType }) => mediaType.length <= MAX_MEDIA_TYPE_LENGTH)) return NONE;
  return parts.flatMap(({ mediaType }, i) => mediaTypeViolations(`message.parts[${i}].mediaType`, mediaType));
}

/** What nothing is wrong with costs no list of its own. */
const NONE: readonly FieldViolation[] = [];

function joined(...lists: readonly (readonly FieldViolation[])[]): readonly FieldViolation[] {
  return lists.every((list) => list.length === 0) ? NONE : lists.flat();
}

/** An id that PostgreSQL can hold and a person can still read. */
export function idViolations(field: string, id: string): readonly FieldViolation[] {
  if (id.includes("\0")) return [{ field, description: "must not hold the character U+0000" }];
  return lengthViolations(field, id, MAX_ID_LENGTH);
}

export const mediaTypeViolations = (field: string, mediaType: string): readonly FieldViolation[] =>
  lengthViolations(field, mediaType, MAX_MEDIA_TYPE_LENGTH);

const uriViolations = (field: string, uri: string): readonly FieldViolation[] =>
  lengthViolations(field, uri, MAX_URI_LENGTH);

/** Violations of a text that is longer than `max` characters. */
export function lengthViolations(field: string, text: string, max: number): readonly FieldViolation[] {
  return text.length > max ? [{ field, description: `at most ${max} characters` }] : NONE;
}

/** Violations of a list that is too long or, when it is not, of its items. */
export function listViolations(
  field: string,
  items: readonly string[],
  max: number,
  check: (field: string, item: string) => readonly FieldViolation[],
): readonly FieldViolation[] {
  if (items.length === 0) return NONE;
  if (items.length > max) return [{ field, description: `at most ${max}` }];
  return items.flatMap((item, i) => check(`${field}[${i}]`, item));
}

export function historyViolations(field: string, length: number | undefined): readonly FieldViolation[] {
  return length !== undefined && length < 0
    ? [{ field, description: "must be 0 or more; leave it out for all" }]
    : NONE;
}

/** Throws ContentTypeNotSupported when a part names a media type that nothing on the card takes. */
export function checkMediaTypes(message: Message, card: AgentCard): void {
  if (message.parts.every(({ mediaType }) => mediaType === "")) return;
  checkInputModes(message, [...card.defaultInputModes, ...card.skills.flatMap((skill) => skill.inputModes)]);
}

/** Throws ContentTypeNotSupported when a part names a media type that is none of the modes. No modes at all take everything. */
export function checkInputModes(message: Message, modes: readonly string[]): void {
  if (modes.length === 0) return;
  const accepted = new Set(modes);
  message.parts.forEach((part, i) => {
    if (part.mediaType === "" || accepts(accepted, part.mediaType)) return;
    const named = clip([...accepted].join(", "), MAX_ECHO_LENGTH);
    const mediaType = clip(part.mediaType);
    throw contentTypeNotSupported(
      `message.parts[${i}].mediaType: the agent does not take "${mediaType}". It takes ${named}.`,
      { mediaType, accepted: named },
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
  const offered = card.capabilities?.extensions ?? [];
  if (offered.length === 0) return;
  const required = offered.filter((e) => e.required && !named.includes(e.uri));
  if (required.length === 0) return;
  throw extensionSupportRequired(required.slice(0, NAMED_EXTENSIONS).map(({ uri }) => clip(uri, MAX_ECHO_LENGTH)));
}
