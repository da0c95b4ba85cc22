/** Permits of agents: what they cost agents without limits, which is nothing, and how slices grow, shrink and survive a bad database. */
import { describe, expect, onTestFinished, test } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { sliceAfter } from "../../src/domain/allotment.ts";
import { databaseUnavailable } from "../../src/domain/errors.ts";
import { stateOf } from "../../src/domain/task-log.ts";
import { isTerminal } from "../../src/domain/task-state.ts";
import type { ConcurrencyLimits, WorkspaceAgents } from "../../src/services/agent-directory.ts";
import { createAgentPermits } from "../../src/services/agent-permits.ts";
import { createAllotments } from "../../src/services/allotments.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import type { AllotmentRepository } from "../../src/store/allotment-repository.ts";
import { silent } from "../store/backends.ts";
import { openLab, said, taskIn, workingAgent } from "./engine-lab.ts";

const task = { workspaceId: "default", agentId: "agent", capabilityId: undefined };

/** The slices of one replica, of limits of which others have what is set. */
function lab(limits: Map<string, ConcurrencyLimits>) {
  const others = new Map<string, { granted: number; wanted: number }>();
  const asks: object[] = [];
  const state = { isAway: false, announced: 0, freed: 0 };
  const repository: AllotmentRepository = {
    async settle(_, asked) {
      asks.push(...asked);
      if (state.isAway) throw databaseUnavailable(new Error("away"));
      return asked.map((ask) => {
        const theirs = others.get(ask.key) ?? { granted: 0, wanted: 0 };
        return { granted: sliceAfter(ask, theirs), others: theirs };
      });
    },
    async sweep() {},
  };
  const allotments = createAllotments({
    repository,
    replicaId: () => "replica",
    limitOf: async ({ key }) => limits.get(key.split("/")[1]!)?.agent,
    announce: () => void state.announced++,
    onRoom: () => {},
    runtime: systemRuntime(),
    log: silent,
  });
  onTestFinished(() => allotments.stop());
  const directory = { last: () => ({ limits }) as unknown as WorkspaceAgents };
  const permits = createAgentPermits({ directory, allotments, onFree: () => void state.freed++ });
  return { permits, allotments, others, asks, state };
}

const home = { workspaceId: "default", agentId: "agent" };
const limit = (agent: number | undefined, capabilities: Record<string, number> = {}) =>
  new Map([["agent", { home, agent, capabilities: new Map(Object.entries(capabilities)) }]]);

test("tasks of an agent without limits run in the same statements as if there were no permits", async () => {
  const start = await openLab();
  const ends = workingAgent({
    async *sendStream() {
      yield said(taskIn("theirs", TaskState.COMPLETED));
    },
  });
  const { permits, asks } = lab(limit(undefined, { other: 3 }));
  const refuse = () => Promise.reject(new Error("nobody waits"));
  const agentQueue = { admit: refuse, added: refuse, withdrawn: refuse };
  const counts: string[][] = [];
  for (const places of [undefined, { permits, agentQueue }]) {
    const names: string[] = [];
    const replica = await start(ends, {
      ...(places && { places }),
      wrap: (db) => ({
        ...db,
        query(statement, values) {
          names.push(statement.name);
          return db.query(statement, values);
        },
      }),
    });
    for (let i = 0; i < 10; i++) {
      const image = await replica.begin();
      await replica.when(image, (now) => isTerminal(stateOf(now)));
    }
    // Who waits for the end reads the log as often as it is told to.
    counts.push(names.filter((name) => /submit|append/.test(name)).sort());
    expect(names.filter((name) => /allot|agent-queue/.test(name))).toEqual([]);
  }
  expect(counts[1]).toEqual(counts[0]);
  expect(asks).toEqual([]);
});

