/**
 * The tasks that wait for room at their agents. They wait in the database, where any replica that has a permit finds them: the
 * higher priority first, and then the elder. Workspaces that wait for the same agent, because one lends it to the others, take
 * turns.
 */
import type { Logger } from "pino";
import type { AgentQueueRepository, AgentRoom } from "../store/agent-queue-repository.ts";
import type { ClaimedTask } from "../store/lease-repository.ts";
import { type AgentKey, type Crowd, createAgentCrowds } from "./agent-crowds.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { AgentPermits, Permit, PermitTask } from "./agent-permits.ts";
import { whenDatabaseAnswers } from "./database-away.ts";
import { agentQueueIsFull } from "./dispatch-errors.ts";
import type { Slice } from "./limit-slice.ts";
import type { Runtime } from "./runtime.ts";

/** When a client that was refused is told to come again, in milliseconds. */
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** How long a task of an agent is thought to take of which nothing is known, in milliseconds. */
const USUAL_LATENCY_MS = 1_000;

export interface AgentQueueDeps {
  repository: AgentQueueRepository;
  permits: AgentPermits;
  directory: Pick<AgentDirectory, "agents" | "homeOf">;
  runtime: Runtime;
  log: Logger;
  replicaId: () => string;
  /** Tasks that may wait for one agent. */
  maxWaiting: number;
  /** How long an agent's tasks take, in milliseconds; undefined when not known. */
  latencyOf: (agent: AgentKey) => number | undefined;
  /** Told that there may be something to take. */
  onRoom: () => void;
  /** Tells other replicas that tasks wait at an agent where none did. */
  announce: () => void;
}

/** A task that was taken, and its place at its agent if it needs one. */
export interface PermittedTask {
  task: ClaimedTask;
  permit: Permit | undefined;
}

export interface AgentQueue {
  /**
   * A permit for a new task that needs one; undefined when it must wait, because there is none or others wait. It is counted
   * among those then, and `added` or `withdrawn` is to follow.
   *
   * @throws SignalboxError QUEUE_FULL when it must wait and as many do as may.
   */
  admit(task: PermitTask): Promise<Permit | undefined>;
  /** A task that must wait is stored. */
  added(task: PermitTask): void;
  /** It could not be stored. */
  withdrawn(task: PermitTask): void;
  /** A permit of this agent was given back. */
  freed(agent: AgentKey): void;
  /** There may be permits again, of whatever agent. */
  freedAny(): void;
  /** This replica has room for another task. */
  freedPlace(): void;
  /** Another replica may have added something. */
  heed(): void;
  /** Takes at most `room` tasks for which there are permits. `more` says that others may be left. */
  take(room: number, signal: AbortSignal): Promise<{ taken: PermittedTask[]; more: boolean }>;
  /**
   * Gives permits to tasks that this replica has taken from the queue of all, or from a replica that is gone. Those that are
   * yet to begin, and get none, wait at their agents.
   */
  sort(tasks: readonly ClaimedTask[], how: "claimed" | "rescued", signal: AbortSignal): Promise<PermittedTask[]>;
  /** How many tasks wait at an agent, of all workspaces that use it, as far as this replica knows. */
  waitingAt(agent: AgentKey): number;
  /** The same of all agents. */
  readonly waiting: number;
}

/** What may be taken at one agent. As many units were taken for it of the agent's limit, and of those of its capabilities. */
interface Offer extends AgentRoom {
  readonly crowd: Crowd;
  readonly slice: Slice | undefined;
  /** Of each capability in `capabilities`. */
  readonly slices: ReadonlyMap<string, Slice>;
  /** `added` of the crowd as it was. */
  readonly added: number;
}

