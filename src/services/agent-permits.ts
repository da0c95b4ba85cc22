/**
 * Who may be given a task: one that runs has a permit of its agent's limit, and of its capability's where it was given to
 * one. Of agents without limits nothing is counted. A limit is its agent's wherever the task comes from: units are taken under the
 * name that the agent has where it is registered.
 */
import type { LimitKey } from "../store/allotment-repository.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { Allotments } from "./allotments.ts";
import type { Slice } from "./limit-slice.ts";

/** What of a task its permit depends on. */
export interface PermitTask {
  readonly workspaceId: string;
  readonly agentId: string;
  readonly capabilityId: string | undefined;
}

/** A place at an agent. */
export interface Permit {
  /** Of each of its slices it has a unit. */
  readonly slices: Slice[];
  /** Gives it back. Once is enough. */
  release(): void;
}

export interface AgentPermits {
  /** Whether a task needs a permit, by what was last heard of its agent. */
  isNeeded(task: PermitTask): boolean;
  /** A permit for a task that is to begin; undefined when there is none now. For a task that needs one. Rejects as the database does. */
  take(task: PermitTask): Promise<Permit | undefined>;
  /**
   * For a task that its agent has already: whatever the limit says. Undefined when it needs none. A permit that it has is
   * made whole for limits that were set since.
   */
  force(task: PermitTask, permit?: Permit): Permit | undefined;
  /** The slices that a task needs a unit of. */
  slicesOf(task: PermitTask): Slice[];
  /** The slice of an agent's own limit; undefined when it has none. */
  ofAgent(workspaceId: string, agentId: string): Slice | undefined;
  /** That of the limit of one of its capabilities. */
  ofCapability(task: PermitTask): Slice | undefined;
  /** A permit of units that were taken from these slices. */
  from(task: PermitTask, slices: Slice[]): Permit;
}

export interface AgentPermitsDeps {
  directory: Pick<AgentDirectory, "last">;
  allotments: Allotments;
  /** Told when a permit is given back. */
  onFree: (task: PermitTask) => void;
}

export function createAgentPermits({ directory, allotments, onFree }: AgentPermitsDeps): AgentPermits {
  const limitsOf = (workspaceId: string, agentId: string) => directory.last(workspaceId)?.limits.get(agentId);

  function ofAgent(workspaceId: string, agentId: string): Slice | undefined {
    const { home, agent: limit } = limitsOf(workspaceId, agentId) ?? {};
    if (!home || limit === undefined) return undefined;
    return allotments.slice({ workspaceId: home.workspaceId, key: `agent/${home.agentId}` }, limit);
  }

  function ofCapability({ workspaceId, agentId, capabilityId }: PermitTask): Slice | undefined {
    if (capabilityId === undefined) return undefined;
    const { home, capabilities } = limitsOf(workspaceId, agentId) ?? {};
    const limit = capabilities?.get(capabilityId);
    if (!home || limit === undefined) return undefined;
    return allotments.slice(
      { workspaceId: home.workspaceId, key: `capability/${home.agentId}/${capabilityId}` },
      limit,
    );
  }

  const slicesOf = (task: PermitTask): Slice[] =>
    [ofAgent(task.workspaceId, task.agentId), ofCapability(task)].filter((slice) => slice !== undefined);

  function isNeeded({ workspaceId, agentId, capabilityId }: PermitTask): boolean {
    const limits = limitsOf(workspaceId, agentId);
    if (!limits) return false;
    return limits.agent !== undefined || (capabilityId !== undefined && limits.capabilities.has(capabilityId));
  }

  function from(task: PermitTask, slices: Slice[]): Permit {
    let isHeld = true;
    return {
      slices,
      release() {
        if (!isHeld) return;
        isHeld = false;
        for (const slice of slices) slice.giveBack(1);
        onFree(task);
      },
    };
  }

  return {
    isNeeded,
    async take(task) {
      const slices = slicesOf(task);
      const asked = await Promise.allSettled(slices.map((slice) => slice.ask(1)));
      const taken = slices.filter((_, i) => asked[i]!.status === "fulfilled" && asked[i]!.value);
      if (taken.length === slices.length) return from(task, slices);
      for (const slice of taken) slice.giveBack(1);
      const failed = asked.find((answer) => answer.status === "rejected");
      if (failed) throw failed.reason;
      return undefined;
    },
    force(task, permit) {
      if (!isNeeded(task)) return permit;
      const whole = permit ?? from(task, []);
      for (const slice of slicesOf(task)) {
        if (whole.slices.includes(slice)) continue;
        slice.force(1);
        whole.slices.push(slice);
      }
      return whole;
    },
    slicesOf,
    ofAgent,
    ofCapability,
    from,
  };
}

/** The limit of that key as it is now; undefined when there is none any more. */
export async function limitNow(
  directory: Pick<AgentDirectory, "agents">,
  { workspaceId, key }: LimitKey,
): Promise<number | undefined> {
  const [kind, agentId = "", capabilityId = ""] = key.split("/");
  const limits = (await directory.agents(workspaceId)).limits.get(agentId);
  return kind === "agent" ? limits?.agent : limits?.capabilities.get(capabilityId);
}
