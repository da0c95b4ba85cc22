/**
 * Sends copies of some tasks to another agent, and compares what comes of them: how a new agent would do, without anybody
 * depending on it. Nobody waits for a copy, and nothing of it is stored or returned.
 */
import { type Message, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Rollout } from "../domain/rollout.ts";
import { hashText, mix32 } from "../domain/routing/hash.ts";
import {
  agentsOf,
  type Delivery,
  foldTask,
  givenCapabilityId,
  stateBrought,
  stateOf,
  type TaskHeader,
  type TaskImage,
  type TaskUpdate,
} from "../domain/task-log.ts";
import { resultDigest, type TaskResult } from "../domain/task-result.ts";
import { EngineState, TRANSITIONS } from "../domain/task-state.ts";
import type { PermitTask } from "./agent-permits.ts";
import { AgentCallError, type AgentClient, type AgentEndpoint } from "./agent-port.ts";
import type { RolloutSource } from "./another-agent.ts";
import { isTransient } from "./database-away.ts";
import type { GuardPorts } from "./guarded-writer.ts";
import type { TaskLog } from "./late-log.ts";
import { TaskCopy } from "./task-copy.ts";
import type { DeliveryDeps } from "./task-delivery.ts";
import type { UpdateHub } from "./update-hub.ts";
import { watchTask } from "./watch.ts";
import { wordless } from "./wordless-log.ts";

/** Copies that are under way at once; what comes beyond has none. */
const MOST_AT_ONCE = 64;
/** Longest time from the copying of a task to its end and the copy's, in milliseconds. */
const LONGEST_MS = 600_000;

/**
 * - `same`, `different`: both ended, or asked something, and were compared.
 * - `failed`: the mirror could not be had, answered what is no A2A, or took too long.
 * - `dropped`: nothing was compared: too many copies at once, a mirror without room or that the policy refuses, a task that was canceled or took too long, a server that stops.
 */
export type MirrorOutcome = "same" | "different" | "failed" | "dropped";

export interface MirrorPorts {
  rollouts: RolloutSource;
  /** Whether the policy lets the mirror have a copy of the task. */
  isAllowed: (task: TaskHeader, mirrorId: string) => Promise<boolean>;
  /** Takes a place at the mirror; undefined when it has none. The function gives it back. */
  tryReserve: (task: PermitTask) => Promise<(() => void) | undefined>;
  onOutcome: (outcome: MirrorOutcome) => void;
}

export interface MirrorDeps extends DeliveryDeps {
  ports: MirrorPorts;
  hub: UpdateHub;
  log: TaskLog;
  /** What is looked at before it leaves; left out, nothing is. */
  guard?: Pick<GuardPorts, "results"> | undefined;
  findAgent(task: TaskHeader): Promise<AgentEndpoint | undefined>;
  connect(agent: AgentEndpoint): AgentClient;
  /** Ends with this replica's work. */
  life(): AbortSignal;
  inBackground(what: string, taskId: string, work: () => Promise<void>): void;
}

/** Told of each task that was accepted; copies it if its rollout says so, and it is among those. */
export type MirrorTask = (header: TaskHeader, message: Message, delivery: Delivery) => void;