export function createAgentQueue(deps: AgentQueueDeps): AgentQueue {
  const { repository, permits, directory, runtime, log, replicaId, maxWaiting } = deps;
  const crowds = createAgentCrowds(repository, runtime, maxWaiting, directory.homeOf);

  /** Whether somebody waits for the agent already, of whatever workspace. */
  function isCrowded(agent: AgentKey): boolean {
    for (const _ of crowds.at(agent)) return true;
    return false;
  }

  function hope(crowd: Crowd): void {
    crowds.hope(crowd);
    deps.onRoom();
  }

  function added(task: PermitTask): void {
    const crowd = crowds.get(task);
    if (!crowd) return;
    if (!crowd.isTold) deps.announce();
    crowd.isTold = true;
    if (!permits.slicesOf(task).some(({ isExhausted }) => isExhausted)) hope(crowd);
  }

  /** When the queue of an agent will have moved on, in milliseconds. */
  function retryAfterMs(task: PermitTask, waiting: number): number {
    const limit = Math.min(...permits.slicesOf(task).map((slice) => slice.limit));
    const allMs = (waiting * (deps.latencyOf(task) ?? USUAL_LATENCY_MS)) / limit;
    return Math.round(Math.min(Math.max(allMs, RETRY_MIN_MS), RETRY_MAX_MS));
  }

  // --- taking

  /** Takes at most `most` units; asks the database for one at most. Where it cannot be asked, there is none. */
  async function hold(slice: Slice, most: number): Promise<number> {
    if (!(await slice.ask(1).catch(() => false))) return 0;
    const further = Math.min(most - 1, slice.idle);
    return slice.take(further) ? 1 + further : 1;
  }

  /** A part of what is idle, for one of so many that want of it. */
  const share = (slice: Slice | undefined, wanted: number, among: number): number =>
    slice && among > 1 ? Math.min(wanted, Math.ceil(Math.max(1, slice.idle) / among)) : wanted;

  /** `among`: how many crowds, this one and those to come after it, wait for the same room. */
  async function offerOf(crowd: Crowd, room: number, among: number): Promise<Offer> {
    const { workspaceId, agentId, added } = crowd;
    await directory.agents(workspaceId);
    const slice = permits.ofAgent(workspaceId, agentId);
    const wanted = share(slice, Math.min(room, Math.max(1, crowd.count)), among);
    const units = slice ? await hold(slice, wanted) : wanted;
    const slices = new Map<string, Slice>();
    const capabilities = new Map<string, number>();
    const holdOf = async (capabilityId: string) => {
      const ofCapability = permits.ofCapability({ workspaceId, agentId, capabilityId });
      if (!ofCapability) return;
      slices.set(capabilityId, ofCapability);
      capabilities.set(capabilityId, await hold(ofCapability, share(ofCapability, units, among)));
    };
    if (units > 0) await Promise.all([...crowd.capabilityIds].map(holdOf));
    return { workspaceId, agentId, units, capabilities, crowd, slice, slices, added };
  }

  /** Gives back what is left of an offer of which tasks were taken, by their capabilities. */
  function giveBack({ slice, slices, units, capabilities }: Offer, taken: readonly PermitTask[] = []): void {
    slice?.giveBack(units - taken.length);
    for (const [capabilityId, ofCapability] of slices) {
      const used = taken.filter((task) => task.capabilityId === capabilityId).length;
      ofCapability.giveBack(capabilities.get(capabilityId)! - used);
    }
  }

  /** Of those that wait for the same room: one after another, in this order. */
  async function offersAt(siblings: readonly Crowd[], room: number): Promise<PromiseSettledResult<Offer>[]> {
    const offered: PromiseSettledResult<Offer>[] = [];
    for (const [i, crowd] of siblings.entries())
      offered.push(...(await Promise.allSettled([offerOf(crowd, room, siblings.length - i)])));
    return offered;
  }

  /** What may be taken now: of no more tasks than there is room for. */
  async function offers(room: number): Promise<Offer[]> {
    const asked = (await Promise.all(crowds.takeHopeful().map((siblings) => offersAt(siblings, room)))).flat();
    let left = room;
    // Where the agents could not be read, it is counted again within a second.
    return asked.flatMap((answer) => {
      if (answer.status === "rejected" || answer.value.units === 0) return [];
      const { value: offer } = answer;
      const units = Math.min(offer.units, left);
      if (units < offer.units) crowds.hope(offer.crowd);
      left -= units;
      if (units === 0) giveBack(offer);
      else offer.slice?.giveBack(offer.units - units);
      return units > 0 ? [{ ...offer, units }] : [];
    });
  }

  async function take(room: number, signal: AbortSignal): Promise<{ taken: PermittedTask[]; more: boolean }> {
    await crowds.count();
    const open = await offers(room);
    if (open.length === 0) return { taken: [], more: false };
    const claimed = await repository.claim(replicaId(), open).catch((error: unknown) => {
      for (const offer of open) giveBack(offer);
      throw error;
    });
    const byAgent = Map.groupBy(claimed, nameOf);
    const taken: PermittedTask[] = [];
    const refused: ClaimedTask[] = [];
    for (const offer of open) {
      const { crowd, slice, slices, capabilities, units } = offer;
      const own = byAgent.get(nameOf(offer)) ?? [];
      const kept: ClaimedTask[] = [];
      for (const task of own) {
        const held = slices.get(task.capabilityId ?? "");
        // It was not known that tasks of this capability wait, or that it has a limit.
        const further = held ? undefined : permits.ofCapability(task);
        if (further && !(await further.ask(1).catch(() => false))) {
          refused.push(task);
          continue;
        }
        kept.push(task);
        const parts = [slice, held ?? further].filter((each) => each !== undefined);
        taken.push({ task, permit: parts.length > 0 ? permits.from(task, parts) : undefined });
      }
      giveBack(offer, kept);
      crowds.subtract(crowd, own.length);
      if (own.length > 0) crowds.served(crowd);
      const isUsedUp = ([capabilityId, most]: [string, number]) =>
        own.filter((task) => task.capabilityId === capabilityId).length === most;
      const usedUp = [...capabilities].filter(isUsedUp);
      // There may be more units than were idle; where there were none, somebody has yet to give one back.
      if (own.length === units || usedUp.some(([, most]) => most > 0)) crowds.hope(crowd);
      else if (usedUp.length === 0 && crowd.added === offer.added) {
        crowds.forget(crowd);
        // What it did not need, others may.
        for (const other of crowds.at(crowd)) crowds.hope(other);
      }
    }
    await park(refused, signal);
    return { taken, more: crowds.hasHopeful };
  }

  // --- what was taken elsewhere

  async function permitted(task: ClaimedTask, how: "claimed" | "rescued"): Promise<PermittedTask | undefined> {
    if (!permits.isNeeded(task)) return { task, permit: undefined };
    if (how === "rescued" || !task.begins) return { task, permit: permits.force(task) };
    const permit = await permits.take(task).catch(() => undefined);
    return permit && { task, permit };
  }

  /** Lets tasks that were claimed, and not begun, wait at their agents. */
  async function park(tasks: readonly ClaimedTask[], signal: AbortSignal): Promise<void> {
    if (tasks.length === 0) return;
    try {
      await whenDatabaseAnswers(runtime, signal, () => repository.park(replicaId(), tasks));
    } catch (err) {
      if (!signal.aborted) log.error({ err, tasks: tasks.length }, "tasks cannot be put back to wait for their agents");
      return;
    }
    for (const task of tasks) {
      crowds.add(task);
      added(task);
    }
  }

  return {
    async admit(task) {
      const permit = isCrowded(task) ? undefined : await permits.take(task);
      if (permit) return permit;
      const waiting = crowds.get(task)?.count ?? 0;
      if (waiting >= maxWaiting) throw agentQueueIsFull(task.agentId, retryAfterMs(task, waiting));
      crowds.add(task);
      return undefined;
    },
    added,
    withdrawn(task) {
      const crowd = crowds.get(task);
      if (crowd) crowds.subtract(crowd, 1);
    },
    freed(agent) {
      for (const crowd of crowds.at(agent)) hope(crowd);
    },
    freedAny() {
      crowds.hopeForAll();
      if (crowds.hasHopeful) deps.onRoom();
    },
    freedPlace() {
      if (crowds.hasHopeful) deps.onRoom();
    },
    heed: crowds.heed,
    take,
    async sort(tasks, how, signal) {
      for (const workspaceId of new Set(tasks.map((task) => task.workspaceId)))
        await whenDatabaseAnswers(runtime, signal, () => directory.agents(workspaceId));
      const sorted = await Promise.all(tasks.map((task) => permitted(task, how)));
      await park(
        tasks.filter((_, i) => !sorted[i]),
        signal,
      );
      return sorted.filter((each) => each !== undefined);
    },
    waitingAt(agent) {
      let waiting = 0;
      for (const crowd of crowds.at(agent)) waiting += crowd.count;
      return waiting;
    },
    get waiting() {
      return crowds.total;
    },
  };
}

const nameOf = ({ workspaceId, agentId }: AgentKey): string => `${workspaceId} ${agentId}`;
