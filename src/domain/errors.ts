/**
 * The one error type of Signalbox. Everything that a caller may be told is a `SignalboxError`; whatever else is thrown
 * reaches clients as a masked INTERNAL. Each transport has one table that encodes it; nothing else builds an error
 * response.
 */

/** The canonical codes of google.rpc.Code that Signalbox uses, by name. */
export type ErrorCode =
  | "INVALID_ARGUMENT"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "FAILED_PRECONDITION"
  | "ABORTED"
  | "UNAUTHENTICATED"
  | "PERMISSION_DENIED"
  | "RESOURCE_EXHAUSTED"
  | "UNAVAILABLE"
  | "DEADLINE_EXCEEDED"
  | "CANCELLED"
  | "UNIMPLEMENTED"
  | "INTERNAL";

/** Domain of the errors that the A2A specification defines (section 5.4). */
export const A2A_DOMAIN = "a2a-protocol.org";
/** Domain of the errors that A2A does not define. */
export const SIGNALBOX_DOMAIN = "signalbox";

/** One field of a request that is wrong, and what would be right. */
export interface FieldViolation {
  /** Path of the field in the request, as `message.parts[0].text`. */
  field: string;
  /** What is wrong and how to mend it. */
  description: string;
}

export interface SignalboxErrorInit {
  code: ErrorCode;
  /** UPPER_SNAKE_CASE, stable: clients decide by it. */
  reason: string;
  /** A sentence for a person: what went wrong and what to do. Safe to show to any caller. */
  message: string;
  domain?: string;
  /** Further facts for programs, such as `taskId`. Safe to show. */
  metadata?: Record<string, string>;
  violations?: FieldViolation[];
  /** Set where a later try can help: how long to wait, in milliseconds. */
  retryAfterMs?: number;
  /** For the log only, never for a client. */
  cause?: unknown;
}

/**
 * Its texts are well-formed Unicode whatever went into them: half a surrogate pair, which JSON can carry, cannot be put
 * into the headers that carry errors.
 */
export class SignalboxError extends Error {
  readonly code: ErrorCode;
  readonly reason: string;
  readonly domain: string;
  readonly metadata: Record<string, string>;
  readonly violations: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;

  constructor(init: SignalboxErrorInit) {
    super(init.message.toWellFormed(), init.cause === undefined ? undefined : { cause: init.cause });
    this.name = "SignalboxError";
    this.code = init.code;
    this.reason = init.reason;
    this.domain = init.domain ?? SIGNALBOX_DOMAIN;
    this.metadata = Object.fromEntries(
      Object.entries(init.metadata ?? {}).map(([key, value]) => [key.toWellFormed(), value.toWellFormed()]),
    );
    this.violations = (init.violations ?? []).map(({ field, description }) => ({
      field: field.toWellFormed(),
      description: description.toWellFormed(),
    }));
    this.retryAfterMs = init.retryAfterMs;
  }
}

function a2a(code: ErrorCode, reason: string, message: string, metadata: Record<string, string> = {}, cause?: unknown) {
  return new SignalboxError({ code, reason, message, domain: A2A_DOMAIN, metadata, cause });
}

// Errors of the A2A specification, section 5.4. This server pushes, and declares an extended card only when it has one, so
// two of the nine cannot happen here.

export const taskNotFound = (taskId: string) =>
  a2a("NOT_FOUND", "TASK_NOT_FOUND", `There is no task "${clip(taskId)}" that you may see.`, { taskId: clip(taskId) });

export const taskNotCancelable = (taskId: string, why: string) =>
  a2a("FAILED_PRECONDITION", "TASK_NOT_CANCELABLE", `Task "${taskId}" cannot be canceled: ${why}`, { taskId });

export const unsupportedOperation = (message: string, metadata: Record<string, string> = {}) =>
  a2a("FAILED_PRECONDITION", "UNSUPPORTED_OPERATION", message, metadata);

export const contentTypeNotSupported = (message: string, metadata: Record<string, string> = {}) =>
  a2a("INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED", message, metadata);

export const invalidAgentResponse = (message: string, metadata: Record<string, string> = {}, cause?: unknown) =>
  a2a("INTERNAL", "INVALID_AGENT_RESPONSE", message, metadata, cause);

export const extensionSupportRequired = (uris: readonly string[]) =>
  a2a(
    "FAILED_PRECONDITION",
    "EXTENSION_SUPPORT_REQUIRED",
    `The agent requires extensions that the request does not name. Send A2A-Extensions: ${uris.join(", ")}`,
    { extensions: uris.join(",") },
  );

export const versionNotSupported = (version: string) =>
  a2a(
    "FAILED_PRECONDITION",
    "VERSION_NOT_SUPPORTED",
    `A2A-Version "${clip(version)}" is not supported. Send A2A-Version: 1.0, or leave it out.`,
    { version: clip(version), supportedVersions: "1.0" },
  );

// What A2A does not define.

export function invalidArgument(violations: FieldViolation[], cause?: unknown): SignalboxError {
  const message = violations.map((v) => (v.field ? `${v.field}: ${v.description}` : v.description)).join("; ");
  return new SignalboxError({ code: "INVALID_ARGUMENT", reason: "INVALID_ARGUMENT", message, violations, cause });
}

export const scopeMissing = (scope: string) =>
  new SignalboxError({
    code: "PERMISSION_DENIED",
    reason: "SCOPE_MISSING",
    message: `This call needs the scope "${scope}", which you do not hold. An admin of your workspace can give you a role that has it: docs/identity.md lists them.`,
    metadata: { scope },
  });

export function databaseUnavailable(cause?: unknown): SignalboxError {
  return new SignalboxError({
    code: "UNAVAILABLE",
    reason: "DATABASE_UNAVAILABLE",
    message: "The database does not answer. Nothing was stored; try again.",
    retryAfterMs: 1000,
    cause,
  });
}

/** The connection was lost after a statement was sent and before its answer came. */
export function databaseOutcomeUnknown(cause?: unknown): SignalboxError {
  return new SignalboxError({
    code: "UNAVAILABLE",
    reason: "DATABASE_UNAVAILABLE",
    message:
      "The connection to the database was lost. Whether anything was stored is not known; read before you try again.",
    metadata: { outcome: "unknown" },
    retryAfterMs: 1000,
    cause,
  });
}

/** A bounded queue is full. `queue` names it. */
export function queueFull(queue: string): SignalboxError {
  return new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "QUEUE_FULL",
    message: `The server is busy: its queue "${queue}" is full. Nothing was done; try again.`,
    metadata: { queue },
    retryAfterMs: 500,
  });
}

export function internal(cause: unknown): SignalboxError {
  return new SignalboxError({
    code: "INTERNAL",
    reason: "INTERNAL",
    message: "An internal error occurred. The request id leads to it in the server's log.",
    cause,
  });
}

/** The same error with further facts for programs. */
export function withMetadata(error: SignalboxError, metadata: Record<string, string>): SignalboxError {
  const { code, reason, domain, message, violations, retryAfterMs, cause } = error;
  return new SignalboxError({
    code,
    reason,
    domain,
    message,
    violations: [...violations],
    metadata: { ...error.metadata, ...metadata },
    ...(retryAfterMs !== undefined && { retryAfterMs }),
    cause,
  });
}

/** Caps what a client sent before it is echoed back to it, to `max` UTF-16 units; no character is cut in two. */
export function clip(text: string, max = 128): string {
  return text.length <= max ? text : `${text.slice(0, max).replace(/[\ud800-\udbff]$/, "")}…`;
}
