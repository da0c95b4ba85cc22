/** How many chunks an agent gets rid of while the database stands still. */
import { create } from "@bufbuild/protobuf";
import { beforeAll, expect, it } from "vitest";
import { MessageSchema, Role, StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate } from "../../src/domain/agent-report.ts";
import { foldTask } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createTaskReporter } from "../../src/services/task-reporter.ts";
import { createTaskWriter } from "../../src/services/task-writer.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend, silent } from "../store/backends.ts";

const never = new AbortController().signal;
const turn = () => new Promise<"waits">((resolve) => setImmediate(resolve, "waits"));

describeEachBackend("chunks that cannot be stored yet", (context) => {
  let store: TaskStore;
  let replica: string;
  beforeAll(async () => {
    replica = await registerReplica(context.db);
    store = createTaskStore(context.db, { maxWaiting: 1000, replicaId: () => replica });
    return () => store.close();
  });

  it.each([
    ["of one character", 1000, { parts: [{ content: { case: "text" as const, value: "x" } }] }, undefined],
    ["without parts", 1000, { parts: [] }, undefined],
    ["without parts, whose metadata weighs 100 kB", 12, { parts: [] }, { blob: "m".repeat(100_000) }],
    ["of 100 kB", 12, { parts: [{ content: { case: "text" as const, value: "x".repeat(100_000) } }] }, undefined],
  ])("are held in a bounded number when they are %s", async (_what, most, artifact, metadata) => {
    const gate = Promise.withResolvers<void>();
    const slow: TaskStore = { ...store, append: (append) => gate.promise.then(() => store.append(append)) };
    const header = headerOf({ leaseOwner: replica, upstreamTaskId: "theirs" });
    const said = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));
    const hello = { ...said, state: EngineState.ASSIGNED };
    await store.submit({ header, updates: [hello] });
    const runtime = systemRuntime();
    const deps = { store: slow, runtime, log: silent, replicaId: () => replica };
    const writer = createTaskWriter(
      { ...deps, hub: createUpdateHub(), gatherMs: 1, inputTimeoutMs: 60_000 },
      foldTask({ ...header }, [{ ...hello, seq: 1 }]),
    );
    const reporter = createTaskReporter({ ...deps, onNamed: () => {}, onFailure: () => {} }, writer, never);
    const chunk = create(StreamResponseSchema, {
      payload: {
        case: "artifactUpdate",
        value: {
          taskId: "theirs",
          append: true,
          artifact: { artifactId: "a", ...artifact },
          ...(metadata && { metadata }),
        },
      },
    });
    let held = 0;
    let last: Promise<"taken" | "waits">;
    do {
      held += 1;
      last = reporter.report(chunk, false).then(() => "taken");
    } while (held <= most && (await Promise.race([last, turn()])) === "taken");
    expect(held).toBeLessThanOrEqual(most);
    // More than one, or nothing would be gathered.
    expect(held).toBeGreaterThan(2);
    gate.resolve();
    await last;
    expect(writer.image.seq).toBe(held + 1);
  });
});
