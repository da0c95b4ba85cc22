import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { clip, invalidArgument, SignalboxError, taskNotCancelable } from "../../src/domain/errors.ts";
import { AgentCallError } from "../../src/services/agent-port.ts";

const HALF = "no \ud83d way";

describe("texts of errors are well-formed Unicode", () => {
  test("of a SignalboxError: message, metadata and violations", () => {
    const error = new SignalboxError({
      code: "NOT_FOUND",
      reason: "NO",
      message: HALF,
      metadata: { what: HALF },
      violations: [{ field: HALF, description: HALF }],
    });
    const whole = "no \ufffd way";
    expect(error.message).toBe(whole);
    expect(error.metadata).toEqual({ what: whole });
    expect(error.violations).toEqual([{ field: whole, description: whole }]);
    expect(invalidArgument([{ field: "a", description: HALF }]).message.isWellFormed()).toBe(true);
  });

  test("of an AgentCallError, and of the error that repeats it after its message was changed", () => {
    const error = new AgentCallError("refused", HALF, { reason: HALF, raw: HALF });
    expect([error.message, error.reason, error.raw].map((text) => text?.isWellFormed())).toEqual([true, true, true]);
    error.message = HALF;
    expect(taskNotCancelable("t", error.message).message.isWellFormed()).toBe(true);
  });
});

test("clip cuts no character in two", () => {
  const text = fc.string({ unit: "binary", maxLength: 20 });
  fc.assert(
    fc.property(text, fc.integer({ min: 1, max: 10 }), (given, max) => {
      const clipped = clip(given, max);
      expect(clipped.isWellFormed()).toBe(true);
      expect(clipped.length).toBeLessThanOrEqual(max + 1);
      expect(given.length > max || clipped === given).toBe(true);
    }),
  );
});
