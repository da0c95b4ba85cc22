/** Whatever replicas may do with leases, in whatever order, as commands of fast-check on lease-model.ts. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate } from "../../src/domain/agent-report.ts";
import { type EngineState, INITIAL_STATES, isClaimable } from "../../src/domain/task-state.ts";
import { submitBatch } from "../../src/store/submit-batch.ts";
import { headerOf } from "../fixtures/task-header.ts";
import {
  claimable,
  expectModel,
  expectTaken,
  GOALS,
  type Goal,
  LATER_MS,
  type Model,
  orphaned,
  type Real,
  write,
} from "./lease-model.ts";
import { raw } from "./tables.ts";

const LEASE_MS = 3_600_000;
const MOST_REPLICAS = 8;

type Command = fc.AsyncCommand<Model, Real>;
type Run = (model: Model, real: Real) => Promise<void>;

/** A command, after which the database must be where the model is. */
const command = (text: string, run: Run, check: (model: Model) => boolean = () => true): Command => ({
  check,
  async run(model, real) {
    await run(model, real);
    await expectModel(model, real);
  },
  toString: () => text,
});

/** What is picked is reduced to what there is. */
const pick = <T>(from: Iterable<T>, n: number): T => {
  const all = [...from];
  return all[n % all.length]!;
};
const anyReplica = ({ replicas }: Model) => replicas.size > 0;
const anyBelief = ({ beliefs }: Model) => beliefs.length > 0;

/** A command of one of the replicas, alive or not. */
const ofReplica = (text: string, n: number, run: (model: Model, real: Real, replica: string) => Promise<void>) =>
  command(`${text} by ${n}`, (model, real) => run(model, real, pick(model.replicas.keys(), n)), anyReplica);

const register = command(
  "register",
  async ({ replicas }, { leases }) => {
    const replica = `replica-${replicas.size}`;
    await leases.register(replica, "test", LEASE_MS);
    replicas.set(replica, { alive: true, expired: false });
  },
  ({ replicas }) => replicas.size < MOST_REPLICAS,
);

const beat = (n: number) =>
  ofReplica("beat", n, async ({ replicas }, { leases }, id) => {
    const replica = replicas.get(id)!;
    const living = [...replicas.values()].filter(({ alive }) => alive).length;
    expect(await leases.beat(id, LEASE_MS)).toBe(replica.alive ? living : undefined);
    if (replica.alive) replica.expired = false;
  });

const expire = (n: number) =>
  ofReplica("expire", n, async ({ replicas }, { db }, id) => {
    await raw(db, "update replicas set expires_at = clock_timestamp() - interval '1 s' where replica_id = $1", [id]);
    replicas.get(id)!.expired = true;
  });

const reap = command("reap", async ({ replicas }, { leases }) => {
  const late = [...replicas].filter(([, { alive, expired }]) => alive && expired).map(([id]) => id);
  // The server has been up for longer than this.
  expect((await leases.reap(1)).sort()).toEqual(late.sort());
  for (const id of late) replicas.get(id)!.alive = false;
});

const release = (n: number) =>
  ofReplica("release", n, async ({ replicas }, { leases }, id) => {
    await leases.release(id);
    replicas.get(id)!.alive = false;
  });

const submit = (n: number, state: EngineState, wait: boolean) =>
  ofReplica(`submit(${state}, ${wait})`, n, async ({ replicas, tasks, beliefs }, { db }, id) => {
    const waits = isClaimable(state);
    const header = headerOf({ workspaceId: pick(["one", "other"], n), attempt: waits ? 0 : 1 });
    const message = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));
    const task = { header, updates: [{ ...message, state }], ...(wait && { wakeInMs: LATER_MS }) };
    const stored = submitBatch(db, id, [task]);
    if (!replicas.get(id)!.alive) {
      await expect(stored).rejects.toMatchObject({ reason: "REPLICA_EXPIRED" });
      return;
    }
    await stored;
    const { workspaceId, taskId, attempt } = header;
    tasks.set(taskId, {
      workspaceId,
      taskId,
      state,
      a2aState: TaskState.SUBMITTED,
      seq: 1,
      fence: 1,
      attempt,
      owner: waits ? undefined : id,
      waits: waits ? (wait ? "later" : "due") : undefined,
    });
    if (!waits) beliefs.push({ replica: id, taskId, fence: 1 });
  });

/** A replica goes on with what it believes to be its own. */
const goOn = (n: number, goal: Goal, wait: boolean) =>
  command(
    `goOn(${n}, ${goal}, ${wait})`,
    (model, real) => write(model, real, { ...pick(model.beliefs, n), goal, take: false, wait }),
    anyBelief,
  );

/** A replica takes a task over to write to it, as for a cancel or a client's next message. */
const takeOver = (n: number, t: number, goal: Goal, wait: boolean) =>
  command(
    `takeOver(${n}, ${t}, ${goal}, ${wait})`,
    (model, real) => {
      const { taskId, fence } = pick(model.tasks.values(), t);
      return write(model, real, { replica: pick(model.replicas.keys(), n), taskId, fence, goal, take: true, wait });
    },
    ({ tasks }) => tasks.size > 0,
  );

/** A replica would take over what another may have taken meanwhile. */
const takeOverLate = (n: number, goal: Goal) =>
  command(
    `takeOverLate(${n}, ${goal})`,
    (model, real) => write(model, real, { ...pick(model.beliefs, n), goal, take: true, wait: false }),
    anyBelief,
  );

const rescue = (n: number, limit: number) =>
  ofReplica(`rescue(${limit})`, n, async (model, { leases }, id) => {
    expectTaken(model, id, await leases.rescue(id, limit), orphaned(model), limit);
  });

const claim = (n: number, limit: number) =>
  ofReplica(`claim(${limit})`, n, async (model, { leases }, id) => {
    const got = await leases.claim(id, limit, { running: new Map(), last: "" });
    expectTaken(model, id, got, claimable(model), limit);
  });

/** All that waits, even for its client, has waited long enough. */
const passTime = command("passTime", async ({ tasks }, { db }) => {
  await raw(db, "update tasks set wake_at = clock_timestamp() - interval '1 s' where wake_at is not null");
  for (const [taskId, row] of tasks) if (row.waits) tasks.set(taskId, { ...row, waits: "due" });
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

/** Something to begin with: two replicas, and tasks in each state in which they are born. */
export async function begin(real: Real): Promise<Model> {
  const model: Model = { replicas: new Map(), tasks: new Map(), beliefs: [] };
  const births = INITIAL_STATES.map((state, i) => submit(i, state, false));
  for (const first of [register, register, ...births]) await first.run(model, real);
  return model;
}
