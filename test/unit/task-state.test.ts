import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { isInterrupted, isTerminal, mayFollow, stateAfterReport, stateName } from "../../src/domain/task-state.ts";

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
