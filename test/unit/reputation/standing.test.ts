/** The formulas of docs/reputation.md. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type AgentStandings,
  foldOutcome,
  giveTrust,
  judge,
  standingAt,
  WHOLE,
} from "../../../src/domain/reputation/agent-standings.ts";
import type { Outcome } from "../../../src/domain/reputation/outcome.ts";
import { newStanding, scoreAt, trustAt, trustedInMs } from "../../../src/domain/reputation/standing.ts";
import { DEFAULT_TRUST_RULE as RULE } from "../../../src/domain/reputation/trust-rule.ts";

const HOUR_MS = 3_600_000;
const T0 = Date.UTC(2026, 0, 1);

const outcome = (isGood: boolean, atMs = T0, capabilityId?: string): Outcome => ({
  agentId: "a",
  capabilityId,
  isGood,
  atMs,
  latencyMs: isGood ? 10 : undefined,
  isInSla: undefined,
});

/** Outcomes of one agent, at most two weeks apart, in any order. */
const outcomes = fc.array(
  fc.record({ isGood: fc.boolean(), afterMs: fc.integer({ min: 0, max: 14 * 24 * HOUR_MS }) }),
  { maxLength: 60 },
);

function folded(list: readonly Outcome[]): AgentStandings {
  const standings: AgentStandings = new Map();
  for (const one of list) foldOutcome(standings, one, RULE);
  return standings;
}

const wholeOf = (standings: AgentStandings) =>
  standings.get(WHOLE) ?? newStanding({ trust: 0.5, atMs: 0, setAtMs: undefined });

describe("trust", () => {
  test("of a new agent reaches the threshold of WRITE with the sixth task that it ends well", () => {
    const standings: AgentStandings = new Map();
    const path = Array.from({ length: 12 }, () => {
      foldOutcome(standings, outcome(true), RULE);
      return wholeOf(standings).trust;
    });
    expect(path).toEqual([0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1, 1, 1]);
  });

  test("of a new agent falls below the threshold of READ with the third failure, and never below 0", () => {
    const standings: AgentStandings = new Map();
    const path = Array.from({ length: 7 }, () => {
      foldOutcome(standings, outcome(false), RULE);
      return wholeOf(standings).trust;
    });
    expect(path).toEqual([0.4, 0.3, 0.2, 0.1, 0, 0, 0]);
  });

  test("that was lost comes back to the initial one, half of the way in each recovery time, and what was earned stays", () => {
    const low = { trust: 0.1, atMs: T0 };
    const after = (hours: number) => trustAt(low, T0 + hours * HOUR_MS, RULE);
    expect([0, 1, 2, 3].map(after)).toEqual([0.1, 0.3, 0.4, 0.45]);
    expect(after(24 * 365)).toBe(0.5);
    expect(trustAt({ trust: 0.9, atMs: T0 }, T0 + 24 * 365 * HOUR_MS, RULE)).toBe(0.9);
    expect(trustAt(low, T0 - HOUR_MS, RULE)).toBe(0.1);
    expect(trustedInMs(0.1, RULE.read, RULE)).toBe(HOUR_MS);
    expect(trustedInMs(0.1, RULE.write, RULE)).toBeUndefined();
    expect(trustedInMs(0.4, RULE.read, RULE)).toBe(0);
  });

  test("is back at a threshold after the time that is told, and not before", () => {
    const shares = fc.double({ min: 0, max: 0.49, noNaN: true });
    fc.assert(
      fc.property(shares, shares, (trust, threshold) => {
        const inMs = trustedInMs(trust, threshold, RULE)!;
        const at = (ms: number) => trustAt({ trust, atMs: T0 }, T0 + ms, RULE);
        expect(at(inMs)).toBeGreaterThanOrEqual(threshold - 1e-9);
        if (inMs > 1) expect(at(inMs - 2)).toBeLessThanOrEqual(threshold + 1e-9);
      }),
    );
  });

  test("counts on top of what it was set to: what happened before that does not change it any more", () => {
    const standings = folded([outcome(false), outcome(false)]);
    giveTrust(standings, undefined, 0.9, T0 + HOUR_MS, RULE);
    foldOutcome(standings, outcome(false, T0 + 1), RULE);
    expect(wholeOf(standings).trust).toBe(0.9);
    expect(wholeOf(standings).failed).toBe(3);
    foldOutcome(standings, outcome(false, T0 + 2 * HOUR_MS), RULE);
    expect(wholeOf(standings).trust).toBe(0.8);
  });
});