describe("a permit", () => {
  test("is taken in memory as long as the slice lasts, and asked for together with others then", async () => {
    const { permits, asks, allotments } = lab(limit(8));
    const first = await permits.take(task);
    expect(asks).toHaveLength(1);
    expect(allotments.totals()).toEqual({ granted: 5, held: 1 });
    const more = await Promise.all(Array.from({ length: 4 }, () => permits.take(task)));
    expect(asks).toHaveLength(1);
    const rest = await Promise.all(Array.from({ length: 5 }, () => permits.take(task)));
    expect(rest.filter(Boolean)).toHaveLength(3);
    expect(asks).toHaveLength(2);
    // It is known that there are no more.
    expect(await permits.take(task)).toBeUndefined();
    expect(asks).toHaveLength(2);
    for (const permit of [first, ...more, ...rest]) permit?.release();
    first?.release();
    expect(allotments.totals()).toEqual({ granted: 8, held: 0 });
  });

  test("of an agent and of a capability is both or nothing", async () => {
    const { permits, allotments } = lab(limit(5, { one: 1 }));
    const capable = { ...task, capabilityId: "one" };
    expect(await permits.take(capable)).toBeDefined();
    expect(await permits.take(capable)).toBeUndefined();
    expect(allotments.totals().held).toBe(2);
    expect(permits.isNeeded({ ...task, capabilityId: "two" })).toBe(true);
    expect(await permits.take({ ...task, capabilityId: "two" })).toBeDefined();
  });

  test("is forced beyond the limit, is made whole for limits that come, and keeps new ones out until it is back", async () => {
    const limits = limit(1);
    const { permits, allotments } = lab(limits);
    const forced = [permits.force(task), permits.force(task)];
    expect(await permits.take(task)).toBeUndefined();
    expect(allotments.totals()).toEqual({ granted: 2, held: 2 });
    forced[0]?.release();
    expect(await permits.take(task)).toBeUndefined();
    limits.set("agent", { home, agent: 1, capabilities: new Map([["one", 1]]) });
    const capable = { ...task, capabilityId: "one" };
    expect(permits.force(capable, forced[1])).toBe(forced[1]);
    expect(permits.force(capable, forced[1])?.slices).toHaveLength(2);
    forced[1]?.release();
    expect(allotments.totals().held).toBe(0);
    expect(await permits.take(capable)).toBeDefined();
  });

  test("is not given while others have them all, and others are told that one is wanted, once", async () => {
    const { permits, others, state, allotments } = lab(limit(3));
    others.set("agent/agent", { granted: 3, wanted: 0 });
    expect(await permits.take(task)).toBeUndefined();
    expect(await permits.take(task)).toBeUndefined();
    expect(state.announced).toBe(1);
    others.set("agent/agent", { granted: 1, wanted: 1 });
    allotments.heed();
    const taken = await Promise.all([permits.take(task), permits.take(task), permits.take(task)]);
    expect(taken.filter(Boolean)).toHaveLength(2);
  });

  test("that the database does not answer for is an error, and costs none of those that there are", async () => {
    const { permits, state, allotments } = lab(limit(4));
    const first = await permits.take(task);
    expect(allotments.totals()).toEqual({ granted: 3, held: 1 });
    await permits.take(task);
    await permits.take(task);
    state.isAway = true;
    await expect(permits.take(task)).rejects.toMatchObject({ reason: "DATABASE_UNAVAILABLE" });
    first?.release();
    // What it had is its own still.
    expect(await permits.take(task)).toBeDefined();
    state.isAway = false;
    expect(await permits.take(task)).toBeDefined();
    expect(await permits.take(task)).toBeUndefined();
  });

  test("from before this replica was declared dead is nobody's, and is made whole when its task goes on", async () => {
    const { permits, allotments } = lab(limit(2));
    const old = await permits.take(task);
    allotments.reset();
    expect(allotments.totals()).toEqual({ granted: 0, held: 0 });
    permits.force(task, old);
    expect(allotments.totals().held).toBe(1);
    old?.release();
    expect(allotments.totals().held).toBe(0);
  });
});
