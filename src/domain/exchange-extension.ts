/**
 * The extension `urn:signalbox:a2a:exchange:v1`: the messages of signalbox.v1.MessageService over plain A2A. A message to the
 * router that names it carries the envelope under this URI in the request's metadata, or as the first data part.
 */
import { create, fromJson, type JsonObject, toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { type AgentExtension, AgentExtensionSchema, type SendMessageRequest } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ExchangeKind, type ExchangeMessage, ExchangeMessageSchema } from "../../gen/signalbox/v1/message_pb.ts";
import { clip, invalidArgument } from "./errors.ts";
import { emptyPayload } from "./exchange-rules.ts";
import { MAX_JSON_MESSAGE_DEPTH } from "./nesting.ts";

/** Its URI, which is the key of metadata, too. */
export const EXCHANGE_EXTENSION = "urn:signalbox:a2a:exchange:v1";

/** How the router's card declares it (A2A specification, section 4.6.1). */
export const exchangeDeclaration = (): AgentExtension =>
  create(AgentExtensionSchema, {
    uri: EXCHANGE_EXTENSION,
    description:
      'Metadata of a request, under this URI, or a data part say what is asked of the router itself, as {"kind": "DISCOVER", "discover": {"text": "translate"}}: a signalbox.v1.ExchangeMessage. Kinds: DISCOVER, INTENT, NEGOTIATE, DELEGATE, OBSERVE, REVISE, EXPLAIN, VERIFY, RESPONSE, ERROR. The answer is a Message with such a data part; of DELEGATE, the Task.',
    required: false,
  });

/** An envelope in a message of A2A, not yet read. */
export interface CarriedEnvelope {
  readonly json: JsonObject;
  /** Where it stands in the request. */
  readonly field: string;
}

/** The envelope that a request carries; undefined when it has none. */
export function carriedEnvelope({ message, metadata }: SendMessageRequest): CarriedEnvelope | undefined {
  const said = metadata?.[EXCHANGE_EXTENSION];
  if (isEnvelope(said)) return { json: said, field: METADATA_FIELD };
  const index = message?.parts.findIndex(({ content }) => content.case === "data") ?? -1;
  const content = message?.parts[index]?.content;
  const data = content?.case === "data" ? toJson(ValueSchema, content.value) : undefined;
  return isEnvelope(data) ? { json: data, field: `message.parts[${index}].data` } : undefined;
}

const METADATA_FIELD = `metadata["${EXCHANGE_EXTENSION}"]`;
const KIND_PREFIX = "EXCHANGE_KIND_";

/** What has no kind is none: the router itself puts {"correlationId": ...} there. */
const isEnvelope = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value) && "kind" in value;

/** Reads an envelope, whose kind may be written without EXCHANGE_KIND_. Throws INVALID_ARGUMENT. */
export function readEnvelope({ json, field }: CarriedEnvelope): ExchangeMessage {
  const name = String(json.kind);
  const kind = ExchangeKind[name.replace(KIND_PREFIX, "") as keyof typeof ExchangeKind];
  if (!kind) throw invalidArgument([{ field: `${field}.kind`, description: `"${clip(name)}" is no kind of message` }]);
  try {
    const options = { ignoreUnknownFields: true, recursionLimit: MAX_JSON_MESSAGE_DEPTH };
    const envelope = fromJson(ExchangeMessageSchema, { ...json, kind }, options);
    return envelope.payload.case === undefined ? { ...envelope, payload: emptyPayload(kind) } : envelope;
  } catch (error) {
    throw invalidArgument([{ field, description: clip((error as Error).message, 256) }], error);
  }
}

/** The same request without the envelope in its metadata: what is left is a message like any other. */
export function withoutEnvelope(request: SendMessageRequest): SendMessageRequest {
  const { [EXCHANGE_EXTENSION]: _, ...metadata } = request.metadata ?? {};
  return { ...request, metadata };
}

/** Whether an envelope stands beside the message's parts, which then are the message's own. */
export const isInMetadata = ({ field }: CarriedEnvelope): boolean => field === METADATA_FIELD;
