/** Which ends of tasks say something of their agents. */
import { expect, test } from "vitest";
import { failureCause, givenAgainCause, movedCause, movedFrom, timeLimitCause } from "../../../src/domain/cause.ts";
import { type Ending, outcomeOf } from "../../../src/domain/reputation/outcome.ts";
import { EngineState } from "../../../src/domain/task-state.ts";

const { COMPLETED, FAILED, CANCELED, REJECTED, SCHEDULED } = EngineState;

const began = new Date("2026-01-01T00:00:00.000Z");
const after = (ms: number) => new Date(began.getTime() + ms);

const ending = (changes: Partial<Ending>): Ending => ({
  state: FAILED,
  cause: "reported by the agent",
  at: after(250),
  beganAt: began,
  waitedForClient: false,
  wasHedged: false,
  agentId: "worker",
  capabilityId: "work",
  earlierAgentIds: [],
  givenCapabilityId: "work",
  ...changes,
});

const slaOf = (_: string, capabilityId: string) => (capabilityId === "work" ? 1000 : undefined);
const said = (changes: Partial<Ending>) => {
  const outcome = outcomeOf(ending(changes), slaOf);
  return outcome && (outcome.isGood ? "good" : "bad");
};

test.each<[string, Partial<Ending>, string | undefined]>([
  ["the agent completes it", { state: COMPLETED }, "good"],
  ["it answers with a message", { state: COMPLETED, cause: undefined }, "good"],
  ["an earlier task's result is given again", { state: COMPLETED, cause: givenAgainCause("1") }, undefined],
  ["the agent fails it", {}, "bad"],
  ["it cannot be reached", { cause: "unreachable: nothing listens" }, "bad"],
  ["its connection breaks", { cause: "broken: the connection" }, "bad"],
  ["it is silent", { cause: "timeout: The agent took longer" }, "bad"],
  ["it answers with an error", { cause: "refused: The agent refused" }, "bad"],
  ["it says that the message is wrong", { cause: "refused as sent: The agent refused" }, undefined],
  ["it answers with rubbish", { cause: "INVALID_AGENT_RESPONSE: is no Task" }, "bad"],
  ["its data break the schema", { cause: "OUTPUT_SCHEMA: at /a" }, "bad"],
  ["it rejects it", { state: REJECTED }, undefined],
  ["it cancels it", { state: CANCELED }, undefined],
  ["its client cancels it", { state: CANCELED, cause: "canceled by its client" }, undefined],
  ["its client gave it less time than the SLA", { cause: timeLimitCause("deadline") }, undefined],
  ["its client gave it more time than the SLA", { cause: timeLimitCause("deadline"), at: after(1001) }, "bad"],
  [
    "the deadline passed before it was brought to the agent",
    { cause: timeLimitCause("deadline"), beganAt: undefined },
    undefined,
  ],
  [
    "the deadline passed when it had waited for its client",
    { cause: timeLimitCause("deadline"), at: after(5000), waitedForClient: true },
    undefined,
  ],
  [
    "the deadline passed where there is no SLA",
    { cause: timeLimitCause("deadline"), at: after(5000), capabilityId: undefined },
    undefined,
  ],
  ["its client did not answer", { cause: "time limit: input", waitedForClient: true }, undefined],
  ["the router fails", { cause: "internal: Error" }, undefined],
  ["a replica died", { cause: "the replica that had it is gone, and the agent had not confirmed it" }, undefined],
  ["the agent has left", { cause: "the agent has left" }, undefined],
  ["nobody was told of it", { cause: "not acknowledged" }, undefined],
  [
    "it waits for another attempt",
    { state: SCHEDULED, cause: "attempt 1 failed: broken: x; the next one is due in 9 ms" },
    undefined,
  ],
])("%s", (_, changes, expected) => {
  expect(said(changes)).toBe(expected);
});

test("a task that goes to another agent counts against the one that failed it, for what it had it", () => {
  const cause = movedCause(1, "the agent says FAILED: no\n time", { from: "first", to: "worker" });
  const moved = { state: SCHEDULED, cause, earlierAgentIds: ["first"] } as const;
  expect(outcomeOf(ending(moved), slaOf)).toMatchObject({
    agentId: "first",
    capabilityId: "work",
    isGood: false,
    isInSla: false,
  });
  const elsewhere = { ...moved, capabilityId: "other" };
  expect(outcomeOf(ending(elsewhere), slaOf)).toMatchObject({ agentId: "first", capabilityId: "work" });
  const second = { ...elsewhere, earlierAgentIds: ["zero", "first"] };
  expect(outcomeOf(ending(second), slaOf)).toMatchObject({
    agentId: "first",
    capabilityId: undefined,
    isInSla: undefined,
  });
});

test("what an agent says cannot blame another", () => {
  const blaming = "no; the next one is with agent me instead of victim";
  expect(movedFrom(movedCause(2, blaming, { from: "liar", to: "next" }))).toBe("liar");
  expect(movedFrom(`attempt 1 failed: ${blaming}; the next one is due in 100 ms`)).toBeUndefined();
  const asSent = failureCause({ kind: "refused", reason: "INVALID_ARGUMENT", message: "no" });
  expect(movedFrom(movedCause(1, asSent, { from: "first", to: "next" }))).toBeUndefined();
  const error = failureCause({ kind: "refused", reason: "INTERNAL", message: "as sent: no" });
  expect(movedFrom(movedCause(1, error, { from: "first", to: "next" }))).toBe("first");
});

test("how long it took, and whether that was within the SLA, is known of what the agent alone took time for", () => {
  const of = (changes: Partial<Ending>) => outcomeOf(ending({ state: COMPLETED, ...changes }), slaOf);
  expect(of({})).toMatchObject({ latencyMs: 250, isInSla: true });
  expect(of({ at: after(1000) })).toMatchObject({ isInSla: true });
  expect(of({ at: after(1001) })).toMatchObject({ latencyMs: 1001, isInSla: false });
  expect(of({ at: after(-5) })).toMatchObject({ latencyMs: 0, isInSla: true });
  expect(of({ capabilityId: undefined })).toMatchObject({ latencyMs: 250, isInSla: undefined });
  for (const changes of [{ waitedForClient: true }, { wasHedged: true }, { beganAt: undefined }])
    expect(of(changes)).toMatchObject({ isGood: true, latencyMs: undefined, isInSla: undefined });
  expect(outcomeOf(ending({}), slaOf)).toMatchObject({ latencyMs: undefined, isInSla: false });
});
