/** A task that goes to another agent: what its row says then, and when the statement refuses. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { beforeAll, expect, it } from "vitest";
import { MessageSchema, Role, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import type { NewUpdate, TaskHeader } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import type { Append } from "../../src/store/append-batch.ts";
import { readDecision } from "../../src/store/route-reads.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";

const at = new Date("2026-01-01T00:00:01.000Z");
const { SCHEDULED, WORKING, ASSIGNED } = EngineState;

describeEachBackend("a task that goes to another agent", (context) => {
  let store: TaskStore;
  let replica: string;
  beforeAll(async () => {
    replica = await registerReplica(context.db);
    store = createTaskStore(context.db, { maxWaiting: 10_000, replicaId: () => replica });
    return () => store.close();
  });

  const moved = (state: EngineState): NewUpdate => ({
    kind: "transition",
    body: create(StreamResponseSchema),
    state,
    cause: "a test",
  });
  const status = (header: TaskHeader, state: TaskState) =>
    statusUpdate(header, { state, timestamp: timestampFromDate(at) }, "a test");
  const to = (agentId: string, more: Partial<Append["reroute"]> = {}) => ({
    agentId,
    capabilityId: undefined,
    decision: new Uint8Array([7]),
    ...more,
  });

  async function begun(changes: Partial<TaskHeader> = {}): Promise<TaskHeader> {
    const header = headerOf({ leaseOwner: replica, upstreamContextId: "theirs", ...changes });
    const hello = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));
    await store.submit({ header, updates: [{ ...hello, state: ASSIGNED }], decision: new Uint8Array([1]) });
    return header;
  }
  const appendTo = ({ workspaceId, taskId, fence }: TaskHeader, expectedSeq: number, append: Partial<Append>) =>
    store.append({ workspaceId, taskId, fence, expectedSeq, at, updates: [], ...append });
  const headerIn = async ({ taskId }: TaskHeader) => (await store.load("default", taskId))!.header;

  it("has its agent, capability, context and decision from the append, and remembers who had it and for what", async () => {
    const header = await begun({ capabilityId: "translate" });
    const neighbour = await begun({ capabilityId: "translate" });
    await appendTo(header, 1, { updates: [status(header, TaskState.WORKING)], upstreamTaskId: "first" });
    const first = to("second", { capabilityId: "rewrite", upstreamContextId: "its own" });
    await Promise.all([
      appendTo(header, 2, { updates: [moved(SCHEDULED)], forgetUpstream: true, reroute: first }),
      appendTo(neighbour, 1, { updates: [status(neighbour, TaskState.WORKING)] }),
    ]);
    expect(await headerIn(header)).toMatchObject({
      agentId: "second",
      capabilityId: "rewrite",
      upstreamTaskId: undefined,
      upstreamContextId: "its own",
      origin: { agentIds: ["agent"], capabilityId: "translate" },
    });
    expect([...(await readDecision(context.db, "default", header.taskId))!]).toEqual([7]);
    await appendTo(header, 3, { updates: [moved(SCHEDULED)], forgetUpstream: true, reroute: to("third") });
    expect(await headerIn(header)).toMatchObject({
      agentId: "third",
      capabilityId: undefined,
      upstreamContextId: undefined,
      origin: { agentIds: ["agent", "second"], capabilityId: "translate" },
    });
    expect(await headerIn(neighbour)).toMatchObject({ agentId: "agent", capabilityId: "translate" });
    expect(await headerIn(neighbour)).not.toHaveProperty("origin");
    expect([...(await readDecision(context.db, "default", neighbour.taskId))!]).toEqual([1]);
  });

  it("may come with the name that the next agent has given it", async () => {
    const header = await begun();
    await appendTo(header, 1, { updates: [status(header, TaskState.WORKING)], upstreamTaskId: "first" });
    const reroute = to("second", { upstreamTaskId: "second's" });
    const done = await appendTo(header, 2, { updates: [moved(WORKING)], forgetUpstream: true, take: true, reroute });
    expect(done).toMatchObject({ fence: 2, leaseOwner: replica });
    expect(await headerIn(header)).toMatchObject({ agentId: "second", upstreamTaskId: "second's" });
  });

  it("is found through the agents that have had it, and the capability that it was given to", async () => {
    const contextId = "found";
    const header = await begun({ capabilityId: "translate", contextId });
    await appendTo(header, 1, {
      updates: [moved(SCHEDULED)],
      forgetUpstream: true,
      reroute: to("second", { capabilityId: "rewrite" }),
    });
    const found = async (filter: object) =>
      (await store.list("default", { contextId, ...filter }, { limit: 9, viewer: undefined })).total;
    expect(await found({ agentId: "agent" })).toBe(1);
    expect(await found({ agentId: "second" })).toBe(1);
    expect(await found({ agentId: "third" })).toBe(0);
    expect(await found({ capabilityId: "translate" })).toBe(1);
    expect(await found({ capabilityId: "rewrite" })).toBe(0);
  });

  it.each<[string, Partial<Append>, TaskState]>([
    ["keeps its name", { updates: [moved(SCHEDULED)] }, TaskState.WORKING],
    ["is given no row", { forgetUpstream: true }, TaskState.WORKING],
    ["waits for its client", { updates: [moved(EngineState.INPUT_REQUIRED)], forgetUpstream: true }, TaskState.WORKING],
    [
      "is canceled by the same rows",
      { updates: [moved(EngineState.CANCELED)], forgetUpstream: true },
      TaskState.WORKING,
    ],
    ["has ended", { updates: [moved(WORKING)], forgetUpstream: true }, TaskState.COMPLETED],
  ])("stays where it is when it %s", async (_, append, state) => {
    const header = await begun();
    await appendTo(header, 1, { updates: [status(header, state)], upstreamTaskId: "first" });
    expect(await appendTo(header, 2, { ...append, reroute: to("second") })).toBeUndefined();
    expect(await headerIn(header)).toMatchObject({ agentId: "agent", upstreamTaskId: "first" });
  });
});
