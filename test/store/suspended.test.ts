/** What belongs to a suspended workspace is left where it is, by all that takes for all workspaces, and taken once it is resumed. */
import { create } from "@bufbuild/protobuf";
import { beforeEach, expect, it } from "vitest";
import { TaskPushNotificationConfigSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createAgentQueueRepository } from "../../src/store/agent-queue-repository.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createPushConfigRepository } from "../../src/store/push-config-repository.ts";
import { createPushQueue } from "../../src/store/push-queue.ts";
import { createWorkspaceRepository } from "../../src/store/workspace-repository.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { describeEachBackend } from "./backends.ts";
import { emptyTables, raw } from "./tables.ts";

const unrecorded = { byWorkspaceId: "default", record: () => async () => {} };
const nobody = { running: new Map<string, number>(), last: "" };

describeEachBackend("a suspended workspace", (ctx) => {
  let replica: string;
  beforeEach(async () => {
    await emptyTables(ctx.db);
    await raw(ctx.db, "insert into workspaces (workspace_id) values ('acme'), ('bolt') on conflict do nothing");
    await raw(ctx.db, "update workspaces set suspended_at = null, suspend_reason = ''");
    replica = await registerReplica(ctx.db);
  });

  const workspaces = () => createWorkspaceRepository(ctx.db);
  const suspend = (id: string) => workspaces().suspend(id, "", unrecorded);
  const resume = (id: string) => workspaces().resume(id, unrecorded);

  /** Tasks that are due, the first of them the longest; `atAgent`: they wait for room at their agent instead. */
  const queue = (workspaceId: string, count: number, { atAgent = false, state = EngineState.QUEUED as number } = {}) =>
    raw(
      ctx.db,
      `with tasks as (
         insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status, status_at, last_seq,
                            disclosed, created_at, priority, wake_at, deadline_at, attempt)
         select $1, $1 || '-' || n, 'c', 'agent', $3::int, case $3::int when 6 then 6 when 10 then 2 else 1 end, '', now(), 1, true, now(), 2,
                case when $4 then timestamptz '9999-12-31 00:00:00Z' else now() - ($2 - n + 1) * interval '1 ms' end, null, 0
         from generate_series(1, $2::int) as n returning *
       )
       insert into task_updates (workspace_id, task_id, seq, kind, body, state, created_at, fence, attempt)
       select workspace_id, task_id, 1, 1, '', state, now(), 1, 0 from tasks`,
      [workspaceId, count, state, atAgent],
    );
  const spaces = (taken: readonly { workspaceId: string }[]) =>
    [...new Set(taken.map(({ workspaceId }) => workspaceId))].sort();

  it("keeps its due tasks, however many are before those of others, and fills nobody's queue", async () => {
    const leases = createLeaseRepository(ctx.db);
    await queue("acme", 1_200);
    await queue("bolt", 3);
    await suspend("acme");
    expect(await leases.waiting(10_000)).toBe(3);
    const taken = await leases.claim(replica, 10, nobody);
    expect(taken.map(({ taskId }) => taskId)).toEqual(["bolt-1", "bolt-2", "bolt-3"]);
    expect(await leases.claim(replica, 10, nobody)).toEqual([]);
    await resume("acme");
    expect(await leases.waiting(10_000)).toBe(1_200);
    expect(await leases.claim(replica, 10, nobody)).toHaveLength(10);
  });

  it("keeps attempts that are due, and tasks that have waited too long for somebody", async () => {
    const leases = createLeaseRepository(ctx.db);
    await queue("acme", 1, { state: EngineState.SCHEDULED });
    await queue("bolt", 1, { state: EngineState.INPUT_REQUIRED });
    await suspend("acme");
    await suspend("bolt");
    expect(await leases.claim(replica, 10, nobody)).toEqual([]);
    await resume("acme");
    await resume("bolt");
    expect(spaces(await leases.claim(replica, 10, nobody))).toEqual(["acme", "bolt"]);
  });

  it("has what was under way taken over where its replica dies", async () => {
    const leases = createLeaseRepository(ctx.db);
    await queue("acme", 1);
    await leases.claim(replica, 1, nobody);
    await suspend("acme");
    await leases.release(replica);
    const taken = await leases.rescue(await registerReplica(ctx.db), 10);
    expect(spaces(taken)).toEqual(["acme"]);
  });

  it("keeps its tasks at their agents", async () => {
    const agents = createAgentQueueRepository(ctx.db);
    await queue("acme", 2, { atAgent: true });
    await queue("bolt", 2, { atAgent: true });
    await suspend("acme");
    const rooms = ["acme", "bolt"].map((workspaceId) => ({
      workspaceId,
      agentId: "agent",
      units: 5,
      capabilities: new Map<string, number>(),
    }));
    expect(spaces(await agents.claim(replica, rooms))).toEqual(["bolt"]);
    await resume("acme");
    expect(spaces(await agents.claim(replica, rooms))).toEqual(["acme"]);
  });

  it("has its webhooks put off, in nobody's way, and due when it is resumed", async () => {
    const push = createPushQueue(ctx.db);
    const configs = createPushConfigRepository(ctx.db);
    const begin = async (workspaceId: string, count: number) => {
      await queue(workspaceId, count);
      for (let n = 1; n <= count; n++) {
        const config = create(TaskPushNotificationConfigSchema, {
          taskId: `${workspaceId}-${n}`,
          id: "hook",
          url: "http://hook/",
        });
        await configs.put(workspaceId, config, { now: new Date(), most: 10, from: "now" });
        await push.mark([{ workspaceId, taskId: config.taskId, seq: 2 }]);
      }
    };
    await begin("acme", 6);
    await begin("bolt", 2);
    await suspend("acme");
    const first = await push.claim(replica, 4, []);
    expect(spaces(first)).toEqual(["bolt"]);
    expect(first).toHaveLength(2);
    // They are not looked at again at once.
    expect(await push.untilDue(600_000)).toBeGreaterThan(1_000);
    expect(await push.claim(replica, 4, first)).toEqual([]);
    // What is new meanwhile brings none of them forward.
    await push.mark([{ workspaceId: "acme", taskId: "acme-1", seq: 3 }]);
    expect(await push.claim(replica, 4, first)).toEqual([]);
    await resume("acme");
    const next = await push.claim(replica, 10, first);
    expect(next.map(({ taskId }) => taskId).sort()).toEqual(Array.from({ length: 6 }, (_, i) => `acme-${i + 1}`));
    expect(next.find(({ taskId }) => taskId === "acme-1")!.reach).toBe(3);
    await push.close();
  });
});