export function createMirrors(deps: MirrorDeps): MirrorTask {
  const { ports, store, runtime, hub } = deps;
  let underWay = 0;

  function mirror(rollout: Rollout, header: TaskHeader, message: Message, delivery: Delivery): void {
    const to = rollout.mirror;
    if (!to || to.agentId === header.agentId || !isSampled(header.taskId, to.percent)) return;
    if (underWay >= MOST_AT_ONCE) {
      ports.onOutcome("dropped");
      return;
    }
    underWay += 1;
    deps.inBackground("a task could not be mirrored", header.taskId, async () => {
      let outcome: MirrorOutcome = "dropped";
      try {
        outcome = await compare(to.agentId, header, message, delivery);
      } finally {
        underWay -= 1;
        ports.onOutcome(outcome);
      }
    });
  }

  async function compare(
    mirrorId: string,
    header: TaskHeader,
    message: Message,
    delivery: Delivery,
  ): Promise<MirrorOutcome> {
    const { workspaceId, taskId } = header;
    const facts = { taskId, workspaceId, agentId: header.agentId, mirrorAgentId: mirrorId };
    const life = deps.life();
    const stop = new AbortController();
    const signal = AbortSignal.any([life, stop.signal, AbortSignal.timeout(LONGEST_MS)]);
    const asCopied = { ...header, agentId: mirrorId, capabilityId: undefined, upstreamContextId: undefined };
    const log = wordless(deps.log, () => deps.guard?.results.guards(asCopied) === true);
    const agent = await deps.findAgent(asCopied);
    if (!agent) {
      log.info(facts, "the mirror is not registered");
      return "failed";
    }
    if (!(await ports.isAllowed(header, mirrorId))) {
      log.info(facts, "policy does not let the mirror have the task");
      return "dropped";
    }
    // It is copied for what its client asked for, and takes a place of that capability too, if the mirror has it.
    const capabilityId = givenCapabilityId(header);
    const leavePlace = await ports.tryReserve({ workspaceId, agentId: mirrorId, capabilityId });
    if (!leavePlace) return "dropped";
    let client: AgentClient;
    try {
      client = deps.connect(agent);
    } catch (error) {
      leavePlace();
      log.info({ ...facts, err: error }, "the mirror cannot be called");
      return "failed";
    }
    const copy = new TaskCopy(deps, asCopied, client, signal);
    let isTaskAtRest = false;
    try {
      const copied = copy.answer({ ...message, referenceTaskIds: [] }, delivery);
      // Whichever comes first, the failure of the other is looked at in its turn.
      copied.catch(() => {});
      const image = await atRest(header, signal);
      isTaskAtRest = true;
      // What its client no longer wants, or the mirror itself has, is compared with nothing.
      if (stateOf(image) === TaskState.CANCELED || agentsOf(image.header).includes(mirrorId)) return "dropped";
      return await judge(facts, image, copied);
    } catch (error) {
      if (life.aborted || (signal.aborted && !isTaskAtRest)) return "dropped";
      if (!(error instanceof AgentCallError) && !signal.aborted) throw error;
      log.info({ ...facts, err: error }, "the mirror failed");
      return "failed";
    } finally {
      stop.abort(new Error("the copy is not wanted any more"));
      await copy.end(life, log);
      leavePlace();
    }
  }

  async function judge(facts: object, image: TaskImage, copied: Promise<TaskResult>): Promise<MirrorOutcome> {
    const { reply, task } = image;
    const digest = resultDigest(reply ? { message: reply } : { task });
    const mirrorDigest = resultDigest(await copied);
    const outcome = digest === mirrorDigest ? "same" : "different";
    deps.log.info({ ...facts, outcome, digest, mirrorDigest }, "a mirrored task was compared");
    return outcome;
  }

  /** The task when it has ended, or asks its client something. */
  async function atRest(header: TaskHeader, signal: AbortSignal): Promise<TaskImage> {
    const { workspaceId, taskId } = header;
    const updates = watchTask({ store, hub, runtime }, { workspaceId, taskId, after: 1, signal });
    try {
      for (;;) {
        const { value } = await updates.next();
        if (!rests(value)) continue;
        const stored = await store.load(workspaceId, taskId);
        if (!stored) throw new Error(`task ${taskId} is gone from the database`);
        return foldTask(stored.header, stored.updates.slice(0, value.seq));
      }
    } finally {
      updates.end();
    }
  }

  return (header, message, delivery) => {
    const rollout = ports.rollouts.of(header.workspaceId, givenCapabilityId(header));
    if (!(rollout instanceof Promise)) return mirror(rollout, header, message, delivery);
    deps.inBackground("a task could not be mirrored", header.taskId, async () => {
      // Where the database is away, nobody can say whether it has a copy: it has none.
      const known = await rollout.catch(exceptTransient);
      if (known) mirror(known, header, message, delivery);
    });
  };
}

function exceptTransient(error: unknown): undefined {
  if (!isTransient(error)) throw error;
}

/** The same tasks for every replica, whatever else is chosen by their ids. */
const isSampled = (taskId: string, percent: number): boolean => mix32(hashText(`mirror ${taskId}`)) % 100 < percent;

function rests(update: TaskUpdate): boolean {
  const state = stateBrought(update);
  if (state === undefined) return false;
  const asks = state === EngineState.INPUT_REQUIRED || state === EngineState.AUTH_REQUIRED;
  return asks || TRANSITIONS.get(state)?.length === 0;
}
