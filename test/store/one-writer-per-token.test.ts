/** A fencing token has one writer: who writes under it is who has the task. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { beforeEach, expect, it } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";

describeEachBackend("a token", (context) => {
  let replica: string;
  let store: TaskStore;
  beforeEach(async () => {
    replica = await registerReplica(context.db);
    store = createTaskStore(context.db, { maxWaiting: 100, replicaId: () => replica });
    return () => store.close();
  });

  const said = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));

  async function submitted() {
    const header = headerOf({ leaseOwner: replica });
    await store.submit({ header, updates: [{ ...said, state: EngineState.ASSIGNED }] });
    return header;
  }

  const rowAfter = (header: ReturnType<typeof headerOf>, seq: number, fence: number) => ({
    workspaceId: header.workspaceId,
    taskId: header.taskId,
    expectedSeq: seq,
    fence,
    updates: [said],
    at: new Date(),
  });

  it("is not written under by a replica that goes on under another name", async () => {
    const header = await submitted();
    replica = await registerReplica(context.db);
    expect(await store.append(rowAfter(header, 1, 1))).toBeUndefined();
    expect(await store.append({ ...rowAfter(header, 1, 1), updates: [], disclose: true })).toMatchObject({ fence: 1 });
    expect(await store.append({ ...rowAfter(header, 1, 1), take: true })).toMatchObject({
      fence: 2,
      leaseOwner: replica,
    });
  });

  it("is new where nobody has the task, which still nobody has when it goes on waiting", async () => {
    const header = await submitted();
    const asks = statusUpdate(header, {
      state: TaskState.INPUT_REQUIRED,
      timestamp: timestampFromDate(new Date(1_000)),
    });
    expect(await store.append({ ...rowAfter(header, 1, 1), updates: [asks] })).toMatchObject({ leaseOwner: undefined });
    const added = await store.append({ ...rowAfter(header, 2, 1), take: true });
    expect(added).toMatchObject({ fence: 2, leaseOwner: undefined });
  });
});
