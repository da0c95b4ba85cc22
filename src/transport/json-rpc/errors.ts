/** Errors over JSON-RPC: the one table from a SignalboxError to a JSON-RPC code. A2A specification, sections 5.4 and 9.5. */
import type { JsonObject } from "@bufbuild/protobuf";
import { A2A_DOMAIN, type ErrorCode, SignalboxError } from "../../domain/errors.ts";
import { detailsJson } from "../http-errors.ts";

const CODE_OF_A2A_REASON: Readonly<Record<string, number>> = {
  TASK_NOT_FOUND: -32001,
  TASK_NOT_CANCELABLE: -32002,
  PUSH_NOTIFICATION_NOT_SUPPORTED: -32003,
  UNSUPPORTED_OPERATION: -32004,
  CONTENT_TYPE_NOT_SUPPORTED: -32005,
  INVALID_AGENT_RESPONSE: -32006,
  EXTENDED_AGENT_CARD_NOT_CONFIGURED: -32007,
  EXTENSION_SUPPORT_REQUIRED: -32008,
  VERSION_NOT_SUPPORTED: -32009,
};

/** Where JSON-RPC has a code of its own, or where the call never came to be one. */
const CODE_OF_REASON: Readonly<Record<string, number>> = {
  INVALID_JSON: -32700,
  INVALID_REQUEST: -32600,
  UNSUPPORTED_MEDIA_TYPE: -32600,
  METHOD_NOT_ALLOWED: -32600,
  METHOD_NOT_FOUND: -32601,
};

const CODE_OF_CODE: Record<ErrorCode, number> = {
  UNIMPLEMENTED: -32601,
  INVALID_ARGUMENT: -32602,
  INTERNAL: -32603,
  UNAUTHENTICATED: -32050,
  PERMISSION_DENIED: -32051,
  RESOURCE_EXHAUSTED: -32052,
  UNAVAILABLE: -32053,
  DEADLINE_EXCEEDED: -32054,
  NOT_FOUND: -32055,
  ALREADY_EXISTS: -32056,
  FAILED_PRECONDITION: -32057,
  ABORTED: -32058,
  CANCELLED: -32059,
};

/** The `error` member of a response. */
export function errorObject(error: SignalboxError): JsonObject {
  const byReason = error.domain === A2A_DOMAIN ? CODE_OF_A2A_REASON[error.reason] : CODE_OF_REASON[error.reason];
  return { code: byReason ?? CODE_OF_CODE[error.code], message: error.message, data: detailsJson(error) };
}

/** The body is no JSON; `error` says why. */
export const invalidJson = (error: SignalboxError) =>
  new SignalboxError({
    code: "INVALID_ARGUMENT",
    reason: "INVALID_JSON",
    message: error.message,
    violations: [...error.violations],
    cause: error,
  });

/** The body is JSON, but no Request object. */
export const invalidRequest = (message: string) =>
  new SignalboxError({ code: "INVALID_ARGUMENT", reason: "INVALID_REQUEST", message });

export const methodNotFound = (method: string, known: readonly string[]) =>
  new SignalboxError({
    code: "UNIMPLEMENTED",
    reason: "METHOD_NOT_FOUND",
    message: `There is no method "${method}". There are ${known.join(", ")}.`,
  });
