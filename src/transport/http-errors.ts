/**
 * Errors over HTTP: the one table from a SignalboxError to a status code, the AIP-193 body, and the errors that only HTTP
 * knows. A2A specification, sections 5.4 and 11.6.
 */
import { type JsonValue, toJson } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { detailRegistry, packedErrorDetails } from "../domain/error-details.ts";
import { clip, type ErrorCode, internal, SignalboxError } from "../domain/errors.ts";

/** google.rpc.Code to HTTP, as google/rpc/code.proto says. */
const STATUS_OF_CODE: Record<ErrorCode, number> = {
  INVALID_ARGUMENT: 400,
  FAILED_PRECONDITION: 400,
  UNAUTHENTICATED: 401,
  PERMISSION_DENIED: 403,
  NOT_FOUND: 404,
  ABORTED: 409,
  ALREADY_EXISTS: 409,
  RESOURCE_EXHAUSTED: 429,
  CANCELLED: 499,
  INTERNAL: 500,
  UNIMPLEMENTED: 501,
  UNAVAILABLE: 503,
  DEADLINE_EXCEEDED: 504,
};

/** Where HTTP has a status of its own. */
const STATUS_OF_REASON: Readonly<Record<string, number>> = {
  METHOD_NOT_ALLOWED: 405,
  BODY_TIMEOUT: 408,
  MESSAGE_TOO_LARGE: 413,
  UNSUPPORTED_MEDIA_TYPE: 415,
  HOST_NOT_ALLOWED: 421,
};

/** The HTTP status code of an error. */
export function httpStatus(error: SignalboxError): number {
  return STATUS_OF_REASON[error.reason] ?? STATUS_OF_CODE[error.code];
}

/** The AIP-193 body: `{"error": {"code", "status", "message", "details"}}`. */
export function errorBody(error: SignalboxError): JsonValue {
  return {
    error: { code: httpStatus(error), status: error.code, message: error.message, details: detailsJson(error) },
  };
}

/** The details of an error in ProtoJSON, each with its `@type`. */
export function detailsJson(error: SignalboxError): JsonValue[] {
  return packedErrorDetails(error).map((any) => toJson(AnySchema, any, { registry: detailRegistry }));
}

/**
 * The headers that go with an error: Retry-After, in whole seconds, where a later try can help, and WWW-Authenticate where somebody
 * must say who calls (RFC 9110, section 11.6.1).
 */
export function errorHeaders(error: SignalboxError): [string, string][] {
  const headers: [string, string][] = [];
  if (error.retryAfterMs !== undefined) {
    headers.push(["retry-after", String(Math.max(1, Math.ceil(error.retryAfterMs / 1000)))]);
  }
  if (error.code === "UNAUTHENTICATED") headers.push(["www-authenticate", challenge(error)]);
  return headers;
}

/** How to say who calls. That a credential was there and is not good is `invalid_token` (RFC 6750, section 3.1). */
const challenge = ({ reason }: SignalboxError): string =>
  reason === "CREDENTIAL_INVALID" ? 'Bearer realm="signalbox", error="invalid_token"' : 'Bearer realm="signalbox"';

/** Makes whatever was thrown an error for clients. What is no SignalboxError is reported and masked. */
export function clientError(thrown: unknown, onError: (error: unknown) => void): SignalboxError {
  if (thrown instanceof SignalboxError) return thrown;
  onError(thrown);
  return internal(thrown);
}

export const routeNotFound = (method: string, path: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "ROUTE_NOT_FOUND",
    message: `There is nothing at ${clip(method)} ${clip(path)}.`,
  });

export const verbNotFound = (method: string, verb: string, known: readonly string[]) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "ROUTE_NOT_FOUND",
    message: `There is no verb ":${clip(verb)}" here. ${clip(method)} knows ${known.map((each) => `:${each}`).join(", ")}.`,
  });

export const methodNotAllowed = (method: string, allowed: readonly string[]) =>
  new SignalboxError({
    code: "UNIMPLEMENTED",
    reason: "METHOD_NOT_ALLOWED",
    message: `${clip(method)} is not possible here. Use ${allowed.join(" or ")}.`,
    metadata: { allow: allowed.join(", ") },
  });

export const bodyTimeout = (timeoutMs: number) =>
  new SignalboxError({
    code: "DEADLINE_EXCEEDED",
    reason: "BODY_TIMEOUT",
    message: `The body did not arrive within ${timeoutMs} ms.`,
  });

export const messageTooLarge = (maxBytes: number) =>
  new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "MESSAGE_TOO_LARGE",
    message: `The body is larger than ${maxBytes} bytes. The operator sets this limit as limits.message-bytes.`,
    metadata: { maxBytes: String(maxBytes) },
  });

export const unsupportedMediaType = (message: string) =>
  new SignalboxError({ code: "INVALID_ARGUMENT", reason: "UNSUPPORTED_MEDIA_TYPE", message });

/** The client went away before it had sent its request. Nobody reads this one. */
export const clientLeft = () =>
  new SignalboxError({ code: "CANCELLED", reason: "CLIENT_LEFT", message: "The client closed the connection." });
