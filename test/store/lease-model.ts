/**
 * Replicas, their leases and the tasks that go from one to another, as commands on a real database beside a simple model:
 * who has which task under which token, and who still thinks so.
 */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect } from "vitest";
import { MessageSchema, Role, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import type { NewUpdate } from "../../src/domain/task-log.ts";
import { EngineState, INITIAL_STATES, isClaimable, isLeased, mayGo } from "../../src/domain/task-state.ts";
import type { Database } from "../../src/store/database.ts";
import { createLeaseRepository, type LeaseRepository, type TakenTask } from "../../src/store/lease-repository.ts";
import { type Append, appendBatch, submitBatch } from "../../src/store/task-writes.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { raw, type TaskRow, taskRows } from "./tables.ts";

const LEASE_MS = 3_600_000;
/** Later than any test ends. */
const LATER_MS = 3_600_000;
const at = new Date("2026-01-01T00:00:00.123Z");

const { ASSIGNED, WORKING, INPUT_REQUIRED, AUTH_REQUIRED, COMPLETED, FAILED, CANCELED, SCHEDULED, QUEUED } =
  EngineState;

/** What a replica thinks that it has. */
interface Belief {
  replica: number;
  taskId: string;
  fence: number;
}

export interface Model {
  /** By number, in the order in which they came: whether they live, and whether their lease has run out. */
  replicas: { alive: boolean; expired: boolean }[];
  tasks: Map<string, TaskRow>;
  /** All that replicas were ever told to be theirs: of one task, all but the last are of former owners. */
  beliefs: Belief[];
}

export interface Real {
  db: Database;
  leases: LeaseRepository;
  /** Set apart from other runs. */
  run: string;
}

const newModel = (): Model => ({ replicas: [], tasks: new Map(), beliefs: [] });

const idOf = ({ run }: Real, replica: number): string => `${run}-${replica}`;

const ended = (state: EngineState): boolean => [...stateNumbers].every((to) => !mayGo(state, to));
const stateNumbers = Object.values(EngineState);
const claimable = (model: Model) => [...model.tasks.values()].filter(({ waits }) => waits === "due");
const orphaned = (model: Model, run: string) =>
  [...model.tasks.values()].filter(
    ({ owner }) => owner !== undefined && !model.replicas[Number(owner.slice(run.length + 1))]!.alive,
  );

/** The row after a replica took it by a claim or a rescue. */
const taken = (row: TaskRow, owner: string): TaskRow => ({
  ...row,
  state: isClaimable(row.state) ? ASSIGNED : row.state,
  attempt: row.attempt + (isClaimable(row.state) ? 1 : 0),
  fence: row.fence + 1,
  seq: row.seq + 1,
  owner,
  waits: undefined,
});

type Command = fc.AsyncCommand<Model, Real>;

/** A command that can always be given; what it picks is reduced to what there is. */
function command(text: string, run: (model: Model, real: Real) => Promise<void>, needs = (_: Model) => true): Command {
  return {
    check: needs,
    async run(model, real) {
      await run(model, real);
      const rows = await taskRows(real.db);
      expect(rows).toEqual(model.tasks);
      for (const row of rows.values()) expectReachable(model, real, row);
    },
    toString: () => text,
  };
}

/** No task is forgotten: it has ended, or waits for its client, or somebody has it, or somebody may take it. */
function expectReachable(model: Model, { run }: Real, row: TaskRow): void {
  const waitsForClient = row.state === INPUT_REQUIRED && row.owner === undefined;
  const owned = row.owner !== undefined && Number(row.owner.slice(run.length + 1)) < model.replicas.length;
  expect(ended(row.state) || waitsForClient || owned || row.waits !== undefined, JSON.stringify(row)).toBe(true);
}

const pick = <T>(from: readonly T[], n: number): T => from[n % from.length]!;
const anyReplica = ({ replicas }: Model) => replicas.length > 0;
const anyTask = ({ tasks, replicas }: Model) => tasks.size > 0 && replicas.length > 0;

const register = command(
  "register",
  async (model, real) => {
    await real.leases.register(idOf(real, model.replicas.length), "test", LEASE_MS);
    model.replicas.push({ alive: true, expired: false });
  },
  ({ replicas }) => replicas.length < 8,
);

const beat = (n: number) =>
  command(
    `beat(${n})`,
    async (model, real) => {
      const replica = pick(model.replicas, n);
      const living = model.replicas.filter(({ alive }) => alive).length;
      const told = await real.leases.beat(idOf(real, model.replicas.indexOf(replica)), LEASE_MS);
      expect(told).toBe(replica.alive ? living : undefined);
      if (replica.alive) replica.expired = false;
    },
    anyReplica,
  );

const expire = (n: number) =>
  command(
    `expire(${n})`,
    async (model, real) => {
      const replica = pick(model.replicas, n);
      const id = idOf(real, model.replicas.indexOf(replica));
      await raw(real.db, "update replicas set expires_at = clock_timestamp() - interval '1 s' where replica_id = $1", [
        id,
      ]);
      replica.expired = true;
    },
    anyReplica,
  );

const reap = command("reap", async (model, real) => {
  const due = model.replicas.flatMap(({ alive, expired }, i) => (alive && expired ? [idOf(real, i)] : []));
  // The server has been up for longer than this.
  expect((await real.leases.reap(1)).sort()).toEqual(due.sort());
  for (const replica of model.replicas) replica.alive &&= !replica.expired;
});

const release = (n: number) =>
  command(
    `release(${n})`,
    async (model, real) => {
      const replica = pick(model.replicas, n);
      await real.leases.release(idOf(real, model.replicas.indexOf(replica)));
      replica.alive = false;
    },
    anyReplica,
  );

const submit = (n: number, state: EngineState, wait: boolean) =>
  command(
    `submit(${n}, ${state}, ${wait})`,
    async (model, real) => {
      const replica = n % model.replicas.length;
      const waits = state !== ASSIGNED;
      const header = headerOf({ attempt: waits ? 0 : 1 });
      const first: NewUpdate = { ...messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER })), state };
      const stored = submitBatch(real.db, idOf(real, replica), [
        { header, updates: [first], ...(wait && { wakeInMs: LATER_MS }) },
      ]);
      if (!model.replicas[replica]!.alive) {
        await expect(stored).rejects.toMatchObject({ reason: "REPLICA_EXPIRED" });
        return;
      }
      await stored;
      const { taskId } = header;
      model.tasks.set(taskId, {
        taskId,
        state,
        a2aState: TaskState.SUBMITTED,
        seq: 1,
        fence: 1,
        attempt: header.attempt,
        owner: waits ? undefined : idOf(real, replica),
        waits: waits ? (wait ? "later" : "due") : undefined,
      });
      if (!waits) model.beliefs.push({ replica, taskId, fence: 1 });
    },
    anyReplica,
  );

