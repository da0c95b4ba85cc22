/** What follows when an attempt has failed, while a client says more at the same moment. */
import { create } from "@bufbuild/protobuf";
import { beforeAll, expect, it } from "vitest";
import { MessageSchema, Role } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate } from "../../src/domain/agent-report.ts";
import { foldTask, type NewUpdate } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { AgentCallError } from "../../src/services/agent-port.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createTaskAttempts } from "../../src/services/task-attempts.ts";
import { createTaskReporter } from "../../src/services/task-reporter.ts";
import { createTaskWriter } from "../../src/services/task-writer.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend, silent } from "../store/backends.ts";

const never = new AbortController().signal;

describeEachBackend("an attempt that failed", (context) => {
  let store: TaskStore;
  let replica: string;
  beforeAll(async () => {
    replica = await registerReplica(context.db);
    store = createTaskStore(context.db, { maxWaiting: 100, replicaId: () => replica });
    return () => store.close();
  });

  async function begun() {
    const runtime = systemRuntime();
    const header = headerOf({ leaseOwner: replica });
    const said = (messageId: string) => messageUpdate(create(MessageSchema, { messageId, role: Role.USER }));
    const hello: NewUpdate = { ...said("first"), state: EngineState.ASSIGNED };
    await store.submit({ header, updates: [hello] });
    const deps = { store, runtime, log: silent, replicaId: () => replica };
    const writer = createTaskWriter(
      { ...deps, hub: createUpdateHub(), gatherMs: 0, inputTimeoutMs: 60_000 },
      foldTask({ ...header }, [{ ...hello, seq: 1 }]),
    );
    const rules = { most: 3, minPauseMs: 1, maxPauseMs: 1, safeToRepeat: true, onPause: () => {} };
    const reporter = createTaskReporter({ ...deps, onNamed: () => {}, onFailure: () => {} }, writer, never);
    return {
      writer,
      said,
      attempts: createTaskAttempts(
        { ...deps, rules, isWanted: () => true, isHedged: async () => false },
        writer,
        reporter,
        never,
      ),
    };
  }

  const unreachable = () => new AgentCallError("unreachable", "The agent could not be reached.");

  it("is followed by another, which waits for its time", async () => {
    const { writer, attempts } = await begun();
    await attempts.notBegun(unreachable());
    expect(writer.image).toMatchObject({ state: EngineState.SCHEDULED, header: { leaseOwner: undefined } });
  });

  it.each(["notBegun", "failed", "ownerDied"] as const)(
    "is the last (%s) when the client has said more by then, which another would not say to the agent",
    async (how) => {
      const { writer, said, attempts } = await begun();
      const told = writer.append(() => [said("second")], {}, never);
      await attempts[how](unreachable());
      await told;
      expect(writer.image.task.history).toHaveLength(2);
      expect(writer.image.state).toBe(EngineState.FAILED);
    },
  );
});
