import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { beforeAll, beforeEach, expect, it } from "vitest";
import { TaskPushNotificationConfigSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import {
  createPushConfigRepository,
  type PushConfigRepository,
  type PushFrom,
} from "../../src/store/push-config-repository.ts";
import { createPushQueue, type PushClaim, type PushOutcome, type PushQueue } from "../../src/store/push-queue.ts";
import { writeRow, writeTask } from "../fixtures/log-rows.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { describeEachBackend } from "./backends.ts";

const AT_ONCE = { pauseMs: 0 };

describeEachBackend("the queue of push notifications", (context) => {
  let queue: PushQueue;
  let configs: PushConfigRepository;
  let replica: string;

  beforeAll(() => {
    queue = createPushQueue(context.db);
    configs = createPushConfigRepository(context.db);
    return () => queue.close();
  });
  beforeEach(async () => {
    await context.db.kysely.deleteFrom("push_configs").execute();
    replica = await registerReplica(context.db);
  });

  const put = (taskId: string, id: string, from: PushFrom = "now") =>
    configs.put("default", create(TaskPushNotificationConfigSchema, { taskId, id, url: `http://${id}/` }), {
      now: new Date(),
      most: 100,
      from,
    });
  const die = (id: string) => createLeaseRepository(context.db).release(id);
  const mark = (taskId: string, seq: number) => queue.mark([{ workspaceId: "default", taskId, seq }]);
  const settle = (claim: PushClaim, posted: number, verdict: PushOutcome["verdict"], tries = 0) =>
    queue.settle({ ...claim, posted, tries, verdict });

  /** A task, the next row of its log. */
  async function grow(taskId: string, seq: number): Promise<void> {
    await writeRow(context.db.kysely, taskId, seq);
    await context.db.kysely.updateTable("tasks").set({ last_seq: seq }).where("task_id", "=", taskId).execute();
  }

  /** A task with these configs, which have row 2 to post. */
  async function begun(...ids: string[]): Promise<string> {
    const taskId = await writeTask(context.db.kysely);
    for (const id of ids) await put(taskId, id);
    await grow(taskId, 2);
    await mark(taskId, 2);
    return taskId;
  }

  it("gives a config what comes after it, or what came after its task's first message", async () => {
    const taskId = await begun("early");
    await put(taskId, "now", "now");
    await put(taskId, "start", "start");
    const claims = await queue.claim(replica, 9, []);
    expect(claims.map(({ configId, posted, reach }) => [configId, posted, reach]).sort()).toEqual([
      ["early", 1, 2],
      ["start", 1, 2],
    ]);
    // A task that has only begun has nothing to tell.
    await put(await writeTask(context.db.kysely), "start", "start");
    expect(await queue.claim(replica, 9, claims)).toEqual([]);
  });

  it("claims first what has waited longest, and what one has no other gets", async () => {
    for (const id of ["a", "b", "c", "d", "e"]) await begun(id);
    const other = await registerReplica(context.db);
    const first = await queue.claim(replica, 2, []);
    expect(first.map(({ configId }) => configId).sort()).toEqual(["a", "b"]);
    // Back to the end of the queue.
    await settle(first[0]!, 1, AT_ONCE);
    const second = await queue.claim(other, 3, []);
    expect(second.map(({ configId }) => configId).sort()).toEqual(["c", "d", "e"]);
    expect(await queue.untilDue(60_000)).toBeGreaterThanOrEqual(0);
    expect((await queue.claim(other, 3, second)).map(({ configId }) => configId)).toEqual([first[0]!.configId]);
    expect(await queue.claim(other, 3, [])).toHaveLength(3);
  });

  it("hands each config to one of many that claim, while it is marked and settled", async () => {
    const ids = Array.from({ length: 40 }, (_, i) => `hook-${i}`);
    const tasks = [await begun(...ids), await begun(...ids)];
    const replicas = await Promise.all(Array.from({ length: 4 }, () => registerReplica(context.db)));
    const claimed = await Promise.all([
      ...replicas.map((id) => queue.claim(id, 20, [])),
      ...tasks.map((taskId) => mark(taskId, 3).then(() => [])),
    ]);
    // What was just being marked is left for later.
    claimed.push(await queue.claim(await registerReplica(context.db), 80, []));
    const names = claimed.flat().map(({ taskId, configId }) => `${taskId} ${configId}`);
    expect(new Set(names).size).toBe(80);
    expect(names).toHaveLength(80);
    const settled = await Promise.all([
      ...claimed.flat().map((claim) => settle(claim, 2, "go-on")),
      ...tasks.map((taskId) => mark(taskId, 4)),
    ]);
    expect(settled.filter((one) => one?.goesOn)).toHaveLength(80);
  });

  it("takes over what a dead replica had, and hears no more of it", async () => {
    const taskId = await begun("hook");
    const [old] = await queue.claim(replica, 1, []);
    const heir = await registerReplica(context.db);
    expect(await queue.claim(heir, 1, [])).toEqual([]);
    await die(replica);
    expect(await queue.claim(replica, 1, [])).toEqual([]);
    const [mine] = await queue.claim(heir, 1, []);
    expect(await settle(old!, 2, "give-up")).toBeUndefined();
    await mark(taskId, 3);
    // Twice, as when the first answer was lost.
    for (const _ of [1, 2]) expect(await settle(mine!, 2, "go-on")).toEqual({ goesOn: true, reach: 3 });
    expect(await settle(mine!, 3, "go-on")).toEqual({ goesOn: false, reach: 3 });
  });

  it("forgets who posts to a config that is deleted or replaced, also by one of the same words", async () => {
    const taskId = await begun("hook");
    const [first] = await queue.claim(replica, 1, []);
    await configs.remove("default", taskId, "hook");
    await put(taskId, "hook");
    expect(await settle(first!, 2, "give-up")).toBeUndefined();
    await grow(taskId, 3);
    await mark(taskId, 3);
    const [second] = await queue.claim(replica, 1, []);
    expect(second).toMatchObject({ posted: 2, reach: 3, tries: 0 });
    await put(taskId, "hook");
    expect(await settle(second!, 3, "go-on")).toBeUndefined();
    expect(await queue.claim(replica, 1, [])).toEqual([]);
  });

  it("gives up a config until another is put in its place, and counts the tries of each update", async () => {
    const taskId = await begun("hook");
    for (const tries of [1, 2]) {
      const [claim] = await queue.claim(replica, 1, []);
      expect(claim?.tries).toBe(tries - 1);
      expect(await settle(claim!, 1, AT_ONCE, tries)).toMatchObject({ goesOn: false });
    }
    const [last] = await queue.claim(replica, 1, []);
    await settle(last!, 1, "give-up", 3);
    await mark(taskId, 5);
    expect(await queue.claim(replica, 1, [])).toEqual([]);
    await put(taskId, "hook");
    await mark(taskId, 5);
    expect(await queue.claim(replica, 1, [])).toMatchObject([{ tries: 0, reach: 5 }]);
  });

  it("posts everything at least once and in order, whoever dies or forgets", async () => {
    const action = fc.record({
      what: fc.constantFrom(
        "grow",
        "grow",
        "mark",
        "claim",
        "claim",
        "post",
        "post",
        "post",
        "die",
        "forget",
        "put",
        "remove",
      ),
      which: fc.nat(5),
      how: fc.constantFrom<PushOutcome["verdict"]>("go-on", "go-on", AT_ONCE),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
        await context.db.kysely.deleteFrom("push_configs").execute();
        const tasks = [await writeTask(context.db.kysely), await writeTask(context.db.kysely)];
        const last = [1, 1];
        const replicas = [await registerReplica(context.db), await registerReplica(context.db)];
        const held: PushClaim[][] = [[], []];
        /** The model: what each config must get after which number, and what it got. */
        const living = new Map<string, { task: number; after: number; got: number[] }>();
        const tokens = new Map<string, number>();
        const nameOf = (claim: PushClaim) => `${tasks.indexOf(claim.taskId)} ${claim.configId}`;

        async function claim(by: number, limit: number): Promise<PushClaim[]> {
          const claims = await queue.claim(replicas[by]!, limit, held[by]!);
          for (const one of claims) tokens.set(nameOf(one), one.claim);
          return claims;
        }
        async function post(by: number, at: number, verdict: PushOutcome["verdict"]): Promise<void> {
          const [one] = held[by]!.splice(at, 1);
          if (!one) return;
          const update = await queue.next(one);
          const mine = tokens.get(nameOf(one)) === one.claim;
          if (update && mine) living.get(nameOf(one))?.got.push(update.seq);
          const posted = update?.seq ?? one.reach;
          const settled = await settle(one, posted, verdict);
          expect(settled !== undefined).toBe(mine);
          if (settled?.goesOn) held[by]!.push({ ...one, posted, reach: settled.reach });
        }
        for (const { what, which, how } of actions) {
          const [task, by] = [which % 2, which % 2];
          const name = `${task} ${which}`;
          if (what === "grow") await grow(tasks[task]!, ++last[task]!);
          else if (what === "mark") await mark(tasks[task]!, Math.max(1, last[task]! - Math.floor(which / 3)));
          else if (what === "claim") held[by]!.push(...(await claim(by, which + 1)));
          else if (what === "forget") await claim(by, which + 1);
          else if (what === "post") await post(by, which % Math.max(1, held[by]!.length), how);
          else if (what === "die") {
            await die(replicas[by]!);
            replicas[by] = await registerReplica(context.db);
          } else {
            if (what === "put") await put(tasks[task]!, `${which}`);
            else await configs.remove("default", tasks[task]!, `${which}`);
            tokens.delete(name);
            if (what === "put") living.set(name, { task, after: last[task]!, got: [] });
            else living.delete(name);
          }
        }
        for (const by of [0, 1]) await mark(tasks[by]!, last[by]!);
        await die(replicas[1]!);
        for (let idle = false; !idle; ) {
          const claims = await claim(0, 100);
          held[0]!.push(...claims);
          idle = held[0]!.length === 0;
          while (held[0]!.length > 0) await post(0, 0, "go-on");
        }
        for (const { task, after, got } of living.values()) {
          const due = Array.from({ length: last[task]! - after }, (_, i) => after + 1 + i);
          // With the repetitions that follow a lost claim taken away.
          const firsts = got.filter((seq, i) => got.indexOf(seq) === i);
          expect(firsts).toEqual(due);
          for (const [i, seq] of got.entries()) expect(seq).toBeLessThanOrEqual((got[i - 1] ?? after) + 1);
        }
      }),
      { numRuns: 40, endOnFailure: true },
    );
  });
});
