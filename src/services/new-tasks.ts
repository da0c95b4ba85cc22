/** Accepts new tasks: each is durable, and this replica's or in the queue, before anybody is told of it. */

import type { JsonObject } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { messageUpdate } from "../domain/agent-report.ts";
import { copyImage, foldTask, type TaskHeader, type TaskImage } from "../domain/task-log.ts";
import { EngineState } from "../domain/task-state.ts";
import { atAgent } from "../store/agent-queue-repository.ts";
import { isOutcomeUnknown } from "../store/database-errors.ts";
import type { HeldFor } from "../store/push-config-repository.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { AgentPermits, Permit } from "./agent-permits.ts";
import type { AgentClient, AgentEndpoint } from "./agent-port.ts";
import type { AgentQueue } from "./agent-queue.ts";
import type { ApprovalRequest, WaitingTasks } from "./approvals/waiting-tasks.ts";
import type { Reservation } from "./budget-port.ts";
import { whenDatabaseAnswers } from "./database-away.ts";
import { draining, queueIsFull } from "./dispatch-errors.ts";
import type { Work } from "./further-messages.ts";
import type { MirrorTask } from "./mirrors.ts";
import { putBack } from "./put-back.ts";
import type { Runners } from "./runners.ts";
import type { Runtime } from "./runtime.ts";
import { type StandIn, standingIn } from "./stand-in.ts";
import type { UpdateHub } from "./update-hub.ts";

export interface NewTasksDeps {
  log: Logger;
  store: TaskStore;
  hub: UpdateHub;
  runtime: Runtime;
  replicaId: () => string;
  /** Tasks that run here at once at most; what comes beyond waits in the queue. */
  maxRunning: number;
  /** Whether a new task must wait in the queue, because others do, and whether the queue takes one more. */
  queue: { busy: () => boolean; full: () => Promise<boolean> };
  /** Told of each task that is durable and on its way. */
  mirror?: MirrorTask | undefined;
  permits: Pick<AgentPermits, "isNeeded">;
  /** The agent of a task as it is registered now. */
  findAgent: (task: TaskHeader) => Promise<AgentEndpoint | undefined>;
  /** Where those wait that could run here, but not yet at their agents. */
  agentQueue: Pick<AgentQueue, "admit" | "added" | "withdrawn">;
}

/** A task before a replica has accepted it. */
export type TaskRequest = Omit<TaskHeader, "fence" | "leaseOwner" | "attempt" | "delivery">;

/**
 * Stores a new task and starts it, or lets it wait for a replica, or its agent, that has room. Resolves when it is durable. `beforeStart`
 * runs between the two: nobody has the task before it has ended.
 */
export type BeginTask = (request: TaskRequest, work: Work, options?: BeginOptions) => Promise<TaskImage>;

export interface BeginOptions {
  /** How its agent was chosen, to be stored with it: signalbox.v1.RouteDecision. */
  decision?: Uint8Array;
  /** What else the audit log says of its acceptance. */
  facts?: JsonObject;
  /** What it holds of budgets. Told where the task is stored, or may be, though it could not begin. */
  reserved?: Pick<Reservation, "drawn" | "keep" | "doubt">;
  /** The replica that has reserved its key; under another id this one must not store it any more. */
  reservedBy?: string;
  /** Lets a task go that has to wait, for which it is told what for: until then it is held back. */
  beforeStart?: (held: HeldFor | undefined) => Promise<void>;
  /** Answers in the agent's place, if it can. Forgotten when the task has to wait for a replica. */
  standIn?: StandIn;
  /** Nobody begins it before it is approved. */
  approval?: ApprovalRequest;
}

/**
 * So long a task that waits is nobody's, unless `beforeStart` lets it go, in milliseconds: the time to end one for which that
 * failed. What a replica leaves that dies meanwhile is taken then.
 */
const UNSTARTED_MS = 60_000;

