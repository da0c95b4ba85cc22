/** What an agent answered, read and checked against the contract; or the error that says what is wrong with it. */
import {
  type DescMessage,
  fromBinary,
  fromJson,
  type JsonValue,
  type Message,
  type MessageShape,
  toJsonString,
} from "@bufbuild/protobuf";
import { clip } from "../domain/errors.ts";
import { MAX_BINARY_DEPTH, MAX_JSON_MESSAGE_DEPTH } from "../domain/nesting.ts";
import { missingFields } from "../domain/required-fields.ts";
import { AgentCallError } from "../services/agent-port.ts";

/** Decodes an answer in ProtoJSON. Unknown fields are ignored (section 5.7); throws AgentCallError "invalid". */
export function decodeJson<Desc extends DescMessage>(
  rpc: string,
  schema: Desc,
  json: JsonValue,
  raw: string,
): MessageShape<Desc> {
  let message: MessageShape<Desc>;
  try {
    message = fromJson(schema, json, { ignoreUnknownFields: true, recursionLimit: MAX_JSON_MESSAGE_DEPTH });
  } catch (cause) {
    throw invalidAnswer(rpc, `is no ${schema.name} of A2A 1.0`, raw, cause);
  }
  return checked(rpc, schema, message, () => raw);
}

/** Decodes an answer in protobuf. Throws AgentCallError "invalid", with the raw bytes in base64 where they do not parse. */
export function decodeBinary<Desc extends DescMessage>(
  rpc: string,
  schema: Desc,
  bytes: Uint8Array,
): MessageShape<Desc> {
  let message: MessageShape<Desc>;
  try {
    message = fromBinary(schema, bytes, { recursionLimit: MAX_BINARY_DEPTH });
  } catch (cause) {
    const raw = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, 6144)).toString("base64");
    throw invalidAnswer(rpc, `is no ${schema.name} of A2A 1.0`, raw, cause);
  }
  return checked(rpc, schema, message, () => printed(schema, message));
}

/** The message, if it holds all that the contract requires. Throws AgentCallError "invalid" otherwise. */
export function checked<Desc extends DescMessage>(
  rpc: string,
  schema: Desc,
  message: MessageShape<Desc>,
  raw: () => string = () => printed(schema, message),
): MessageShape<Desc> {
  const missing = missingFields(schema, message);
  if (missing.length === 0) return message;
  const faults = missing.slice(0, 3).map(({ field, description }) => `${field || "it"} ${description}`);
  throw invalidAnswer(rpc, `breaks the A2A contract: ${faults.join("; ")}`, raw());
}

function printed<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): string {
  try {
    return toJsonString(schema, message as MessageShape<Desc> & Message);
  } catch {
    // What the agent sent parses, but cannot be written as JSON, such as NaN in a number.
    return "";
  }
}

/** The agent's answer is no A2A. `what` goes on from "The agent's answer to SendMessage". */
export function invalidAnswer(rpc: string, what: string, raw: string, cause?: unknown): AgentCallError {
  return new AgentCallError("invalid", `The agent's answer to ${rpc} ${what}.`, { raw, cause });
}

/** The agent answered with an error of its own. `reason` as in AgentCallErrorInit; `text` is the agent's message. */
export function refusedCall(rpc: string, reason: string, text: string, raw?: string): AgentCallError {
  const said = text === "" ? reason : clip(text, 500);
  return new AgentCallError("refused", `The agent refused ${rpc}: ${said}`, {
    reason,
    ...(raw !== undefined && { raw }),
  });
}

/** No connection came about; `cause` says why, for the log. */
export function unreachableAgent(cause: unknown): AgentCallError {
  return new AgentCallError("unreachable", `The agent could not be reached: ${unreachableBecause(cause)}.`, { cause });
}

/** The connection broke after the request may have reached the agent. */
export function brokenConnection(rpc: string, cause: unknown): AgentCallError {
  return new AgentCallError("broken", `The connection to the agent broke during ${rpc}.`, { cause });
}

const CONNECT_FAILURES: Record<string, string> = {
  ADDRESS_REFUSED: "its address is private or local, which is not allowed here",
  CREDENTIAL_NEEDS_TLS: "credentials are not sent without TLS to an address that is not private",
  ECONNREFUSED: "nothing listens at its address",
  ECONNRESET: "it closed the connection at once",
  EHOSTUNREACH: "there is no way to its address",
  ENETUNREACH: "there is no way to its address",
  EAI_AGAIN: "its name could not be resolved",
  ENOTFOUND: "its name is not known",
  ETIMEDOUT: "it did not accept the connection in time",
  UND_ERR_CONNECT_TIMEOUT: "it did not accept the connection in time",
};

/** In words that name no address: clients may see them. */
function unreachableBecause(cause: unknown): string {
  const code = (cause as { code?: unknown } | undefined)?.code;
  if (typeof code !== "string") return "no connection came about";
  return CONNECT_FAILURES[code] ?? `the connection failed (${code})`;
}

const ERROR_INFO_TYPE = "type.googleapis.com/google.rpc.ErrorInfo";

/** The reason of the first ErrorInfo among error details in JSON (sections 9.5 and 11.6). */
export function reasonOf(details: unknown): string | undefined {
  if (!Array.isArray(details)) return undefined;
  const info = details.find((detail) => isObject(detail) && detail["@type"] === ERROR_INFO_TYPE);
  return typeof info?.reason === "string" && info.reason !== "" ? info.reason : undefined;
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
