/** What the store and its database accept of the ten states: what the domain's table has, and nothing else. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { beforeAll, beforeEach, expect, it } from "vitest";
import { MessageSchema, Role, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { foldTask, type NewUpdate, stateOf, type TaskHeader } from "../../src/domain/task-log.ts";
import { EngineState, engineState, engineStateName, INITIAL_STATES, mayGo } from "../../src/domain/task-state.ts";
import { sqlState } from "../../src/store/database-errors.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";
import { emptyTables, expectWholeLogs, raw } from "./tables.ts";

const at = new Date("2026-01-01T00:00:00.123Z");
const STATES = Object.values(EngineState);
const { QUEUED, WORKING, AUTH_REQUIRED, INPUT_REQUIRED, ASSIGNED, SCHEDULED } = EngineState;
const TERMINAL = STATES.filter((state) => !STATES.some((to) => mayGo(state, to)));
const LEASED: readonly EngineState[] = [WORKING, AUTH_REQUIRED, ASSIGNED];
/** The states that clients do not know: they see SUBMITTED or WORKING. */
const INNER: readonly EngineState[] = [QUEUED, ASSIGNED, SCHEDULED];

const pairs = STATES.flatMap((from) => STATES.map((to) => [from, to] as const));

describeEachBackend("the database", (context) => {
  let replica: string;
  beforeAll(async () => {
    replica = await registerReplica(context.db);
  });

  /**
   * A task in a state, as if it had come there: in WORKING before, so that clients may see it anywhere. In attempt 0, as one is
   * that waits for its approval, it may go all ways.
   */
  async function taskIn(state: EngineState, attempt = 0): Promise<string> {
    const { taskId } = headerOf();
    await raw(
      context.db,
      `insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status, status_at, last_seq,
                          disclosed, created_at, lease_owner, fence, attempt)
       values ('default', $1, 'c', 'a', $2, $3, '', now(), 7, true, now(), $4, 3, $5)`,
      [taskId, state, seenAs(state), LEASED.includes(state) ? replica : null, attempt],
    );
    return taskId;
  }
  const seenAs = (state: EngineState): number => (INNER.includes(state) ? TaskState.WORKING : state);
  const change = (taskId: string, set: string, values: unknown[] = []) =>
    raw(context.db, `update tasks set ${set} where task_id = $1 returning 1`, [taskId, ...values]);
  const refusal = (constraint: string) => expect.objectContaining({ code: "23514", constraint });

  it("lets a task go where the domain's table lets it go, in all hundred pairs of states", async () => {
    const accepted: (readonly [EngineState, EngineState])[] = [];
    for (const [from, to] of pairs) {
      const moved = change(
        await taskIn(from),
        "state = $2, a2a_state = $3, lease_owner = $4, last_seq = last_seq + 1",
        [to, seenAs(to), LEASED.includes(to) ? replica : null],
      );
      await moved.then(
        () => accepted.push([from, to]),
        (error: unknown) => expect(error).toEqual(refusal("tasks_transition")),
      );
    }
    expect(accepted).toEqual(pairs.filter(([from, to]) => mayGo(from, to)));
  });

  it("lets no question of an agent lead to another attempt", async () => {
    const again = change(await taskIn(INPUT_REQUIRED, 1), "state = 1, a2a_state = 2, last_seq = last_seq + 1");
    await expect(again).rejects.toEqual(refusal("tasks_transition"));
  });

  it.each(TERMINAL)("adds nothing to a finished task, and leaves its state: %i", async (end) => {
    const taskId = await taskIn(end);
    await expect(change(taskId, "last_seq = last_seq + 1")).rejects.toEqual(refusal("tasks_transition"));
    await expect(change(taskId, "state = 2, a2a_state = 2, lease_owner = 'x'")).rejects.toEqual(
      refusal("tasks_transition"),
    );
    await expect(change(taskId, "has_push = true")).resolves.toHaveLength(1);
  });

  it.each(["fence = fence - 1", "last_seq = last_seq - 1", "a2a_state = 1"])("refuses %s", async (set) => {
    await expect(change(await taskIn(ASSIGNED), set)).rejects.toEqual(refusal("tasks_transition"));
  });

  it("has an owner for every task that must have one, and for no other", async () => {
    for (const state of STATES) {
      const taskId = await taskIn(state);
      const owned = change(taskId, "lease_owner = 'x'");
      const freed = owned.catch(() => {}).then(() => change(taskId, "lease_owner = null"));
      const name = engineStateName(state);
      if (LEASED.includes(state) || state === INPUT_REQUIRED) await expect(owned, name).resolves.toHaveLength(1);
      else await expect(owned, name).rejects.toEqual(refusal("tasks_leased"));
      if (LEASED.includes(state)) await expect(freed, name).rejects.toEqual(refusal("tasks_leased"));
      else await expect(freed, name).resolves.toHaveLength(1);
    }
  });

  it("shows clients the state that it has, or one that they may see instead", async () => {
    for (const [state, seen] of pairs) {
      const shown = change(await taskIn(state), "a2a_state = $2", [seen]);
      const may = seen === seenAs(state) || (INNER.includes(state) && seen === TaskState.WORKING);
      if (may) await expect(shown).resolves.toHaveLength(1);
      else await expect(shown).rejects.toMatchObject({ code: "23514" });
    }
  });
});

