/** Replicas on one database, from the dispatcher down, with real agents among which tasks move. */

import { create, fromJson, type JsonObject } from "@bufbuild/protobuf";
import { onTestFinished } from "vitest";
import { type AgentCard, AgentCardSchema, MessageSchema, Role } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteDecisionSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import { foldTask, stateOf, type TaskHeader, type TaskImage } from "../../src/domain/task-log.ts";
import { isTerminal } from "../../src/domain/task-state.ts";
import { createAgentConnector } from "../../src/outbound/agent-connector.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import type { AgentEndpoint } from "../../src/services/agent-port.ts";
import type { FindAnotherAgent } from "../../src/services/another-agent.ts";
import { type Claims, createClaims } from "../../src/services/background/claims.ts";
import { startSlowPoll } from "../../src/services/background/slow-poll.ts";
import { createDispatcher, type Dispatcher, type DispatcherDeps } from "../../src/services/dispatcher.ts";
import { createAgentLoads } from "../../src/services/routing/agent-load.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { watchTask } from "../../src/services/watch.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createTaskStore } from "../../src/store/task-store.ts";
import { inProcessCard } from "../e2e/running-app.ts";
import { registerReplica } from "../fixtures/replica.ts";
import type { BackendContext } from "../store/backends.ts";
import { type LogLines, logLines } from "../store/log-lines.ts";
import { unasked, unlimited } from "./engine-lab.ts";

const runtime = systemRuntime();
const DAY_MS = 86_400_000;
const never = new AbortController().signal;

export interface LabAgent {
  /** A function in this process, or the card of an agent elsewhere. */
  handler?: AgentHandler;
  card?: AgentCard;
  safeToRepeat?: boolean;
}

/** The agents by id; the first takes new tasks, and `chain` names who has a task next when one has failed it. */
export interface SteeringOptions {
  agents: Readonly<Record<string, LabAgent>>;
  chain?: readonly string[];
  /** Whether it takes what waits. */
  claims?: boolean;
  more?: (deps: DispatcherDeps) => Partial<DispatcherDeps>;
}

