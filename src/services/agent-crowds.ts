/**
 * At which agents tasks wait for room, and how many, as far as this replica knows: what it has added and taken itself, and
 * what it counts in the database from time to time. Of an agent that is lent, each workspace has a crowd of its own; they wait for
 * the same room.
 */
import { getOrMake } from "../domain/get-or-make.ts";
import type { AgentQueueRepository } from "../store/agent-queue-repository.ts";
import type { PermitTask } from "./agent-permits.ts";
import type { Runtime } from "./runtime.ts";

/** How often it is counted anew what waits, in milliseconds, and at how many agents in one statement. */
const COUNT_MS = 1_000;
const BATCH = 200;

export type AgentKey = Pick<PermitTask, "workspaceId" | "agentId">;

/** An agent at which tasks wait. */
export interface Crowd extends AgentKey {
  readonly workspaceId: string;
  readonly agentId: string;
  /** How many wait. */
  count: number;
  /** The capabilities that they were given to. */
  readonly capabilityIds: Set<string>;
  /** Where the agent is registered, as far as is known: crowds of one home wait for the same room. */
  home: string;
  /** When some of it were taken last, as a number that grows with each time; 0: never. */
  servedAt: number;
  /** Whether other replicas know of it. */
  isTold: boolean;
  /** Tasks that this replica has added and taken, ever: a count that was made meanwhile is corrected by them. */
  added: number;
  taken: number;
}

export interface AgentCrowds {
  get(agent: AgentKey): Crowd | undefined;
  /** One task more waits. */
  add(task: PermitTask): Crowd;
  /** So many less. */
  subtract(crowd: Crowd, tasks: number): void;
  /** None waits any more. */
  forget(crowd: Crowd): void;
  /** Those that wait at an agent, wherever they come from. */
  at(agent: AgentKey): Iterable<Crowd>;
  /** Some were taken. */
  served(crowd: Crowd): void;
  /** Some of its tasks might be taken. */
  hope(crowd: Crowd): void;
  /** The same of all. */
  hopeForAll(): void;
  /**
   * Those of which some might be taken, some of them, by home, with all others that wait for the same room: of each home, who was
   * served longest ago comes first. They are hoped for no longer.
   */
  takeHopeful(): Crowd[][];
  /** Whether there are any. */
  readonly hasHopeful: boolean;
  /** How many tasks wait at all agents. */
  readonly total: number;
  /** Counts anew if the last count is old, or `heed` was called since; then all are hoped for. */
  count(): Promise<void>;
  /** Another replica may have added something. */
  heed(): void;
}