/** One row of an append: a status that clients see, or a step of the engine that they do not; or a message, no step. */
type Step = { kind: "status"; state: TaskState } | { kind: "transition"; state: EngineState } | { kind: "message" };

const A2A = Object.values(TaskState).filter((state) => state !== TaskState.UNSPECIFIED);
const single: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("status" as const), state: fc.constantFrom(...A2A) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("transition" as const), state: fc.constantFrom(...STATES) }) },
  { weight: 1, arbitrary: fc.constant({ kind: "message" as const }) },
);
// Of several statuses none is SUBMITTED: what an agent says is so read (stateAfterReport).
const steps = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(single) },
  {
    weight: 1,
    arbitrary: fc.array(
      single.filter((step) => step.kind !== "status" || step.state !== TaskState.SUBMITTED),
      { minLength: 2, maxLength: 3 },
    ),
  },
);
const TASKS = 6;
const rarely = fc.nat(9).map((n) => n === 9);
/** What is appended at once, each entry to another task; `late` entries know a number that is not the last. */
const batch = fc.uniqueArray(fc.record({ task: fc.nat(TASKS - 1), steps, late: rarely }), {
  selector: ({ task }) => task,
  minLength: 1,
  maxLength: TASKS,
});

interface Model {
  state: EngineState;
  seen: number;
  seq: number;
}

/** The task after an append; "refused" where the table has no such way, "stale" where the writer was not up to date. */
function after(model: Model, entry: { steps: readonly Step[]; late: boolean }): Model | "refused" | "stale" {
  if (entry.late || TERMINAL.includes(model.state)) return "stale";
  let { state, seen } = model;
  for (const step of entry.steps) {
    if (step.kind === "message") continue;
    const to = step.kind === "status" ? engineState(step.state) : step.state;
    if (!mayGo(state, to)) return "refused";
    state = to;
    if (step.kind === "status") seen = step.state;
  }
  if (state !== model.state && !mayGo(model.state, state)) return "refused";
  if (seen === TaskState.SUBMITTED && model.seen !== TaskState.SUBMITTED) return "refused";
  const shows = seen === state || (INNER.includes(state) && seen <= TaskState.WORKING);
  return shows ? { state, seen, seq: model.seq + entry.steps.length } : "refused";
}

