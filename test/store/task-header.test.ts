/** A task without its log is the same as with it. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createTaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";

describeEachBackend("the header of a task", (context) => {
  it("says what it holds, and the state that its log has brought it into", async () => {
    const replica = await registerReplica(context.db);
    const store = createTaskStore(context.db, { maxWaiting: 10, replicaId: () => replica });
    const of = { unit: "MONEY", units: 3, declared: 3, drawn: 0, chargesFailure: false, replicaId: replica } as const;
    const header = headerOf({
      leaseOwner: replica,
      holds: [{ key: "day/20260101T000000Z/DAILY.MONEY", ...of }],
      parent: { taskId: "parent", agentId: "agent", depth: 2 },
    });
    const { workspaceId, taskId, createdAt } = header;
    const message = create(MessageSchema, { messageId: "1", role: Role.USER });
    await store.submit({ header, updates: [{ ...messageUpdate(message), state: EngineState.ASSIGNED }] });
    const loaded = await store.load(workspaceId, taskId);
    const seen = await store.header(workspaceId, taskId);
    expect(seen).toEqual({ header: loaded!.header, access: "write", state: EngineState.ASSIGNED });
    const ended = statusUpdate(header, { state: TaskState.COMPLETED, timestamp: timestampFromDate(createdAt) });
    const append = { workspaceId, taskId, expectedSeq: 1, fence: 1, updates: [ended], at: createdAt };
    await store.append(append);
    expect(await store.header(workspaceId, taskId)).toMatchObject({ state: EngineState.COMPLETED });
    expect(await store.header("other", taskId)).toBeUndefined();
    await store.close();
  });
});
