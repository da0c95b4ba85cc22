/** The contract of operators repeats what the domain says; this proves that it says the same. */
import { expect, test } from "vitest";
import { EngineState as ContractState, TaskPriority, TaskUpdateKind } from "../../gen/signalbox/v1/task_pb.ts";
import { PRIORITIES, type UpdateKind } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";

test("the contract's engine states are the domain's, number for number", () => {
  expect(ContractState).toEqual({ UNSPECIFIED: 0, ...EngineState });
});

test("the contract's priorities are the domain's, in their order", () => {
  const byNumber = Object.entries(TaskPriority).sort(([, a], [, b]) => a - b);
  expect(byNumber.map(([name]) => name)).toEqual(["UNSPECIFIED", ...PRIORITIES]);
});

test("the contract's kinds of rows are the domain's", () => {
  const kinds: Record<UpdateKind, null> = {
    message: null,
    status: null,
    artifact: null,
    reply: null,
    metadata: null,
    transition: null,
  };
  const names = Object.keys(kinds).map((kind) => kind.toUpperCase());
  expect(Object.keys(TaskUpdateKind).sort()).toEqual(["UNSPECIFIED", ...names].sort());
});
