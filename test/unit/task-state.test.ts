import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  EngineState,
  engineState,
  engineStateName,
  INITIAL_STATES,
  isClaimable,
  isInterrupted,
  isLeased,
  isTerminal,
  mayFollow,
  mayGo,
  stateAfterReport,
  stateName,
  TRANSITIONS,
} from "../../src/domain/task-state.ts";

const states = Object.values(TaskState).filter((s) => s !== TaskState.UNSPECIFIED);
const anyState = fc.constantFrom(...states);

describe("the state machine", () => {
  it("lets nothing follow a terminal state", () => {
    fc.assert(fc.property(anyState, anyState, (from, to) => !isTerminal(from) || !mayFollow(from, to)));
  });

  it("never goes back to SUBMITTED, whatever agents report in whatever order", () => {
    fc.assert(
      fc.property(fc.array(anyState, { maxLength: 20 }), (reports) => {
        let state: TaskState = TaskState.SUBMITTED;
        let begun = false;
        for (const report of reports) {
          const next = stateAfterReport(state, report);
          if (next === undefined) expect(isTerminal(state)).toBe(true);
          else state = next;
          begun ||= state !== TaskState.SUBMITTED;
          if (begun) expect(state).not.toBe(TaskState.SUBMITTED);
        }
      }),
    );
  });

  it("reaches every state from SUBMITTED in one step", () => {
    for (const state of states) expect(mayFollow(TaskState.SUBMITTED, state), stateName(state)).toBe(true);
  });

  it("tells resting states apart", () => {
    expect(states.filter(isInterrupted)).toEqual([TaskState.INPUT_REQUIRED, TaskState.AUTH_REQUIRED]);
    expect(states.some((s) => isInterrupted(s) && isTerminal(s))).toBe(false);
  });

  it("refuses a state that it does not know", () => {
    expect(stateAfterReport(TaskState.WORKING, 99 as TaskState)).toBeUndefined();
    expect(stateAfterReport(TaskState.WORKING, TaskState.UNSPECIFIED)).toBeUndefined();
  });
});

describe("the engine's table", () => {
  const { QUEUED, ASSIGNED, SCHEDULED, WORKING, INPUT_REQUIRED } = EngineState;
  const all = Object.values(EngineState);
  const ends = all.filter((state) => isTerminal(state as TaskState));
  /** All states to which some number of steps leads. */
  function reached(from: readonly EngineState[]): Set<EngineState> {
    const seen = new Set(from);
    // A set's iteration includes what is added meanwhile.
    for (const state of seen) for (const to of TRANSITIONS.get(state) ?? []) seen.add(to);
    return seen;
  }

  it("has a row for each of ten states, and no state twice in a row", () => {
    expect(all).toHaveLength(10);
    expect([...TRANSITIONS.keys()].sort()).toEqual(all.toSorted());
    for (const [from, to] of TRANSITIONS) expect(new Set(to).size, engineStateName(from)).toBe(to.length);
  });

  it("leads from its beginnings to every state, and from every state that is no end to every end", () => {
    expect(reached(INITIAL_STATES)).toEqual(new Set(all));
    for (const state of all) {
      const found = ends.filter((end) => reached([state]).has(end));
      expect(found, engineStateName(state)).toEqual(ends.includes(state) ? [state] : ends);
    }
  });

  it("lets a task fail, be canceled or be rejected at any time before its end, and nothing come after it", () => {
    for (const state of all) {
      const may = ends.filter((end) => end !== EngineState.COMPLETED && mayGo(state, end));
      expect(may, engineStateName(state)).toHaveLength(ends.includes(state) ? 0 : 3);
      if (ends.includes(state)) expect(TRANSITIONS.get(state)).toEqual([]);
    }
  });

  it("lets only a task that a replica has reach its agent, or its agent be heard", () => {
    for (const waiting of all.filter(isClaimable)) {
      expect(mayGo(waiting, ASSIGNED)).toBe(true);
      expect(mayGo(waiting, WORKING)).toBe(false);
      expect(mayGo(waiting, EngineState.COMPLETED)).toBe(false);
    }
  });

  it("lets no question of an agent lead to another attempt, and an approval to the queue alone", () => {
    for (const state of [SCHEDULED, ASSIGNED]) expect(mayGo(INPUT_REQUIRED, state)).toBe(false);
    expect(mayGo(INPUT_REQUIRED, QUEUED)).toBe(true);
    // The database tells the two apart: test/store/transitions.test.ts.
  });

  it("has each state held by a replica, claimable, with its client, or ended, and in one of these only", () => {
    for (const state of all) {
      const kinds = [isLeased(state), isClaimable(state), state === INPUT_REQUIRED, ends.includes(state)];
      expect(kinds.filter(Boolean), engineStateName(state)).toHaveLength(1);
    }
  });

  it("knows what every state of A2A is in the engine, and refuses what is none", () => {
    for (const state of states) {
      expect(engineState(state)).toBe(state === TaskState.SUBMITTED ? ASSIGNED : state);
    }
    expect(() => engineState(TaskState.UNSPECIFIED)).toThrow(RangeError);
    expect(() => engineState(99 as TaskState)).toThrow(RangeError);
  });

  it("shows clients nothing that it does not have itself", () => {
    fc.assert(
      fc.property(anyState, anyState, (from, to) => {
        if (from !== to && mayFollow(from, to)) expect(mayGo(engineState(from), engineState(to))).toBe(true);
      }),
    );
  });
});
