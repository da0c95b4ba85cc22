/** Tasks that wait for room at their agents: who is taken, in which order, and what keeps its hands off. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { beforeEach, expect, it } from "vitest";
import { MessageSchema, Role } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate } from "../../src/domain/agent-report.ts";
import { PRIORITIES, type TaskHeader } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { type AgentQueueRepository, createAgentQueueRepository } from "../../src/store/agent-queue-repository.ts";
import { createLeaseRepository, type LeaseRepository } from "../../src/store/lease-repository.ts";
import { submitBatch } from "../../src/store/submit-batch.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";
import { emptyTables, expectWholeLogs, raw, taskRows } from "./tables.ts";

const { QUEUED, SCHEDULED, ASSIGNED } = EngineState;
const hello = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));
const nobody = { running: new Map<string, number>(), last: "" };
const idsOf = (tasks: readonly { taskId: string }[]) => tasks.map(({ taskId }) => taskId);
const soon = () => new Date(Date.now() + 3_600_000);

describeEachBackend("tasks that wait for their agents", (context) => {
  let queue: AgentQueueRepository;
  let leases: LeaseRepository;
  let replica: string;
  beforeEach(async () => {
    await emptyTables(context.db);
    queue = createAgentQueueRepository(context.db);
    leases = createLeaseRepository(context.db);
    replica = await registerReplica(context.db);
  });

  const wait = (...headers: Partial<TaskHeader>[]) =>
    submitBatch(
      context.db,
      replica,
      headers.map((header) => ({
        header: headerOf({ attempt: 0, deadlineAt: soon(), ...header }),
        updates: [{ ...hello, state: QUEUED }],
        wakeInMs: "at-agent",
      })),
    );
  const room = (units: number, capabilities: Record<string, number> = {}, agentId = "agent") => ({
    workspaceId: "default",
    agentId,
    units,
    capabilities: new Map(Object.entries(capabilities)),
  });
  const crowded = (limit = 10, most = 10, agentId = "") =>
    queue.crowded({ workspaceId: "default", agentId }, limit, most);

  it("come by priority and then by age, as many as there is room for", async () => {
    const waiting = fc.uniqueArray(fc.record({ priority: fc.nat(4), age: fc.nat(10_000) }), {
      minLength: 1,
      maxLength: 20,
      selector: ({ priority, age }) => `${priority} ${age}`,
    });
    await fc.assert(
      fc.asyncProperty(waiting, fc.integer({ min: 1, max: 7 }), async (tasks, units) => {
        await emptyTables(context.db);
        replica = await registerReplica(context.db);
        await wait(
          ...tasks.map(({ priority, age }) => ({
            taskId: `${priority}-${age}`,
            priority: PRIORITIES[priority]!,
            createdAt: new Date(Date.now() - age),
          })),
        );
        const taken: string[] = [];
        for (let got = [""]; got.length > 0; taken.push(...got)) {
          got = idsOf(await queue.claim(replica, [room(units)]));
          expect(got.length).toBe(Math.min(units, tasks.length - taken.length));
        }
        const expected = tasks.toSorted((a, b) => b.priority - a.priority || b.age - a.age);
        expect(taken).toEqual(expected.map(({ priority, age }) => `${priority}-${age}`));
        await expectWholeLogs(context.db);
      }),
      { numRuns: 25 },
    );
  });

  it("are taken of the agents and capabilities that have room, and of no others", async () => {
    await wait(
      { taskId: "plain" },
      { taskId: "one", capabilityId: "one" },
      { taskId: "two", capabilityId: "two" },
      { taskId: "other", agentId: "other" },
      { taskId: "third", agentId: "third" },
    );
    expect(await crowded()).toEqual([
      { workspaceId: "default", agentId: "agent", waiting: 3, capabilityIds: ["one", "two"] },
      { workspaceId: "default", agentId: "other", waiting: 1, capabilityIds: [] },
      { workspaceId: "default", agentId: "third", waiting: 1, capabilityIds: [] },
    ]);
    expect(await crowded(1, 2)).toMatchObject([{ agentId: "agent", waiting: 2 }]);
    expect(await crowded(9, 9, "agent")).toMatchObject([{ agentId: "other" }, { agentId: "third" }]);
    const taken = await queue.claim(replica, [
      room(5, { one: 0, three: 0 }),
      room(1, {}, "third"),
      room(1, {}, "none"),
    ]);
    expect(idsOf(taken).sort()).toEqual(["plain", "third", "two"]);
    expect(taken.find(({ taskId }) => taskId === "two")).toMatchObject({
      agentId: "agent",
      capabilityId: "two",
      begins: true,
    });
    expect(await crowded()).toMatchObject([{ agentId: "agent", capabilityIds: ["one"] }, { agentId: "other" }]);
  });

  it("are taken of a capability as far as its own bound, and in one order with all others", async () => {
    const capabilities = fc.constantFrom("one", "two", "free", undefined);
    const tasks = fc.array(fc.record({ priority: fc.nat(4), capabilityId: capabilities }), { maxLength: 20 });
    const bounds = fc.record({ units: fc.integer({ min: 1, max: 12 }), one: fc.nat(4), two: fc.nat(12) });
    await fc.assert(
      fc.asyncProperty(tasks, bounds, async (waiting, { units, one, two }) => {
        await emptyTables(context.db);
        replica = await registerReplica(context.db);
        const headers = waiting.map(({ priority, capabilityId }, i) => ({
          taskId: `${i}`,
          priority: PRIORITIES[priority]!,
          capabilityId,
          createdAt: new Date(Date.now() - 10_000 + i),
        }));
        if (headers.length > 0) await wait(...headers);
        const left = new Map([
          ["one", one],
          ["two", two],
        ]);
        const expected = headers
          .toSorted((a, b) => PRIORITIES.indexOf(b.priority) - PRIORITIES.indexOf(a.priority))
          .filter(({ capabilityId = "" }) => {
            const most = left.get(capabilityId) ?? Number.POSITIVE_INFINITY;
            if (most > 0) left.set(capabilityId, most - 1);
            return most > 0;
          });
        expect(idsOf(await queue.claim(replica, [room(units, { one, two })]))).toEqual(idsOf(expected.slice(0, units)));
      }),
      { numRuns: 25 },
    );
  });

  it("are not taken by those who take what waits for a replica, nor counted as that, until their deadline", async () => {
    await wait(
      { taskId: "waits" },
      { taskId: "late", deadlineAt: new Date(Date.now() - 1) },
      { deadlineAt: undefined },
    );
    expect(await leases.waiting(10)).toBe(1);
    const taken = await leases.claim(replica, 10, nobody);
    expect(taken).toMatchObject([{ taskId: "late", begins: false }]);
  });

  it("leave alone what waits for a replica or for its time", async () => {
    const updates = (state: EngineState) => [{ ...hello, state }];
    await submitBatch(context.db, replica, [
      { header: headerOf({ deadlineAt: soon(), attempt: 0 }), updates: updates(QUEUED) },
      { header: headerOf({ deadlineAt: soon() }), updates: updates(SCHEDULED), wakeInMs: 9e12 },
    ]);
    expect(await crowded()).toEqual([]);
    expect(await queue.claim(replica, [room(10)])).toEqual([]);
  });

  it("were claimed, in part, and go back to wait in the attempt that they are in", async () => {
    const updates = (state: EngineState) => [{ ...hello, state }];
    const fresh = headerOf({ taskId: "fresh", deadlineAt: soon(), attempt: 0 });
    const again = headerOf({ taskId: "again", deadlineAt: soon(), attempt: 2 });
    const lost = headerOf({ taskId: "lost", attempt: 0 });
    await submitBatch(context.db, replica, [
      { header: fresh, updates: updates(QUEUED) },
      { header: again, updates: updates(SCHEDULED), wakeInMs: 0 },
      { header: lost, updates: updates(QUEUED) },
    ]);
    const claimed = await leases.claim(replica, 10, nobody);
    expect(claimed).toHaveLength(3);
    await raw(context.db, "update tasks set fence = fence + 1 where task_id = 'lost'");
    await queue.park(replica, claimed);
    // Once more, because the answer was lost.
    await queue.park(replica, claimed);
    const parked = await taskRows(context.db);
    expect(parked.get("fresh")).toMatchObject({ state: QUEUED, owner: undefined, attempt: 1, seq: 3, waits: "later" });
    expect(parked.get("again")).toMatchObject({ state: QUEUED, owner: undefined, attempt: 3, seq: 3, waits: "later" });
    expect(parked.get("lost")).toMatchObject({ state: ASSIGNED, owner: replica });
    expect(await crowded()).toMatchObject([{ waiting: 2 }]);
    const taken = await queue.claim(replica, [room(10)]);
    expect(idsOf(taken).sort()).toEqual(["again", "fresh"]);
    const rows = await taskRows(context.db);
    expect(rows.get("fresh")).toMatchObject({ state: ASSIGNED, owner: replica, attempt: 1, fence: 3 });
    expect(rows.get("again")).toMatchObject({ state: ASSIGNED, owner: replica, attempt: 3 });
    const causes = await raw(context.db, "select cause from task_updates where task_id = 'again' order by seq");
    expect(causes.map(({ cause }) => cause)).toEqual([
      null,
      "due, and claimed",
      'waits for room at agent "agent"',
      "claimed: its agent has room",
    ]);
  });

  it("are each taken once by replicas that look at the same moment", async () => {
    await wait(...Array.from({ length: 200 }, () => ({})));
    const replicas = await Promise.all(Array.from({ length: 5 }, () => registerReplica(context.db)));
    const taken = await Promise.all(
      replicas.map(async (id) => {
        const mine: string[] = [];
        while ((await crowded()).length > 0) mine.push(...idsOf(await queue.claim(id, [room(7)])));
        return mine;
      }),
    );
    expect(taken.flat()).toHaveLength(200);
    expect(new Set(taken.flat()).size).toBe(200);
    await expectWholeLogs(context.db);
  });
});
