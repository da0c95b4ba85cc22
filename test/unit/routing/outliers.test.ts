/** Who is ejected for failing more tasks than the others, and for how long. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type EjectionRules,
  ejected,
  isPast,
  outliers,
  type TrackRecord,
} from "../../../src/domain/routing/outliers.ts";

const rules: EjectionRules = { maxEjectedPercent: 50, ejectionMs: 1_000, ejectionMaxMs: 4_000 };
const nobody = () => false;
const of = (...records: readonly (readonly [tasks: number, failed: number])[]): TrackRecord[] =>
  records.map(([tasks, failed], i) => ({ agentId: `agent-${i}`, tasks, failed }));

describe("an outlier", () => {
  test("is who fails what the others do well", () => {
    expect(outliers(of([10, 10], [10, 0]), nobody, rules)).toEqual(["agent-0"]);
    expect(outliers(of([10, 0], [10, 1], [10, 9]), nobody, rules)).toEqual(["agent-2"]);
    // One bad peer does not hide another; the worse of them comes first.
    expect(outliers(of([20, 18], [20, 20], [20, 0], [20, 0], [20, 0]), nobody, rules)).toEqual(["agent-1", "agent-0"]);
  });

  test("is proven by more than a few tasks", () => {
    expect(outliers(of([4, 4], [100, 0]), nobody, rules)).toEqual([]);
    expect(outliers(of([5, 5], [100, 0]), nobody, rules)).toEqual(["agent-0"]);
    expect(outliers(of([10, 4], [100, 0]), nobody, rules)).toEqual([]);
  });

  test("is nobody where most fail, or where there is no other", () => {
    expect(outliers(of([50, 50], [50, 50], [50, 50], [50, 0]), nobody, rules)).toEqual([]);
    expect(outliers(of([50, 50]), nobody, rules)).toEqual([]);
    expect(outliers(of([50, 50], [50, 0]), nobody, { maxEjectedPercent: 0 })).toEqual([]);
  });

  test("is never more than the share, and never the last, whoever is ejected already", () => {
    const anyRecords = fc.array(
      fc.nat({ max: 50 }).chain((tasks) => fc.tuple(fc.constant(tasks), fc.nat({ max: tasks }))),
      { minLength: 1, maxLength: 30 },
    );
    fc.assert(
      fc.property(anyRecords, fc.nat({ max: 100 }), fc.infiniteStream(fc.boolean()), (records, percent, before) => {
        const agents = of(...records);
        const most = Math.min(agents.length - 1, Math.floor((agents.length * percent) / 100));
        const already = new Set<string>();
        for (const { agentId } of agents) if (already.size < most && before.next().value) already.add(agentId);
        const found = outliers(agents, (id) => already.has(id), { maxEjectedPercent: percent });
        expect(new Set([...already, ...found]).size).toBe(already.size + found.length);
        expect(already.size + found.length).toBeLessThanOrEqual(most);
        for (const id of found) {
          const { tasks, failed } = agents.find(({ agentId }) => agentId === id)!;
          expect(failed / tasks).toBeGreaterThan(0.2);
        }
      }),
    );
  });
});

describe("an ejection", () => {
  test("is longer each time, up to a bound, and forgotten slowly", () => {
    const first = ejected(undefined, rules, 0);
    expect(first).toEqual({ untilMs: 1_000, times: 1 });
    const second = ejected(first, rules, 1_500);
    expect(second).toEqual({ untilMs: 3_500, times: 2 });
    let last = second;
    for (let i = 0; i < 10; i++) last = ejected(last, rules, last.untilMs);
    expect(ejected(last, rules, last.untilMs).untilMs - last.untilMs).toBe(4_000);
    expect(isPast(second, rules, 3_500)).toBe(false);
    expect(isPast(second, rules, 3_500 + 2 * 2_000)).toBe(true);
    expect(ejected(second, rules, 3_500 + 2_000)).toEqual({ untilMs: 5_500 + 2_000, times: 2 });
  });
});
