import pg from "pg";
import { describe, expect, test } from "vitest";
import { databaseUnavailable } from "../../src/domain/errors.ts";
import {
  isDataError,
  isOutcomeUnknown,
  isRetryable,
  isUnavailable,
  mapDatabaseError,
} from "../../src/store/database-errors.ts";

/** As node-postgres makes it from the server's report. */
function reported(code: string, message = "it failed"): pg.DatabaseError {
  return Object.assign(new pg.DatabaseError(message, message.length, "error"), { code, severity: "ERROR" });
}

const socketError = (code: string) => Object.assign(new Error(code), { code, syscall: "read" });

describe("the database is away, and whether the statement took effect is not known", () => {
  test.each([
    socketError("ECONNRESET"),
    socketError("EPIPE"),
    socketError("ETIMEDOUT"),
    new Error("Connection terminated unexpectedly"),
    new Error("Connection terminated: PGlite has died"),
    new Error("Query read timeout"),
    reported("57P01"),
    reported("57P02"),
    reported("08006"),
  ])("%s", (error) => {
    const mapped = mapDatabaseError(error);
    expect(isUnavailable(mapped)).toBe(true);
    expect(isOutcomeUnknown(mapped)).toBe(true);
    expect((mapped as Error).cause).toBe(error);
  });
});

describe("the database cannot serve, and nothing was done", () => {
  test.each(["57P03", "53300", "53100", "57014", "25006", "26000"])("%s", (code) => {
    const mapped = mapDatabaseError(reported(code));
    expect(isUnavailable(mapped)).toBe(true);
    expect(isOutcomeUnknown(mapped)).toBe(false);
  });

  test("a plan that a migration made stale", () => {
    expect(isUnavailable(mapDatabaseError(reported("0A000", "cached plan must not change result type")))).toBe(true);
  });
});

describe("anything else stays as it is", () => {
  test.each([
    reported("23505"),
    reported("40001"),
    reported("42P01"),
    reported("0A000"),
    new RangeError("int8 is beyond the safe integers"),
    databaseUnavailable(),
    "a string",
    undefined,
  ])("%s", (error) => {
    expect(mapDatabaseError(error)).toBe(error);
  });
});

test.each([
  ["40001", true, false],
  ["40P01", true, false],
  ["23505", false, true],
  ["22021", false, true],
  ["54000", false, true],
  ["42601", false, false],
])("%s: retryable %s, fault of a value %s", (code, retryable, ofData) => {
  expect(isRetryable(reported(code))).toBe(retryable);
  expect(isDataError(reported(code))).toBe(ofData);
});

test("a socket's EPIPE has the length of an SQLSTATE and is none", () => {
  expect(isDataError(socketError("22021"))).toBe(false);
});