/** What a writer brings a task to: a status, or the transition to wait for another attempt. */
type Goal =
  | typeof WORKING
  | typeof INPUT_REQUIRED
  | typeof AUTH_REQUIRED
  | typeof COMPLETED
  | typeof FAILED
  | typeof CANCELED
  | typeof SCHEDULED
  | typeof QUEUED;
export const GOALS: readonly Goal[] = [
  WORKING,
  WORKING,
  INPUT_REQUIRED,
  AUTH_REQUIRED,
  COMPLETED,
  FAILED,
  SCHEDULED,
  QUEUED,
];

function updateTo(taskId: string, goal: Goal): NewUpdate {
  if (isClaimable(goal))
    return { kind: "transition", body: create(StreamResponseSchema), state: goal, cause: "a test" };
  return statusUpdate({ taskId, contextId: "c" }, { state: goal as TaskState, timestamp: undefined as never });
}

interface Write {
  replica: number;
  taskId: string;
  fence: number;
  goal: Goal;
  take: boolean;
  wait: boolean;
}

/** An append by somebody who knows the log, under a token that may be another's by now. */
async function write(model: Model, real: Real, { replica, taskId, fence, goal, take, wait }: Write): Promise<void> {
  const row = model.tasks.get(taskId)!;
  const append: Append = {
    workspaceId: "default",
    taskId,
    expectedSeq: row.seq,
    fence,
    updates: [updateTo(taskId, goal)],
    at,
    take,
    ...(wait && { wakeInMs: LATER_MS }),
  };
  const stored = appendBatch(real.db, idOf(real, replica), [append]);
  const current = fence === row.fence && !ended(row.state);
  const dead = take && !model.replicas[replica]!.alive;
  if (!current || dead) {
    expect(await stored).toEqual([dead ? expect.objectContaining({ reason: "REPLICA_EXPIRED" }) : undefined]);
    return;
  }
  const a2aState = isClaimable(goal) ? row.a2aState : goal;
  const unseen = isClaimable(goal) && a2aState > TaskState.WORKING;
  if (!mayGo(row.state, goal) || unseen) {
    await expect(stored).rejects.toMatchObject({ code: "23514" });
    return;
  }
  const leased = isLeased(goal);
  const takes = take || (leased && row.owner === undefined);
  const after: TaskRow = {
    ...row,
    state: goal,
    a2aState,
    seq: row.seq + 1,
    fence: row.fence + (takes ? 1 : 0),
    owner: leased ? (takes ? idOf(real, replica) : row.owner) : undefined,
    waits: isClaimable(goal) || (goal === INPUT_REQUIRED && wait) ? (wait ? "later" : "due") : undefined,
  };
  expect(await stored).toMatchObject([{ fence: after.fence, attempt: after.attempt, leaseOwner: after.owner }]);
  model.tasks.set(taskId, after);
  model.beliefs.push({ replica, taskId, fence: after.fence });
}

