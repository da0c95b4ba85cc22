/** Updates that are held back of a task, as long as the policy has not decided about them. */
import { create } from "@bufbuild/protobuf";
import { beforeEach, expect, it } from "vitest";
import { StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { NewUpdate } from "../../src/domain/task-log.ts";
import { createHeldUpdates } from "../../src/store/held-updates.ts";
import { createTaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";
import { emptyTables, raw } from "./tables.ts";

const NAMES = { taskId: "theirs-1", contextId: "theirs" };
const chunk = (text: string, append = true) =>
  create(StreamResponseSchema, {
    payload: {
      case: "artifactUpdate",
      value: {
        ...NAMES,
        append,
        artifact: { artifactId: "a", parts: [{ content: { case: "text", value: text } }] },
      },
    },
  });

describeEachBackend("held updates", (context) => {
  beforeEach(() => emptyTables(context.db));

  it("are held for who has the task, once, and for nobody else", async () => {
    const replica = await registerReplica(context.db);
    const store = createTaskStore(context.db, { maxWaiting: 10, replicaId: () => replica });
    const held = createHeldUpdates(context.db);
    const header = headerOf({ leaseOwner: replica });
    const { workspaceId, taskId } = header;
    const hello: NewUpdate = { kind: "message", body: create(StreamResponseSchema), state: 9 };
    await store.submit({ header, updates: [hello] });
    const updates: NewUpdate[] = [{ kind: "artifact", body: chunk("one"), cause: "said" }];
    const holder = { workspaceId, taskId, fence: 1, replicaId: replica };
    expect(await held.hold(holder, 1, updates)).toBe(true);
    expect(await held.hold(holder, 1, updates)).toBe(true);
    expect(await held.read(workspaceId, taskId)).toEqual(updates);
    expect(await held.hold({ ...holder, fence: 2 }, 2, updates)).toBe(false);
    expect(await held.hold({ ...holder, replicaId: "other" }, 2, updates)).toBe(false);
    expect(await held.read("other", taskId)).toEqual([]);
    await store.close();
  });

  it.each(["attempt = attempt + 1", "agent_id = 'another'"])("are dropped with %s", async (change) => {
    const replica = await registerReplica(context.db);
    const store = createTaskStore(context.db, { maxWaiting: 10, replicaId: () => replica });
    const held = createHeldUpdates(context.db);
    const header = headerOf({ leaseOwner: replica });
    const { workspaceId, taskId } = header;
    await store.submit({ header, updates: [{ kind: "message", body: create(StreamResponseSchema), state: 9 }] });
    const holder = { workspaceId, taskId, fence: 1, replicaId: replica };
    await held.hold(holder, 1, [{ kind: "artifact", body: chunk("one") }]);
    await raw(context.db, "update tasks set fence = fence + 1 where task_id = $1", [taskId]);
    expect(await held.read(workspaceId, taskId)).toHaveLength(1);
    await raw(context.db, `update tasks set ${change} where task_id = $1`, [taskId]);
    expect(await held.read(workspaceId, taskId)).toEqual([]);
    await store.close();
  });
});
