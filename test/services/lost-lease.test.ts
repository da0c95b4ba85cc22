/** A replica that was declared dead, and the writers that it still has. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { beforeEach, expect, it } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { foldTask, type NewUpdate, type TaskImage } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createTaskWriter, LeaseLostError, type TaskWriter } from "../../src/services/task-writer.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "../store/backends.ts";

const never = new AbortController().signal;
const { WORKING, INPUT_REQUIRED } = TaskState;

describeEachBackend("a writer", (context) => {
  let replica: string;
  let store: TaskStore;
  let writer: TaskWriter;
  beforeEach(async () => {
    replica = await registerReplica(context.db);
    const replicaId = () => replica;
    store = createTaskStore(context.db, { maxWaiting: 100, replicaId });
    const header = headerOf({ leaseOwner: replica });
    const said = create(MessageSchema, { messageId: "1", role: Role.USER });
    const hello: NewUpdate = { ...messageUpdate(said), state: EngineState.ASSIGNED };
    await store.submit({ header, updates: [hello] });
    const [hub, runtime] = [createUpdateHub(), systemRuntime()];
    const deps = { store, hub, runtime, gatherMs: 0, inputTimeoutMs: 60_000, replicaId };
    writer = createTaskWriter(deps, foldTask({ ...header }, [{ ...hello, seq: 1 }]));
    return () => store.close();
  });

  const status = (state: TaskState) => (image: TaskImage) => [
    statusUpdate(image.header, { state, timestamp: timestampFromDate(new Date()) }),
  ];

  it("writes no more when its replica goes on under another name, but shows the task to those who ask", async () => {
    replica = await registerReplica(context.db);
    await expect(writer.append(status(WORKING), {}, never)).rejects.toThrow(LeaseLostError);
    expect(await writer.append(() => [], {}, never)).toBe("stored");
    expect(writer.image.seq).toBe(1);
  });

  it("has lost a task that waits for its client, and says why to who wants to take it", async () => {
    await writer.append(status(INPUT_REQUIRED), {}, never);
    await createLeaseRepository(context.db).release(replica);
    await expect(writer.append(status(WORKING), {}, never)).rejects.toThrow(LeaseLostError);
    const taken = writer.append(status(WORKING), { take: true }, never);
    await expect(taken).rejects.toMatchObject({ reason: "REPLICA_EXPIRED" });
  });
});