/** A replica goes on with what it believes to be its own. */
const goOn = (n: number, goal: Goal, wait: boolean) =>
  command(
    `goOn(${n}, ${goal}, ${wait})`,
    (model, real) => write(model, real, { ...pick(model.beliefs, n), goal, take: false, wait }),
    ({ beliefs }) => beliefs.length > 0,
  );

/** A replica takes a task over to write to it: a cancel, a client's next message. */
const takeOver = (n: number, t: number, goal: Goal, wait: boolean) =>
  command(
    `takeOver(${n}, ${t}, ${goal}, ${wait})`,
    (model, real) => {
      const { taskId, fence } = pick([...model.tasks.values()], t);
      return write(model, real, { replica: n % model.replicas.length, taskId, fence, goal, take: true, wait });
    },
    anyTask,
  );

/** A replica takes over what it knew, and does not know any more. */
const takeOverLate = (n: number, goal: Goal) =>
  command(
    `takeOverLate(${n}, ${goal})`,
    (model, real) => write(model, real, { ...pick(model.beliefs, n), goal, take: true, wait: false }),
    ({ beliefs }) => beliefs.length > 0,
  );

async function takeSome(
  model: Model,
  real: Real,
  { replica, limit, from, take }: { replica: number; limit: number; from: TaskRow[]; take: Promise<TakenTask[]> },
): Promise<void> {
  const got = await take;
  expect(got).toHaveLength(model.replicas[replica]!.alive ? Math.min(limit, from.length) : 0);
  expect(from.map(({ taskId }) => taskId)).toEqual(expect.arrayContaining(got.map(({ taskId }) => taskId)));
  for (const { taskId, fence } of got) {
    const after = taken(model.tasks.get(taskId)!, idOf(real, replica));
    expect(fence).toBe(after.fence);
    model.tasks.set(taskId, after);
    model.beliefs.push({ replica, taskId, fence });
  }
}

const rescue = (n: number, limit: number) =>
  command(
    `rescue(${n}, ${limit})`,
    (model, real) => {
      const replica = n % model.replicas.length;
      const take = real.leases.rescue(idOf(real, replica), limit);
      return takeSome(model, real, { replica, limit, from: orphaned(model, real.run), take });
    },
    anyReplica,
  );

const claim = (n: number, limit: number) =>
  command(
    `claim(${n}, ${limit})`,
    (model, real) => {
      const replica = n % model.replicas.length;
      const take = real.leases.claim(idOf(real, replica), limit, { running: new Map(), last: "" });
      return takeSome(model, real, { replica, limit, from: claimable(model), take });
    },
    anyReplica,
  );

const passTime = command("passTime", async (model, real) => {
  await raw(real.db, "update tasks set wake_at = clock_timestamp() - interval '1 s' where wake_at is not null");
  for (const [taskId, row] of model.tasks) if (row.waits) model.tasks.set(taskId, { ...row, waits: "due" });
});

const n = fc.nat(30);
const limit = fc.integer({ min: 1, max: 4 });
const goal = fc.constantFrom(...GOALS);

const submits = fc.tuple(n, fc.constantFrom(...INITIAL_STATES), fc.boolean()).map((args) => submit(...args));
const goesOn = fc.tuple(n, goal, fc.boolean()).map((args) => goOn(...args));

/** Random sequences of all of it. What stands here twice comes twice as often. */
export const leaseCommands = fc.commands(
  [
    fc.constant(register),
    n.map(beat),
    n.map(expire),
    fc.constant(reap),
    n.map(release),
    submits,
    submits,
    goesOn,
    goesOn,
    goesOn,
    fc.tuple(n, n, goal, fc.boolean()).map((args) => takeOver(...args)),
    fc.tuple(n, goal).map((args) => takeOverLate(...args)),
    fc.tuple(n, limit).map((args) => rescue(...args)),
    fc.tuple(n, limit).map((args) => claim(...args)),
    fc.constant(passTime),
  ],
  { size: "max", maxCommands: 100 },
);

/** Something to begin with: replicas, and tasks in each state in which they are born. */
export async function begin(real: Real): Promise<Model> {
  const model = newModel();
  for (const start of [register, register, ...INITIAL_STATES.map((state, i) => submit(i, state, false))])
    await start.run(model, real);
  return model;
}
