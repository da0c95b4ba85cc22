/** The arithmetic by which replicas share a limit. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sliceAfter } from "../../src/domain/allotment.ts";

const units = fc.nat(1_000);
const question = fc
  .record({ limit: units, held: units, idle: units, more: units, granted: units, wanted: fc.constantFrom(0, 0, 1, 7) })
  .map(({ limit, held, idle, more, granted, wanted }) => ({
    ask: { limit, held, keep: held + idle, need: held + more },
    others: { granted, wanted },
  }));

describe("a slice", () => {
  test("is never less than what is in use, and else no more than the others leave of the limit", () => {
    fc.assert(
      fc.property(question, ({ ask, others }) => {
        const slice = sliceAfter(ask, others);
        expect(slice).toBeGreaterThanOrEqual(ask.held);
        expect(slice).toBeLessThanOrEqual(Math.max(ask.held, ask.limit - others.granted));
        expect(Number.isInteger(slice)).toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });

  test("has all that is needed where that is left", () => {
    fc.assert(
      fc.property(question, ({ ask, others }) => {
        fc.pre(ask.need <= ask.limit - others.granted);
        expect(sliceAfter(ask, others)).toBeGreaterThanOrEqual(ask.need);
      }),
      { numRuns: 1_000 },
    );
  });

  test("has nothing idle where others want of it, and leaves half of what is left when it grows", () => {
    fc.assert(
      fc.property(question, ({ ask, others }) => {
        const slice = sliceAfter(ask, others);
        if (others.wanted > 0) expect(slice).toBeLessThanOrEqual(ask.need);
        else if (ask.need > ask.keep) {
          const left = Math.max(0, ask.limit - others.granted - ask.need);
          expect(slice).toBeLessThanOrEqual(Math.max(ask.held, ask.need + Math.ceil(left / 2)));
        } else expect(slice).toBeLessThanOrEqual(ask.keep);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("replicas that ask one after another, whatever they need, and whatever the limit becomes", () => {
  interface Replica {
    granted: number;
    held: number;
    wanted: number;
  }
  const step = fc.record({
    who: fc.nat(3),
    limit: fc.constantFrom(undefined, undefined, undefined, 0, 1, 5, 40),
    begins: fc.nat(10),
    ends: fc.nat(10),
    forced: fc.constantFrom(0, 0, 0, 0, 2),
    more: fc.nat(10),
    gives: fc.boolean(),
  });

  test("never begin more than the limit in all, and get it all in the end", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 40 }), (steps, last) => {
        const replicas: Replica[] = Array.from({ length: 4 }, () => ({ granted: 0, held: 0, wanted: 0 }));
        const sum = (field: keyof Replica) => replicas.reduce((all, replica) => all + replica[field], 0);
        let limit = 20;
        function settle(me: Replica, more: number, gives: boolean): void {
          const others = { granted: sum("granted") - me.granted, wanted: sum("wanted") - me.wanted };
          const need = me.held + more;
          const before = Math.max(sum("granted"), limit);
          const ask = { limit, held: me.held, keep: gives ? me.held : Math.max(me.held, me.granted), need };
          me.granted = sliceAfter(ask, others);
          me.wanted = Math.max(0, need - me.granted);
          // Only what its agents had anyhow comes on top.
          expect(sum("granted")).toBeLessThanOrEqual(Math.max(before, others.granted + me.held));
        }
        for (const { who, limit: next, begins, ends, forced, more, gives } of steps) {
          const me = replicas[who]!;
          limit = next ?? limit;
          me.held -= Math.min(me.held, ends);
          const isOver = sum("granted") > limit;
          if (!isOver) me.held += Math.min(begins, Math.max(0, me.granted - me.held));
          me.held += forced;
          settle(me, more, gives);
          for (const { granted, held } of replicas) expect(granted).toBeGreaterThanOrEqual(held);
        }
        limit = last;
        for (const replica of replicas) replica.held = 0;
        for (const replica of replicas) settle(replica, 0, true);
        settle(replicas[0]!, limit, false);
        expect(replicas.map(({ granted }) => granted)).toEqual([limit, 0, 0, 0]);
      }),
      { numRuns: 500 },
    );
  });
});