describeEachBackend("the store", (context) => {
  let store: TaskStore;
  let replica: string;
  beforeEach(async () => {
    await emptyTables(context.db);
    replica = await registerReplica(context.db);
    store = createTaskStore(context.db, { maxWaiting: 1000, replicaId: () => replica });
    return () => store.close();
  });

  const hello = () => messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));

  function updateFor(header: TaskHeader, step: Step): NewUpdate {
    if (step.kind === "message") return hello();
    if (step.kind === "status") return statusUpdate(header, { state: step.state, timestamp: timestampFromDate(at) });
    return { kind: "transition", body: create(StreamResponseSchema), state: step.state, cause: "a test" };
  }

  it("accepts what the table has, refuses the rest, and stores a refused one's neighbours", async () => {
    let stored = 0;
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(...INITIAL_STATES), { minLength: TASKS, maxLength: TASKS }),
        fc.array(batch, { maxLength: 12 }),
        async (births, batches) => {
          const tasks = births.map((state) => ({
            header: headerOf({ attempt: 0 }),
            model: { state, seen: TaskState.SUBMITTED, seq: 1 } as Model,
          }));
          await Promise.all(
            tasks.map(({ header, model }) => store.submit({ header, updates: [{ ...hello(), state: model.state }] })),
          );
          for (const entries of batches) {
            // All in one turn of the event loop, and so in one statement.
            const outcomes = await Promise.allSettled(
              entries.map(({ task, steps, late }) => {
                const { header, model } = tasks[task]!;
                const updates = steps.map((step) => updateFor(header, step));
                const { workspaceId, taskId, fence } = header;
                const expectedSeq = late ? model.seq - 1 : model.seq;
                return store.append({ workspaceId, taskId, fence, expectedSeq, updates, at });
              }),
            );
            entries.forEach((entry, i) => {
              const { header, model } = tasks[entry.task]!;
              const outcome = outcomes[i]!;
              const next = after(model, entry);
              const told = JSON.stringify({ model, entry });
              if (next === "refused") {
                refused += 1;
                expect(outcome.status, told).toBe("rejected");
                expect(sqlState((outcome as PromiseRejectedResult).reason), told).toBe("23514");
              } else if (next === "stale") {
                expect(outcome, told).toEqual({ status: "fulfilled", value: undefined });
              } else {
                stored += 1;
                expect(outcome, told).toMatchObject({ status: "fulfilled", value: { hasPush: false } });
                header.fence = (outcome as PromiseFulfilledResult<{ fence: number }>).value.fence;
                tasks[entry.task]!.model = next;
              }
            });
          }
          for (const { header, model } of tasks) {
            const { header: kept, updates } = (await store.load("default", header.taskId))!;
            const image = foldTask(kept, updates);
            expect({ state: image.state, seen: stateOf(image), seq: image.seq }).toEqual(model);
            expect(kept.leaseOwner !== undefined).toBe(LEASED.includes(model.state));
          }
        },
      ),
      { numRuns: 40 },
    );
    await expectWholeLogs(context.db);
    expect(stored).toBeGreaterThan(50);
    expect(refused).toBeGreaterThan(50);
  });

  it("gives a task that nobody has to whoever goes on with it, under the next token", async () => {
    const header = headerOf();
    const { workspaceId, taskId } = header;
    await store.submit({ header, updates: [{ ...hello(), state: ASSIGNED }] });
    const says = (state: TaskState, expectedSeq: number, fence: number) => {
      const updates = [updateFor(header, { kind: "status", state })];
      return store.append({ workspaceId, taskId, expectedSeq, fence, updates, at });
    };
    expect(await says(TaskState.INPUT_REQUIRED, 1, 1)).toMatchObject({ leaseOwner: undefined, fence: 1 });
    expect(await says(TaskState.WORKING, 2, 1)).toMatchObject({ leaseOwner: replica, fence: 2 });
    expect(await says(TaskState.COMPLETED, 3, 1)).toBeUndefined();
    expect(await says(TaskState.COMPLETED, 3, 2)).toMatchObject({ leaseOwner: undefined });
  });

  it("refuses a task that is born in another state than those in which tasks begin", async () => {
    for (const state of STATES.filter((each) => !INITIAL_STATES.includes(each))) {
      const born = store.submit({ header: headerOf(), updates: [{ ...hello(), state }] });
      await expect(born, engineStateName(state)).rejects.toMatchObject({ code: "23514" });
    }
  });
});