describe("the score", () => {
  test("of a new agent is the initial trust, and one outcome does not say all", () => {
    expect(standingAt(undefined, undefined, T0, RULE)).toEqual({ trust: 0.5, score: 0.5 });
    expect(standingAt(folded([outcome(true)]), undefined, T0, RULE).score).toBeCloseTo(2 / 3);
    expect(standingAt(folded([outcome(false)]), undefined, T0, RULE).score).toBeCloseTo(1 / 3);
  });

  test("forgets half of an outcome in each half-life", () => {
    const standings = folded([outcome(false), ...Array.from({ length: 4 }, () => outcome(true, T0 + RULE.halfLifeMs))]);
    expect(standingAt(standings, undefined, T0 + RULE.halfLifeMs, RULE).score).toBeCloseTo((4 + 1) / (4.5 + 2));
    expect(standingAt(standings, undefined, T0 + 100 * RULE.halfLifeMs, RULE).score).toBeCloseTo(0.5);
  });

  test("is what the definition says, whatever the order in which outcomes come", () => {
    fc.assert(
      fc.property(outcomes, fc.integer({ min: 0, max: 28 * 24 * HOUR_MS }), (list, laterMs) => {
        const all = list.map(({ isGood, afterMs }) => outcome(isGood, T0 + afterMs));
        const nowMs = Math.max(T0 + laterMs, ...all.map(({ atMs }) => atMs));
        const weightOf = ({ atMs }: Outcome) => 0.5 ** ((nowMs - atMs) / RULE.halfLifeMs);
        const sum = (these: readonly Outcome[]) => these.reduce((total, one) => total + weightOf(one), 0);
        const expected = (sum(all.filter(({ isGood }) => isGood)) + 1) / (sum(all) + 2);
        expect(scoreAt(wholeOf(folded(all)), nowMs, RULE, RULE.initial)).toBeCloseTo(expected, 9);
      }),
    );
  });
});

test("reading at a later time changes nothing, and whatever is read is from 0 to 1", () => {
  fc.assert(
    fc.property(outcomes, fc.integer({ min: -HOUR_MS, max: 60 * 24 * HOUR_MS }), (list, laterMs) => {
      const standings = folded(list.map(({ isGood, afterMs }) => outcome(isGood, T0 + afterMs, "c")));
      const before = structuredClone([...standings]);
      for (const capabilityId of [undefined, "c", "unknown"]) {
        const { trust, score } = standingAt(standings, capabilityId, T0 + laterMs, RULE);
        for (const share of [trust, score]) expect(share >= 0 && share <= 1).toBe(true);
      }
      expect([...standings]).toEqual(before);
      expect(wholeOf(standings).succeeded + wholeOf(standings).failed).toBe(list.length);
    }),
  );
});

test("folding on from a standing that was stored is folding at once", () => {
  fc.assert(
    fc.property(outcomes, fc.nat(), (list, cut) => {
      const all = list.map(({ isGood, afterMs }) => outcome(isGood, T0 + afterMs, "c"));
      const at = all.length === 0 ? 0 : cut % all.length;
      const stored = structuredClone(folded(all.slice(0, at)));
      for (const one of all.slice(at)) foldOutcome(stored, one, RULE);
      expect(stored).toEqual(folded(all));
    }),
  );
});

describe("a capability", () => {
  test("begins as the agent stands as a whole, before the outcome that it begins with", () => {
    const standings = folded([outcome(true), outcome(true), outcome(true)]);
    expect(standingAt(standings, "c", T0, RULE)).toEqual(standingAt(standings, undefined, T0, RULE));
    expect(foldOutcome(standings, outcome(false, T0, "c"), RULE)).toEqual(["c", WHOLE]);
    expect(standings.get("c")).toMatchObject({ trust: 0.55, succeeded: 0, failed: 1 });
    expect(wholeOf(standings)).toMatchObject({ trust: 0.55, succeeded: 3, failed: 1 });
    foldOutcome(standings, outcome(true, T0, "other"), RULE);
    expect(standings.get("c")).toMatchObject({ trust: 0.55, succeeded: 0, failed: 1 });
  });

  test("of an agent that is trusted little does not begin rehabilitated", () => {
    const standings = folded([outcome(false), outcome(false), outcome(false)]);
    foldOutcome(standings, outcome(false, T0, "c"), RULE);
    expect(standings.get("c")!.trust).toBe(0.1);
  });

  test("is trusted with what was set for it, or for all", () => {
    const standings = folded([outcome(true, T0, "c"), outcome(true, T0, "d")]);
    expect(giveTrust(standings, "c", 0.2, T0, RULE)).toEqual([WHOLE, "c"]);
    expect([...standings].map(([id, { trust }]) => `${id} ${trust}`).sort()).toEqual([" 0.6", "c 0.2", "d 0.6"]);
    expect(giveTrust(standings, undefined, 1, T0, RULE).sort()).toEqual([WHOLE, "c", "d"]);
    for (const { trust } of standings.values()) expect(trust).toBe(1);
  });
});

test("what a judge says counts by its weight, and is no task", () => {
  const standings: AgentStandings = new Map();
  judge(standings, "c", { quality: 1, weight: 4, atMs: T0 }, RULE);
  expect(wholeOf(standings)).toMatchObject({ trust: 0.7, weight: 4, goodWeight: 4, succeeded: 0, failed: 0 });
  judge(standings, undefined, { quality: 0, weight: 1, atMs: T0 }, RULE);
  expect(wholeOf(standings).trust).toBe(0.6);
  expect(standings.get("c")!.trust).toBe(0.7);
  judge(standings, undefined, { quality: 0.5, weight: 2, atMs: T0 }, RULE);
  expect(wholeOf(standings).trust).toBeCloseTo(0.6 + 0.05 - 0.1);
});