export function createNewTasks(deps: NewTasksDeps, runners: Runners, waiting: Pick<WaitingTasks, "begin">): BeginTask {
  const { store, runtime } = deps;
  const { running, connect, runnerFor, inBackground } = runners;
  let starting = 0;

  /** It may have to be asked for, and takes a place meanwhile. */
  async function admit(request: TaskRequest): Promise<Permit | undefined> {
    starting += 1;
    try {
      return await deps.agentQueue.admit(request);
    } finally {
      starting -= 1;
    }
  }

  /**
   * A place at its agent for a task of this replica that nobody has answered in the agent's place. False when it has ended, or
   * waits for its agent by now. As long as that one's queue is full, it waits here.
   */
  async function makeRoom(task: TaskRequest, signal: AbortSignal): Promise<boolean> {
    const entry = running.get(task);
    if (!entry) return false;
    // Limits may have been set while it waited.
    await whenDatabaseAnswers(runtime, signal, () => deps.findAgent(entry.runner.writer.image.header));
    if (!deps.permits.isNeeded(task)) return true;
    const permit = await whenDatabaseAnswers(runtime, signal, () => deps.agentQueue.admit(task));
    if (signal.aborted) {
      permit?.release();
      if (!permit) deps.agentQueue.withdrawn(task);
      throw signal.reason;
    }
    if (permit) {
      entry.admit(permit);
      return true;
    }
    let became: Awaited<ReturnType<typeof putBack>> | undefined;
    try {
      became = await putBack(entry.runner.writer, atAgent(task.agentId), runners.signal);
    } finally {
      if (became === "put-back") deps.agentQueue.added(task);
      else deps.agentQueue.withdrawn(task);
    }
    if (became === "kept") entry.admit();
    return became === "kept";
  }

  function connectWith(permit: Permit | undefined, { agent }: Work): AgentClient {
    try {
      return connect(agent);
    } catch (error) {
      permit?.release();
      throw error;
    }
  }

  async function begin(
    request: TaskRequest,
    work: Work,
    { decision, facts, reserved, reservedBy, beforeStart, standIn }: BeginOptions = {},
  ): Promise<TaskImage> {
    if (runners.stopping) throw draining();
    const isFull = !standIn?.isReady && (running.size + starting >= deps.maxRunning || deps.queue.busy());
    if (isFull && (await deps.queue.full())) throw queueIsFull();
    // Whoever is answered by another task's result takes no place at the agent.
    const isLimited = !isFull && deps.permits.isNeeded(request);
    const permit = isLimited && !standIn ? await admit(request) : undefined;
    const waitsAtAgent = isLimited && !standIn && !permit;
    const waits = isFull || waitsAtAgent;
    const agent = waits ? undefined : connectWith(permit, work);
    const client = agent && standIn ? standingIn(standIn, agent, (signal) => makeRoom(request, signal)) : agent;
    const whyItWaits = waitsAtAgent ? `; ${atAgent(request.agentId)}` : waits ? ", which had no room" : "";
    const { delivery } = work;
    const owner = deps.replicaId();
    const header: TaskHeader = waits
      ? { ...request, delivery, fence: 1, leaseOwner: undefined, attempt: 0 }
      : { ...request, delivery, fence: 1, leaseOwner: owner, attempt: 1 };
    const update = {
      ...messageUpdate(work.message),
      state: waits ? EngineState.QUEUED : EngineState.ASSIGNED,
      cause: `accepted by replica ${owner}${whyItWaits}`,
    };
    const waitsFor = waitsAtAgent ? "at-agent" : waits ? "replica" : undefined;
    const isHeld = waits && beforeStart !== undefined;
    let stored = false;
    starting += 1;
    try {
      const storedBy = await store.submit({
        header,
        updates: [update],
        accepted: { by: work.principal, actors: work.actors, ...(facts && { facts }) },
        ...(isHeld ? { wakeInMs: UNSTARTED_MS } : waitsAtAgent && { wakeInMs: "at-agent" }),
        ...(decision && { decision }),
        ...(reserved && { drawn: reserved.drawn }),
        ...(reservedBy !== undefined && { reservedBy }),
      });
      stored = true;
      reserved?.keep();
      // This replica may have joined anew, under another id, while the task waited to be stored.
      if (header.leaseOwner !== undefined) header.leaseOwner = storedBy;
      await beforeStart?.(waitsFor);
    } catch (error) {
      client?.release();
      permit?.release();
      if (waitsAtAgent) deps.agentQueue.withdrawn(request);
      if (stored || isOutcomeUnknown(error)) {
        reserved?.doubt();
        inBackground("an unacknowledged task may be left", header.taskId, () => runners.endUnacknowledged(header));
      }
      throw error;
    } finally {
      starting -= 1;
    }
    if (deps.log.isLevelEnabled("debug")) {
      work.log.debug({ taskId: header.taskId, agentId: header.agentId, waits }, "task accepted");
    }
    const image = foldTask(header, [{ ...update, seq: 1 }]);
    // The runner moves its own on.
    if (client) {
      const runner = runnerFor(copyImage(image), work.agent, client, work);
      running.start(runner, (r) => r.run(work.message, delivery), permit && { permit });
    } else if (waitsAtAgent) deps.agentQueue.added(request);
    else deps.hub.announceWork();
    if (!standIn?.isReady) deps.mirror?.(header, work.message, delivery);
    return image;
  }

  return (request, work, options = {}) =>
    options.approval ? waiting.begin(request, work, options.approval, options) : begin(request, work, options);
}
