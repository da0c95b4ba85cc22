/** A log is read by pages of a bounded weight. */
import { create } from "@bufbuild/protobuf";
import { beforeAll, expect, it } from "vitest";
import { MessageSchema, Role } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate } from "../../src/domain/agent-report.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { watchTask } from "../../src/services/watch.ts";
import type { TaskKey } from "../../src/store/task-reads.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";

const MIB = 1024 * 1024;
const never = new AbortController().signal;
const heavy = (bytes: number) => {
  const parts = [{ content: { case: "text" as const, value: "x".repeat(bytes) } }];
  return messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER, parts }));
};

describeEachBackend("a heavy log", (context) => {
  let store: TaskStore;
  let replica: string;
  beforeAll(async () => {
    replica = await registerReplica(context.db);
    store = createTaskStore(context.db, { maxWaiting: 100, replicaId: () => replica });
    return () => store.close();
  });

  /** A task whose log has rows of these weights after its first. */
  async function written(...weights: number[]) {
    const header = headerOf({ leaseOwner: replica });
    const { workspaceId, taskId, fence } = header;
    await store.submit({ header, updates: [{ ...heavy(1), state: EngineState.ASSIGNED }] });
    for (const [i, bytes] of weights.entries()) {
      const append = { workspaceId, taskId, fence, expectedSeq: i + 1, updates: [heavy(bytes)], at: new Date() };
      expect(await store.append(append)).toBeDefined();
    }
    return { workspaceId, taskId };
  }

  async function read({ workspaceId, taskId }: TaskKey, after: number, limit = 256) {
    const { updates, more } = await store.readUpdates(workspaceId, taskId, after, limit);
    return { seqs: updates.map(({ seq }) => seq), more };
  }

  it("is cut at about 4 MiB, and says that there is more", async () => {
    const task = await written(...Array<number>(6).fill(MIB));
    expect(await read(task, 1)).toEqual({ seqs: [2, 3, 4, 5], more: true });
    expect(await read(task, 5)).toEqual({ seqs: [6, 7], more: false });
    expect(await read(task, 1, 2)).toEqual({ seqs: [2, 3], more: true });
    expect(await read(task, 7)).toEqual({ seqs: [], more: false });
  });

  it("gives a row that is heavier than a page alone", async () => {
    const task = await written(5 * MIB, 1);
    expect(await read(task, 1)).toEqual({ seqs: [2], more: true });
    expect(await read(task, 2)).toEqual({ seqs: [3], more: false });
  });

  it("is read by a watcher to its end, a page at a time", async () => {
    const task = await written(...Array<number>(20).fill(MIB));
    const deps = { store, hub: createUpdateHub(), runtime: systemRuntime() };
    const updates = watchTask(deps, { ...task, after: 0, signal: never });
    const seen: number[] = [];
    while (seen.length < 21) seen.push((await updates.next()).value.seq);
    await updates.return(undefined as never);
    expect(seen).toEqual(Array.from({ length: 21 }, (_, i) => i + 1));
  });
});
