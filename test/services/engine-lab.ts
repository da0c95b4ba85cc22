/** Replicas on one PostgreSQL, from the dispatcher down, whose agents say what a script lets them say. */
import { create } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { onTestFinished } from "vitest";
import {
  MessageSchema,
  Role,
  type StreamResponse,
  StreamResponseSchema,
  type Task,
  TaskSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { foldTask, type TaskImage } from "../../src/domain/task-log.ts";
import type { AgentClient, AgentEndpoint } from "../../src/services/agent-port.ts";
import { startHints } from "../../src/services/background/hints.ts";
import { startSlowPoll } from "../../src/services/background/slow-poll.ts";
import { createDispatcher, type Dispatcher, type DispatcherDeps } from "../../src/services/dispatcher.ts";
import type { ResultPolicy } from "../../src/services/guarded-writer.ts";
import type { BeginOptions } from "../../src/services/new-tasks.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { watchTask } from "../../src/services/watch.ts";
import type { Database } from "../../src/store/database.ts";
import { createHeldUpdates } from "../../src/store/held-updates.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createTaskStore, type TaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { createDatabase, silent } from "../store/backends.ts";

const runtime = systemRuntime();
const DAY_MS = 86_400_000;
export const never: AbortSignal = new AbortController().signal;
export const agent: AgentEndpoint = {
  workspaceId: "default",
  agentId: "agent",
  card: {} as never,
  safeToRepeat: false,
};

export interface LabReplica {
  readonly db: Database;
  readonly store: TaskStore;
  readonly dispatcher: Dispatcher;
  id(): string;
  /** Declares this replica dead, without its knowledge. */
  kill(): Promise<void>;
  /** Lets it find that out, and go on under another name. */
  rejoin(): Promise<void>;
  begin(workspaceId?: string, options?: BeginOptions): Promise<TaskImage>;
  /** Takes up the tasks that are due. Returns how many there were. */
  claim(): Promise<number>;
  /** Takes over the tasks of replicas that are dead. */
  rescue(): Promise<void>;
  /** Sends one more message to a task. */
  tell(image: TaskImage): Promise<TaskImage>;
  cancel(image: TaskImage): Promise<void>;
  load(of: TaskImage): Promise<TaskImage>;
  /** Resolves with the task when it is as wanted. */
  when(of: TaskImage, wanted: (image: TaskImage) => boolean): Promise<TaskImage>;
}

export interface LabOptions {
  maxRunning?: number;
  /** What gives tasks their places at their agents; without it, nobody is asked. */
  places?: Pick<DispatcherDeps, "permits" | "agentQueue">;
  /** Holds back what agents say until it has decided; without it, nothing is. */
  results?: ResultPolicy;
  maxHeldBytes?: number;
  /** Told what becomes of approvals. */
  onApproval?: DispatcherDeps["approvals"]["onOutcome"];
  /** Takes the log, instead of nobody. */
  log?: Logger;
  /** Puts something between the replica and its database. */
  wrap?: (db: Database) => Database;
}

/** Where nothing is to be approved. */
export const unasked: DispatcherDeps["approvals"] = { pending: async () => 0, maxPending: 1, onOutcome() {} };

/** Agents without limits. */
export const unlimited: Pick<DispatcherDeps, "permits" | "agentQueue"> = {
  permits: { isNeeded: () => false, force: () => undefined },
  agentQueue: { admit: async () => undefined, added() {}, withdrawn() {} },
};

/** A database, and what starts a replica on it. All of it ends with the test. */
export async function openLab() {
  const { url, drop } = await createDatabase();
  onTestFinished(drop);
  return (client: AgentClient, options: LabOptions = {}): Promise<LabReplica> => startReplica(url, client, options);
}

async function startReplica(url: string, client: AgentClient, options: LabOptions): Promise<LabReplica> {
  const { maxRunning = 1000, wrap = (db) => db, places = unlimited, results, log = silent } = options;
  const raw = openPostgres({ url, poolSize: 4, log: silent });
  await migrate(raw, silent);
  const leases = createLeaseRepository(raw);
  let id = await registerReplica(raw);
  const replicaId = () => id;
  const hub = createUpdateHub();
  const store = createTaskStore(wrap(raw), { maxWaiting: 10_000, replicaId });
  const poll = startSlowPoll({ store, hub, runtime, log: silent, everyMs: 100 });
  const hints = startHints({ openBus: raw.listen, hub, poll, runtime, log: silent });
  const dispatcher = createDispatcher({
    store,
    hub,
    runtime,
    log,
    replicaId,
    connector: { pick: () => undefined, connect: () => client, forget() {}, async close() {} },
    findAgent: async () => agent,
    loads: { begin() {}, end() {}, answered() {}, failedCall() {} },
    ...places,
    approvals: { ...unasked, ...(options.onApproval && { onOutcome: options.onApproval }) },
    ...(results && { guard: { results, held: createHeldUpdates(raw), maxBytes: options.maxHeldBytes ?? 1_000_000 } }),
    agentTimeoutMs: 300_000,
    agentAwayMs: 60_000,
    attemptTimeoutMs: DAY_MS,
    inputTimeoutMs: DAY_MS,
    gatherMs: 10,
    attempts: { most: 4, minPauseMs: 1, maxPauseMs: 1, onPause: () => {} },
    maxRunning,
    queue: { busy: () => false, full: async () => false },
    onRoom: () => {},
  });
  onTestFinished(async () => {
    await dispatcher.stop(0);
    await poll.stop();
    await store.close();
    await hints.stop();
    await raw.close();
  });

  const said = (taskId: string) =>
    create(MessageSchema, { messageId: runtime.newId(), role: Role.USER, taskId, contextId: "context" });
  const work = (taskId: string) => ({ agent, message: said(taskId), delivery: {}, principal: "tester", log });
  async function load({ header: { workspaceId, taskId } }: TaskImage): Promise<TaskImage> {
    const stored = await store.load(workspaceId, taskId);
    if (!stored) throw new Error(`task ${taskId} is gone`);
    return foldTask(stored.header, stored.updates);
  }

  return {
    db: raw,
    store,
    dispatcher,
    id: replicaId,
    kill: () => leases.release(id),
    async rejoin() {
      dispatcher.abandon();
      id = await registerReplica(raw);
    },
    async claim() {
      const taken = await leases.claim(id, 100, { running: new Map(), last: "" });
      await Promise.all(taken.map((task) => dispatcher.adopt(task, "claimed")));
      return taken.length;
    },
    async rescue() {
      const taken = await leases.rescue(id, 100);
      await Promise.all(taken.map((task) => dispatcher.adopt(task, "rescued")));
    },
    begin(workspaceId = "default", begin = {}) {
      const taskId = runtime.newId();
      const request = {
        workspaceId,
        taskId,
        contextId: "context",
        owner: undefined,
        agentId: agent.agentId,
        capabilityId: undefined,
        createdAt: runtime.now(),
        deadlineAt: undefined,
        priority: "NORMAL",
        disclosed: true,
        hasPush: false,
        upstreamTaskId: undefined,
        upstreamContextId: undefined,
      } as const;
      return dispatcher.begin(request, work(taskId), begin);
    },
    tell: (image) => dispatcher.proceed(image, work(image.header.taskId), never),
    cancel: (image) => dispatcher.cancel(image, agent, never, { principal: "tester" }),
    load,
    async when(of, wanted) {
      const { workspaceId, taskId } = of.header;
      const updates = watchTask({ store, hub, runtime }, { workspaceId, taskId, after: 0, signal: never });
      try {
        for (;;) {
          await updates.next();
          const image = await load(of);
          if (wanted(image)) return image;
        }
      } finally {
        await updates.return(undefined as never);
      }
    },
  };
}

/** What agents say. */
export const taskIn = (id: string, state: TaskState): Task =>
  create(TaskSchema, { id, contextId: "theirs", status: { state } });
export const said = (value: Task): StreamResponse => create(StreamResponseSchema, { payload: { case: "task", value } });

/** Resolves never; rejects when the signal aborts. */
export function hang(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  if (signal.aborted) reject(signal.reason);
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  return promise;
}

/** An agent that works on what it is given without an end, says no more of it, and cancels it when asked; and what differs. */
export function workingAgent(differs: Partial<AgentClient> = {}): AgentClient {
  async function* works(id: string, signal: AbortSignal) {
    yield said(taskIn(id, TaskState.WORKING));
    await hang(signal);
  }
  return {
    streaming: true,
    release() {},
    sendStream: (message, { signal }) => works(message.taskId || "theirs-1", signal),
    subscribe: (id, { signal }) => works(id, signal),
    send: async (message) => said(taskIn(message.taskId, TaskState.WORKING)),
    get: async (id) => taskIn(id, TaskState.WORKING),
    cancel: async (id) => taskIn(id, TaskState.CANCELED),
    ...differs,
  };
}

/** Whether the agent has named the task. */
export const isNamed = ({ header }: TaskImage): boolean => header.upstreamTaskId !== undefined;
