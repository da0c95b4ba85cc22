/** What an error of the database means for a caller. */
import { databaseOutcomeUnknown, databaseUnavailable, SignalboxError } from "../domain/errors.ts";
import { UnfitValueError } from "./pg-arrays.ts";

/**
 * An error that means "the database is away" becomes SignalboxError DATABASE_UNAVAILABLE; any other is returned as it is.
 * The error is one of a statement that was sent: where the connection was lost before the answer came, nobody knows
 * whether the statement took effect, and `isOutcomeUnknown` tells so.
 */
export function mapDatabaseError(error: unknown): unknown {
  if (error instanceof SignalboxError) return error;
  const state = sqlState(error);
  if (state === undefined) return isConnectionError(error) ? databaseOutcomeUnknown(error) : error;
  if (ENDED_SESSION.test(state)) return databaseOutcomeUnknown(error);
  if (UNABLE_TO_SERVE.test(state) || isStaleStatement(error)) return databaseUnavailable(error);
  return error;
}

/** Whether the database could not be reached or could not serve: a later try can help, on another connection. */
export function isUnavailable(error: unknown): error is SignalboxError {
  return error instanceof SignalboxError && error.reason === "DATABASE_UNAVAILABLE";
}

/** Whether a write that failed with this error may have been stored nevertheless. */
export function isOutcomeUnknown(error: unknown): boolean {
  return isUnavailable(error) && error.metadata.outcome === "unknown";
}

/** Whether the transaction lost against another (serialization failure, deadlock) and may simply be run again. */
export function isRetryable(error: unknown): boolean {
  const state = sqlState(error);
  return state === "40001" || state === "40P01";
}

/**
 * Whether a value of the statement is to blame: a text with a zero byte, a number out of range (which is found here before
 * it is sent, in arrays), a row too large, a broken constraint. In a batch, the others are innocent.
 */
export function isDataError(error: unknown): boolean {
  return error instanceof UnfitValueError || /^(22|23|54)/.test(sqlState(error) ?? "");
}

/** Whether a task was to be stored with what a replica reserved that is dead by now. */
export const isClosedSlice = (error: unknown): boolean =>
  sqlState(error) === "23514" && field(error, "constraint") === "budget_reservations_closed";

/** The five characters of an error that the server reported; see appendix A of PostgreSQL's manual. */
export function sqlState(error: unknown): string | undefined {
  const code = field(error, "code");
  // Node's own codes are longer and are words, except EPIPE, and only the server tells a severity.
  return typeof code === "string" && code.length === 5 && field(error, "severity") !== undefined ? code : undefined;
}

// The server ends the session: class 08 (connection), 57P01 and 57P02 (shutdown), 57P05 (idle), 25P03 (idle transaction).
const ENDED_SESSION = /^(08|57P01|57P02|57P05|25P03)/;

// The server lives but does not serve, and the statement had no effect: class 53 (out of connections, memory or disk),
// 57P03 (starting up), 57014 (statement_timeout), 25006 (this is a standby now).
const UNABLE_TO_SERVE = /^(53|57P03|57014|25006)/;

/** A prepared statement that a migration made invalid, or that a proxy lost. A new connection prepares it anew. */
function isStaleStatement(error: unknown): boolean {
  const state = sqlState(error);
  return state === "26000" || (state === "0A000" && /cached plan/.test(String(field(error, "message"))));
}

/** Errors of the socket have a `syscall`; those that node-postgres makes itself have only their words. */
function isConnectionError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (
    field(error, "syscall") !== undefined ||
    /^(ECONN|EPIPE|ETIMEDOUT|ERR_SSL|ERR_TLS|ERR_STREAM)/.test(String(field(error, "code"))) ||
    /^(Connection terminated|Client has encountered a connection error|Client was closed|Query read timeout)/.test(
      error.message,
    )
  );
}

function field(error: unknown, name: string): unknown {
  return typeof error === "object" && error !== null ? (error as Record<string, unknown>)[name] : undefined;
}

/** This replica was silent for so long that the others took its tasks over. It registers anew within moments. */
export const replicaExpired = (): SignalboxError =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "REPLICA_EXPIRED",
    message:
      "This server was out of touch with its database for too long and is joining again. Nothing was stored; try again.",
    retryAfterMs: 1000,
  });