/** Starts a replica, which ends with the test. */
export async function startReplica({ db }: BackendContext, options: SteeringOptions) {
  const { agents, chain, more } = options;
  const logged: LogLines = logLines();
  const { log } = logged;
  const id = await registerReplica(db);
  const replicaId = () => id;
  const leases = createLeaseRepository(db);
  const hub = createUpdateHub();
  const store = createTaskStore(db, { maxWaiting: 10_000, replicaId });
  // A rescue is told to nobody.
  const poll = startSlowPoll({ store, hub, runtime, log, everyMs: 50 });
  const inProcess = new Map(
    Object.entries(agents).flatMap(([name, { handler }]) => (handler ? [[name, handler]] : [])),
  );
  const connector = createAgentConnector({ allowPrivateUrls: true, maxMessageBytes: 4_194_304, inProcess });
  const endpoint = (agentId: string): AgentEndpoint => ({
    workspaceId: "default",
    agentId,
    card: agents[agentId]!.card ?? fromJson(AgentCardSchema, inProcessCard(agentId) as JsonObject),
    safeToRepeat: agents[agentId]!.safeToRepeat ?? false,
  });
  /** The chain's first that has not had the task. */
  const nextAgent: FindAnotherAgent = async (_, __, exclude) => {
    const agentId = chain?.find((each) => !exclude.includes(each));
    if (agentId === undefined) return undefined;
    const decision = create(RouteDecisionSchema, { agentId, cuts: [{ reason: "FAILED", agentIds: [...exclude] }] });
    return { agent: endpoint(agentId), capability: undefined, decision };
  };
  const loads = createAgentLoads(runtime);
  const deps: DispatcherDeps = {
    store,
    hub,
    connector,
    runtime,
    log,
    replicaId,
    findAgent: async ({ agentId }) => endpoint(agentId),
    loads,
    ...unlimited,
    approvals: unasked,
    agentTimeoutMs: 300_000,
    agentAwayMs: 0,
    attemptTimeoutMs: DAY_MS,
    inputTimeoutMs: DAY_MS,
    gatherMs: 10,
    attempts: { most: 6, minPauseMs: 1, maxPauseMs: 1, onPause: (pauseMs) => claims?.look(pauseMs) },
    maxRunning: 1000,
    queue: { busy: () => false, full: async () => false },
    onRoom: () => {},
    ...(chain && { nextAgent }),
  };
  const dispatcher: Dispatcher = createDispatcher({ ...deps, ...more?.(deps) });
  const claims: Claims | undefined =
    options.claims === false
      ? undefined
      : createClaims({
          leases,
          dispatcher,
          replicaId,
          runtime,
          log,
          maxRunning: 1000,
          maxQueued: 1000,
          onTaken() {},
          agentQueue: {
            sort: async (tasks) => tasks.map((task) => ({ task, permit: undefined })),
            take: async () => ({ taken: [], more: false }),
          },
        });
  claims?.start();
  const stop = async () => {
    await claims?.stop();
    await dispatcher.stop(0);
    await poll.stop();
    await store.close();
    await connector.close();
    await leases.release(id);
  };
  onTestFinished(stop);

  const [first = ""] = Object.keys(agents);
  const work = (text: string, taskId: string, agentId: string) => ({
    agent: endpoint(agentId),
    message: create(MessageSchema, {
      messageId: runtime.newId(),
      role: Role.USER,
      taskId,
      contextId: "context",
      parts: [{ content: { case: "text", value: text } }],
    }),
    delivery: {},
    principal: "tester",
    log,
  });
  async function load({ workspaceId, taskId }: TaskHeader): Promise<TaskImage> {
    const stored = await store.load(workspaceId, taskId);
    if (!stored) throw new Error(`task ${taskId} is gone`);
    return foldTask(stored.header, stored.updates);
  }
  async function when({ header }: TaskImage, wanted: (image: TaskImage) => boolean): Promise<TaskImage> {
    const { workspaceId, taskId } = header;
    const updates = watchTask({ store, hub, runtime }, { workspaceId, taskId, after: 0, signal: never });
    try {
      for (;;) {
        await updates.next();
        const image = await load(header);
        if (wanted(image)) return image;
      }
    } finally {
      updates.end();
    }
  }

  return {
    logged,
    loads,
    store,
    hub,
    dispatcher,
    when,
    begin(text = "hello", header: Partial<TaskHeader> = {}): Promise<TaskImage> {
      const taskId = runtime.newId();
      const request = {
        workspaceId: "default",
        taskId,
        contextId: "context",
        owner: undefined,
        agentId: first,
        capabilityId: undefined,
        createdAt: runtime.now(),
        deadlineAt: undefined,
        priority: "NORMAL" as const,
        disclosed: true,
        hasPush: false,
        upstreamTaskId: undefined,
        upstreamContextId: undefined,
        ...header,
      };
      return dispatcher.begin(request, work(text, taskId, request.agentId));
    },
    ended: (of: TaskImage) => when(of, (image) => isTerminal(stateOf(image))),
    load: (of: TaskImage) => load(of.header),
    /** One more message for a task, and whom it is meant for. */
    work: (text: string, of: TaskImage, agentId: string) => work(text, of.header.taskId, agentId),
    /** Sends one more message to a task, to the agent that has it. */
    async tell(of: TaskImage, text: string): Promise<TaskImage> {
      const image = await load(of.header);
      return dispatcher.proceed(image, work(text, image.header.taskId, image.header.agentId), never);
    },
    /** Cancels a task as it was seen by who cancels it. */
    cancel: (of: TaskImage) => dispatcher.cancel(of, endpoint(of.header.agentId), never, { principal: "tester" }),
    /** What the log says why, row by row. */
    async causes({ header }: TaskImage): Promise<string[]> {
      const stored = await store.load(header.workspaceId, header.taskId);
      return stored?.updates.flatMap(({ cause }) => cause ?? []) ?? [];
    },
    stop,
    /** Dies at once: its tasks are whoever's takes them. */
    async kill(): Promise<void> {
      await claims?.stop();
      await leases.release(id);
      dispatcher.abandon();
    },
  };
}

/** The text of all artifacts, and of the last status. */
export function resultOf({ task, reply }: TaskImage): string {
  const parts = [...task.artifacts.flatMap((each) => each.parts), ...(task.status?.message?.parts ?? [])];
  const texts = [...parts, ...(reply?.parts ?? [])].map(({ content }) =>
    content.case === "text" ? content.value : "",
  );
  return texts.join("|");
}
