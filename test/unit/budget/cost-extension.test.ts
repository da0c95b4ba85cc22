/** What agents report that a task has cost. */
import { create, type JsonObject } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { MessageSchema, Role, StreamResponseSchema, TaskState } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { COST_EXTENSION, costSaid } from "../../../src/domain/cost-extension.ts";
import { ROUTING_EXTENSION } from "../../../src/domain/routing-extension.ts";
import type { NewUpdate } from "../../../src/domain/task-log.ts";

const costing = (cost: unknown) => ({ [COST_EXTENSION]: { cost } }) as JsonObject;
const status = (
  own: JsonObject | undefined,
  ofMessage?: JsonObject,
  state: TaskState = TaskState.COMPLETED,
): NewUpdate => ({
  kind: "status",
  body: create(StreamResponseSchema, {
    payload: {
      case: "statusUpdate",
      value: {
        ...(own && { metadata: own }),
        status: { state, ...(ofMessage && { message: { metadata: ofMessage } }) },
      },
    },
  }),
});
const reply = (metadata: JsonObject): NewUpdate => ({
  kind: "reply",
  body: create(StreamResponseSchema, {
    payload: { case: "message", value: create(MessageSchema, { role: Role.AGENT, metadata }) },
  }),
});

test("a cost is read from the status, its message, the reply, or the task", () => {
  expect(costSaid([status(costing("0.25"))], undefined)).toEqual({ micros: 250_000 });
  expect(costSaid([status(undefined, costing(2))], undefined)).toEqual({ micros: 2_000_000 });
  expect(costSaid([reply(costing("0"))], undefined)).toEqual({ micros: 0 });
  expect(costSaid([status(undefined)], costing("1.5"))).toEqual({ micros: 1_500_000 });
  expect(costSaid([status(costing("1"), costing("2"))], costing("3"))).toEqual({ micros: 1_000_000 });
  expect(costSaid([status(undefined)], undefined)).toBeUndefined();
});

test("what was said before the end is no cost, also where both are written together", () => {
  const working = status(costing("9"), undefined, TaskState.WORKING);
  expect(costSaid([working, status(undefined)], undefined)).toBeUndefined();
  expect(costSaid([working, status(costing("0.25"))], undefined)).toEqual({ micros: 250_000 });
  // What is withheld ends with a status of the router's.
  expect(costSaid([status(costing("0.75")), status(undefined, undefined, TaskState.FAILED)], undefined)).toEqual({
    micros: 750_000,
  });
});

test("a number is rounded to the millionth, and a text is taken as it is", () => {
  expect(costSaid([status(costing(0.1 + 0.2))], undefined)).toEqual({ micros: 300_000 });
  expect(costSaid([status(costing(1e-7))], undefined)).toEqual({ micros: 0 });
  expect(costSaid([status(costing("0.30000000000000004"))], undefined)).toHaveProperty("rubbish");
});

test("what comes of the cache costs nothing, whatever its first task has cost", () => {
  const cached = { ...costing("5"), [ROUTING_EXTENSION]: { cachedFrom: "task" } } as JsonObject;
  expect(costSaid([status(undefined)], cached)).toEqual({ micros: 0 });
  expect(costSaid([reply(cached)], undefined)).toEqual({ micros: 0 });
});

test("rubbish is told apart from nothing", () => {
  for (const cost of ["", "-1", "1e3", "0.1234567", -1, 1e300, null, {}, true]) {
    expect(costSaid([status(costing(cost))], undefined)).toHaveProperty("rubbish");
  }
  fc.assert(
    fc.property(fc.jsonValue(), (said) => {
      const found = costSaid([status({ [COST_EXTENSION]: said as never })], undefined);
      if (found && "micros" in found) expect(Number.isSafeInteger(found.micros) && found.micros >= 0).toBe(true);
      else if (found) expect(found.rubbish.length).toBeLessThan(200);
      else expect(said).toBeNull();
    }),
  );
});
