/** Places at agents that work on so many tasks at once: what shares them out, what gives them to tasks, and where tasks wait for them. */
import type { Logger } from "pino";
import { latencyAt } from "../domain/routing/agent-signals.ts";
import type { AgentQueueRepository } from "../store/agent-queue-repository.ts";
import type { AllotmentRepository } from "../store/allotment-repository.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import { type AgentPermits, createAgentPermits, limitNow } from "./agent-permits.ts";
import { type AgentQueue, createAgentQueue } from "./agent-queue.ts";
import { type Allotments, createAllotments } from "./allotments.ts";
import type { AgentLoads } from "./routing/agent-load.ts";
import type { Runtime } from "./runtime.ts";

export interface AgentPlacesDeps {
  allotmentRepository: AllotmentRepository;
  queueRepository: AgentQueueRepository;
  directory: AgentDirectory;
  loads: Pick<AgentLoads, "of">;
  runtime: Runtime;
  log: Logger;
  replicaId: () => string;
  /** Tasks that may wait for one agent. */
  maxWaiting: number;
  /** Told that tasks that wait for their agents may be taken. */
  onRoom: () => void;
  /** Tells other replicas that they may find something that was not there, or are asked for something. */
  announce: () => void;
}

export interface AgentPlaces {
  readonly allotments: Allotments;
  readonly permits: AgentPermits;
  readonly agentQueue: AgentQueue;
}

export function createAgentPlaces(deps: AgentPlacesDeps): AgentPlaces {
  const { directory, loads, runtime } = deps;
  const allotments = createAllotments({
    ...deps,
    repository: deps.allotmentRepository,
    limitOf: (limit) => limitNow(directory, limit),
    onRoom: () => agentQueue.freedAny(),
  });
  const permits = createAgentPermits({ directory, allotments, onFree: (task) => agentQueue.freed(task) });
  const agentQueue: AgentQueue = createAgentQueue({
    ...deps,
    repository: deps.queueRepository,
    permits,
    latencyOf({ workspaceId, agentId }) {
      const load = loads.of(workspaceId, agentId);
      return load && latencyAt(load.signals, runtime.elapsedMs());
    },
  });
  return { allotments, permits, agentQueue };
}
