/** What a runner works with: what all of a replica share, what its task alone has, and how long both may be used. */
import type { TaskStore } from "../store/task-store.ts";
import type { AbortGroup } from "./abort-group.ts";
import type { AgentClient, AgentEndpoint } from "./agent-port.ts";
import type { FindAnotherAgent } from "./another-agent.ts";
import type { TaskLog } from "./late-log.ts";
import type { AgentLoads } from "./routing/agent-load.ts";
import type { Runtime } from "./runtime.ts";
import type { AttemptRules } from "./task-attempts.ts";
import type { Hedging } from "./task-hedge.ts";
import type { TaskWriter } from "./task-writer.ts";

export interface RunnerDeps {
  store: TaskStore;
  runtime: Runtime;
  /** Longest silence of an agent, in milliseconds. */
  agentTimeoutMs: number;
  /** How long an agent may be out of reach in the middle of a task, in milliseconds. */
  agentAwayMs: number;
  /** Longest time with one attempt, in milliseconds. */
  attemptTimeoutMs: number;
  attempts: Omit<AttemptRules, "safeToRepeat">;
  /** Who has a task next when an agent has failed it; left out where there is nobody. */
  nextAgent?: FindAnotherAgent | undefined;
  /** Asks a second agent when the first is slow; left out where nobody is. */
  hedging?: Hedging | undefined;
  /** Told whether agents answer. */
  loads: Pick<AgentLoads, "answered" | "failedCall">;
}

/** What a runner works with that is its task's own. */
export interface RunnerInit {
  writer: TaskWriter;
  /** Who has the task, and the way there. */
  agent: AgentEndpoint;
  client: AgentClient;
  log: TaskLog;
  life: Life;
}

/** The time in which runners may work: until the process stops, or is declared dead. Their tasks are not touched then. */
export interface Life {
  /** Ends their writes. */
  readonly signal: AbortSignal;
  /** Ends their listening. */
  readonly runners: AbortGroup;
}
