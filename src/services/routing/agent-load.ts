/**
 * How agents do, as this replica sees it: how many tasks each has at once, how long they take, how many fail. In memory
 * alone; what another replica sees is its own.
 */
import { TaskState } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { newSignals, observe, type Signals } from "../../domain/routing/agent-signals.ts";
import type { TaskHeader } from "../../domain/task-log.ts";
import type { Runtime } from "../runtime.ts";

/** Agents that are remembered at most. The one that was longest without a task is forgotten first. */
const MOST_AGENTS = 20_000;

/** What is known of one agent. */
export interface AgentLoad {
  inFlight: number;
  readonly signals: Signals;
}

export interface AgentLoads {
  /** What is known of an agent; undefined when it has had no task here. */
  of(workspaceId: string, agentId: string): AgentLoad | undefined;
  /** A task begins to run here. */
  begin(header: TaskHeader): void;
  /** It runs here no longer. `state` says how it stands: one that has ended tells how long its agent took, and whether it failed. */
  end(header: TaskHeader, state: TaskState): void;
}

export function createAgentLoads(runtime: Runtime): AgentLoads {
  const loads = new Map<string, AgentLoad>();
  const keyOf = (workspaceId: string, agentId: string) => `${workspaceId} ${agentId}`;

  function touched(workspaceId: string, agentId: string): AgentLoad {
    const key = keyOf(workspaceId, agentId);
    const load = loads.get(key) ?? { inFlight: 0, signals: newSignals() };
    // Moved to the end: the first is the one that was longest without a task.
    loads.delete(key);
    loads.set(key, load);
    if (loads.size > MOST_AGENTS) forgetOne();
    return load;
  }

  function forgetOne(): void {
    for (const [key, { inFlight }] of loads) {
      if (inFlight > 0) continue;
      loads.delete(key);
      return;
    }
  }

  return {
    of: (workspaceId, agentId) => loads.get(keyOf(workspaceId, agentId)),
    begin({ workspaceId, agentId }) {
      touched(workspaceId, agentId).inFlight += 1;
    },
    end({ workspaceId, agentId, createdAt }, state) {
      const load = touched(workspaceId, agentId);
      load.inFlight = Math.max(0, load.inFlight - 1);
      const failed = state === TaskState.FAILED || state === TaskState.REJECTED;
      if (!failed && state !== TaskState.COMPLETED) return;
      const latencyMs = Math.max(0, runtime.now().getTime() - createdAt.getTime());
      observe(load.signals, { latencyMs, failed, nowMs: runtime.elapsedMs() });
    },
  };
}