export function createAgentCrowds(
  repository: Pick<AgentQueueRepository, "crowded">,
  runtime: Runtime,
  maxWaiting: number,
  homeOf: (workspaceId: string, agentId: string) => AgentKey | undefined = () => undefined,
): AgentCrowds {
  const crowds = new Map<string, Crowd>();
  const byHome = new Map<string, Set<Crowd>>();
  let turn = 0;
  /** In the order in which they came to be so: who was served comes last the next time. */
  const hopeful = new Set<Crowd>();
  /** Where the next count begins. */
  let from: AgentKey = { workspaceId: "", agentId: "" };
  let countedAt = Number.NEGATIVE_INFINITY;

  const keyOf = ({ workspaceId, agentId }: AgentKey) => `${workspaceId} ${agentId}`;

  function crowdOf({ workspaceId, agentId }: AgentKey): Crowd {
    const key = keyOf({ workspaceId, agentId });
    let crowd = crowds.get(key);
    if (!crowd) {
      const nothing = { count: 0, isTold: false, added: 0, taken: 0, servedAt: 0 };
      crowd = { workspaceId, agentId, capabilityIds: new Set(), home: homeKey({ workspaceId, agentId }), ...nothing };
      crowds.set(key, crowd);
      getOrMake(byHome, crowd.home, () => new Set<Crowd>()).add(crowd);
    } else settle(crowd);
    return crowd;
  }

  const homeKey = ({ workspaceId, agentId }: AgentKey) =>
    keyOf(homeOf(workspaceId, agentId) ?? { workspaceId, agentId });

  /** Puts it where its agent is by what is known now. */
  function settle(crowd: Crowd): void {
    const home = homeKey(crowd);
    if (home === crowd.home) return;
    leave(crowd);
    crowd.home = home;
    getOrMake(byHome, home, () => new Set<Crowd>()).add(crowd);
  }

  function leave(crowd: Crowd): void {
    const others = byHome.get(crowd.home);
    others?.delete(crowd);
    if (others?.size === 0) byHome.delete(crowd.home);
  }

  function forget(crowd: Crowd): void {
    const key = keyOf(crowd);
    if (crowds.get(key) === crowd) {
      crowds.delete(key);
      leave(crowd);
    }
    hopeful.delete(crowd);
  }

  function hopeForAll(): void {
    for (const crowd of crowds.values()) hopeful.add(crowd);
  }

  /** Counts what waits at the next agents, in the database's order. */
  async function countNext(): Promise<void> {
    const after = from;
    const before = new Map([...crowds.values()].map((crowd) => [crowd, { ...crowd }]));
    const found = await repository.crowded(after, BATCH, Math.max(1, maxWaiting));
    const last = found.length < BATCH ? undefined : found.at(-1);
    from = last ?? { workspaceId: "", agentId: "" };
    const seen = new Set<Crowd>();
    for (const { capabilityIds, waiting, ...agent } of found) {
      const crowd = crowdOf(agent);
      for (const id of capabilityIds) crowd.capabilityIds.add(id);
      // Who added them has told the others.
      crowd.isTold = true;
      seen.add(crowd);
      correct(crowd, waiting, before.get(crowd));
    }
    for (const crowd of crowds.values()) {
      const wasLookedFor = isAfter(crowd, after) && !(last && isAfter(crowd, last));
      if (wasLookedFor && !seen.has(crowd)) correct(crowd, 0, before.get(crowd));
    }
  }

  /** Some of what this replica has added and taken since the count began is in it, and some is not. */
  function correct(crowd: Crowd, counted: number, before = { added: 0, taken: 0 }): void {
    const least = counted - (crowd.taken - before.taken);
    const most = counted + (crowd.added - before.added);
    crowd.count = Math.min(Math.max(crowd.count, least), most);
    if (crowd.count <= 0) forget(crowd);
  }

  return {
    get: (agent) => crowds.get(keyOf(agent)),
    add(task) {
      const crowd = crowdOf(task);
      crowd.count += 1;
      crowd.added += 1;
      if (task.capabilityId !== undefined) crowd.capabilityIds.add(task.capabilityId);
      return crowd;
    },
    subtract(crowd, tasks) {
      crowd.taken += tasks;
      crowd.count = Math.max(0, crowd.count - tasks);
    },
    forget,
    at: (agent) => byHome.get(homeKey(agent)) ?? [],
    served(crowd) {
      crowd.servedAt = ++turn;
    },
    hope: (crowd) => void hopeful.add(crowd),
    hopeForAll,
    takeHopeful() {
      const taken = [...hopeful].slice(0, BATCH);
      for (const crowd of taken) {
        hopeful.delete(crowd);
        settle(crowd);
      }
      // Room that comes while one of them asks for it is not that one's alone.
      return [...Map.groupBy(taken, ({ home }) => home)].map(([home, hoped]) =>
        [...new Set([...hoped, ...(byHome.get(home) ?? [])])].sort((a, b) => a.servedAt - b.servedAt),
      );
    },
    get hasHopeful() {
      return hopeful.size > 0;
    },
    get total() {
      let sum = 0;
      for (const { count } of crowds.values()) sum += count;
      return sum;
    },
    async count() {
      if (runtime.elapsedMs() - countedAt < COUNT_MS) return;
      countedAt = runtime.elapsedMs();
      await countNext();
      hopeForAll();
    },
    heed() {
      countedAt = Number.NEGATIVE_INFINITY;
    },
  };
}

/** In the database's order: by bytes, which for these ids is by characters. */
const isAfter = (a: AgentKey, b: AgentKey): boolean =>
  a.workspaceId === b.workspaceId ? a.agentId > b.agentId : a.workspaceId > b.workspaceId;
