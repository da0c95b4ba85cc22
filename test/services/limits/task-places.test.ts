/** Replicas that share a quota of tasks in flight: never more than it, and no unit is lost, whatever happens and whoever dies. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { MessageSchema, Role, TaskState } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../../src/domain/agent-report.ts";
import { EngineState } from "../../../src/domain/task-state.ts";
import { createKnownQuotas } from "../../../src/services/limits/known-quotas.ts";
import {
  createTaskPlaces,
  IN_FLIGHT_END,
  IN_FLIGHT_KEY,
  type TaskPlaces,
} from "../../../src/services/limits/task-places.ts";
import { systemRuntime } from "../../../src/services/runtime.ts";
import { createBudgetRepository } from "../../../src/store/budget-repository.ts";
import { createBudgetUsageReads } from "../../../src/store/budget-usage-reads.ts";
import { createLeaseRepository } from "../../../src/store/lease-repository.ts";
import { createQuotaRepository } from "../../../src/store/quota-repository.ts";
import { createTaskStore, type TaskStore } from "../../../src/store/task-store.ts";
import { registerReplica } from "../../fixtures/replica.ts";
import { headerOf } from "../../fixtures/task-header.ts";
import { describeEachBackend, silent } from "../../store/backends.ts";
import { emptyTables, raw } from "../../store/tables.ts";

const runtime = systemRuntime();
const never = new AbortController().signal;
const message = create(MessageSchema, { messageId: "1", role: Role.USER });

interface Lab {
  id: string;
  places: TaskPlaces;
  store: TaskStore;
  quotas: ReturnType<typeof createKnownQuotas>;
}

describeEachBackend("tasks in flight", (context) => {
  let labs: Lab[] = [];

  beforeEach(async () => {
    await emptyTables(context.db);
    await raw(context.db, "truncate budget_slices, budget_reservations, budget_settlements, workspace_usage");
    labs = [await start(), await start(), await start()];
  });
  afterEach(async () => {
    for (const lab of labs.splice(0)) await stop(lab);
  });

  async function setQuota(tasksInFlight: number | undefined): Promise<void> {
    await raw(
      context.db,
      "update workspaces set quotas = $1::jsonb, quotas_revision = quotas_revision + 1 where workspace_id = 'default'",
      [tasksInFlight === undefined ? null : JSON.stringify({ tasksInFlight })],
    );
    for (const { quotas } of labs) quotas.changed("default");
  }

  async function start(): Promise<Lab> {
    const id = await registerReplica(context.db);
    const store = createTaskStore(context.db, { maxWaiting: 1000, replicaId: () => lab.id });
    const repository = createQuotaRepository(context.db);
    const quotas = createKnownQuotas({ repository, runtime, log: silent });
    const places = createTaskPlaces({
      quotas,
      repository: createBudgetRepository(context.db, () => IN_FLIGHT_END),
      counts: repository,
      reads: createBudgetUsageReads(context.db),
      store,
      replicaId: () => lab.id,
      announce() {
        for (const other of labs) if (other !== lab) other.places.heed();
      },
      runtime,
      log: silent,
    });
    const lab: Lab = { id, places, store, quotas };
    places.start();
    return lab;
  }
  async function stop({ places, store, quotas }: Lab): Promise<void> {
    await places.stop();
    await store.close();
    await quotas.close();
  }
  /** Its tasks stay, and nobody has them. */
  async function crash(lab: Lab): Promise<void> {
    lab.places.reset();
    await createLeaseRepository(context.db).release(lab.id);
    await stop(lab);
  }

  async function begin(lab: Lab): Promise<string> {
    const taskId = runtime.newId();
    const record = await lab.quotas.of("default");
    const place = await lab.places.take({ workspaceId: "default", signal: never }, taskId, record);
    try {
      await lab.store.submit({
        header: { ...headerOf({ taskId }), ...(place && { holds: place.holds }) },
        updates: [{ ...messageUpdate(message), state: EngineState.QUEUED }],
        wakeInMs: 3_600_000,
      });
      place?.keep();
    } catch (error) {
      place?.release();
      throw error;
    }
    return taskId;
  }

  /** Ends it, whosever it was. */
  async function end(lab: Lab, taskId: string): Promise<void> {
    const stored = (await lab.store.header("default", taskId))!;
    const status = { state: TaskState.CANCELED, timestamp: timestampFromDate(new Date()) };
    const ended = await lab.store.append({
      workspaceId: "default",
      taskId,
      expectedSeq: 1,
      fence: stored.header.fence,
      at: new Date(),
      updates: [statusUpdate(stored.header, status as never, "the test ends it")],
      take: true,
    } as never);
    expect(ended).toBeDefined();
    lab.places.settled(stored.header);
  }

  /** Begins one where there is room by the database: replicas may hear of that a moment later. */
  const beginSoon = async (lab: Lab): Promise<void> => {
    const tried = () =>
      begin(lab).then(
        () => "begun",
        (error: { reason: string }) => error.reason,
      );
    await expect.poll(tried, { timeout: 20_000 }).toBe("begun");
  };

  const inFlight = () => createQuotaRepository(context.db).inFlight("default");
  const held = async () =>
    (await createBudgetUsageReads(context.db).standing({ workspaceId: "default", key: IN_FLIGHT_KEY }, "")).reserved;

  it("lets so many begin and no more, at whichever replica, and says how many there are", async () => {
    await setQuota(4);
    const tries = await Promise.allSettled(Array.from({ length: 12 }, (_, i) => begin(labs[i % 3]!)));
    expect(tries.filter(({ status }) => status === "fulfilled")).toHaveLength(4);
    const refused = tries.find(({ status }) => status === "rejected") as PromiseRejectedResult;
    expect(refused.reason).toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      reason: "QUOTA_EXCEEDED",
      metadata: { limit: "tasks_in_flight", max: "4", used: "4" },
      retryAfterMs: 1_000,
    });
    expect(await held()).toBe(4);
  });

  it("counts nothing where there is no quota", async () => {
    await setQuota(undefined);
    await begin(labs[0]!);
    expect(await raw(context.db, "select holds from tasks where holds is not null")).toHaveLength(0);
    expect(await raw(context.db, "select from budget_slices")).toHaveLength(0);
  });

  it("is never exceeded, and comes back to nothing, in whatever order tasks begin and end and replicas die", async () => {
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          kind: fc.constant("begin" as const),
          at: fc.nat(2),
          many: fc.integer({ min: 1, max: 5 }),
        }),
      },
      {
        weight: 5,
        arbitrary: fc.record({
          kind: fc.constant("end" as const),
          at: fc.nat(2),
          many: fc.integer({ min: 1, max: 5 }),
        }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("crash" as const), at: fc.nat(2), many: fc.constant(1) }) },
    );
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 6 }), fc.array(step, { maxLength: 14 }), async (quota, steps) => {
        await emptyTables(context.db);
        await raw(context.db, "truncate budget_slices, budget_reservations, budget_settlements, workspace_usage");
        for (const lab of labs.splice(0)) await stop(lab);
        labs = [await start(), await start(), await start()];
        await setQuota(quota);
        const running: string[] = [];
        for (const { kind, at, many } of steps) {
          const lab = labs[at]!;
          if (kind === "crash") {
            await crash(lab);
            labs[at] = await start();
          } else if (kind === "begin") {
            const tries = await Promise.allSettled(Array.from({ length: many }, () => begin(lab)));
            for (const one of tries) {
              if (one.status === "fulfilled") running.push(one.value);
              else expect((one.reason as { reason: string }).reason).toBe("QUOTA_EXCEEDED");
            }
          } else await Promise.all(running.splice(0, many).map((taskId) => end(lab, taskId)));
          expect(running.length).toBeLessThanOrEqual(quota);
          expect(await inFlight()).toBe(running.length);
          expect(await held()).toBe(running.length);
        }
        await Promise.all(running.splice(0).map((taskId) => end(labs[0]!, taskId)));
        expect(await held()).toBe(0);
        // All of it can be had again, though dead replicas had some.
        const repository = createBudgetRepository(context.db, () => IN_FLIGHT_END);
        await repository.sweep(0);
        for (let i = 0; i < quota; i++) await beginSoon(labs[1]!);
        expect(await held()).toBe(quota);
        await expect(begin(labs[2]!)).rejects.toMatchObject({ reason: "QUOTA_EXCEEDED" });
      }),
      { numRuns: 5 },
    );
  }, 240_000);

  it("counts tasks that are older than the quota until they end", async () => {
    await setQuota(undefined);
    const old = [await begin(labs[0]!), await begin(labs[1]!)];
    await setQuota(3);
    const young = await begin(labs[2]!);
    await expect(begin(labs[2]!)).rejects.toMatchObject({ metadata: { max: "3", used: "3" } });
    await end(labs[0]!, old[0]!);
    await beginSoon(labs[2]!);
    await expect(begin(labs[0]!)).rejects.toMatchObject({ reason: "QUOTA_EXCEEDED" });
    await end(labs[0]!, young);
  });

  it("takes what is raised at once, and lowers nothing that runs", async () => {
    await setQuota(2);
    const running = [await begin(labs[0]!), await begin(labs[1]!)];
    await setQuota(3);
    await beginSoon(labs[2]!);
    expect(await held()).toBe(3);
    await setQuota(1);
    await expect(begin(labs[0]!)).rejects.toMatchObject({ metadata: { max: "1" } });
    for (const taskId of running) await end(labs[0]!, taskId);
    // One runs yet, which is all that there may be now.
    await expect(begin(labs[2]!)).rejects.toMatchObject({ reason: "QUOTA_EXCEEDED" });
    const left = await raw(context.db, "select task_id from tasks where state not in (3, 4, 5, 7)");
    expect(left).toHaveLength(1);
    await end(labs[0]!, left[0]!.task_id as string);
    expect(await held()).toBe(0);
    // Whichever server had it, the room comes to another, and only once.
    await beginSoon(labs[1]!);
    expect(await held()).toBe(1);
    await expect(begin(labs[2]!)).rejects.toMatchObject({ reason: "QUOTA_EXCEEDED" });
  });
});
