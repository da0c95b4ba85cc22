/**
 * Once a second: tells the other replicas what has changed of agents here, and hears what has changed there, in one statement
 * each; and looks whether agents that failed tasks are outliers among their peers. A replica that is alone tells and hears
 * nothing. It remembers what it has to tell: whoever comes hears it within two heartbeats.
 */
import type { Logger } from "pino";
import type { SignalRepository } from "../../store/signal-repository.ts";
import type { AgentDirectory } from "../agent-directory.ts";
import type { AgentLoads } from "../routing/agent-load.ts";
import type { AgentAvailability } from "../routing/availability.ts";
import type { Runtime } from "../runtime.ts";

const TURN_MS = 1_000;
/** Agents that are told of in one turn at most, and that are heard of: what is left comes with the next. */
const MOST_TOLD = 1_000;
const MOST_HEARD = 10_000;
/** What others have told counts no more when they were not heard for so long, in milliseconds. */
const STALE_MS = 10_000;
/** Agents that have tasks are told of so often, changed or not, and what is older than the last such time is deleted. */
const SWEEP_MS = 60_000;
const OLD_MS = 600_000;

export interface SignalExchangeDeps {
  signals: SignalRepository;
  loads: AgentLoads;
  availability: Pick<AgentAvailability, "judge">;
  directory: Pick<AgentDirectory, "agents" | "borrowersOf">;
  runtime: Runtime;
  log: Logger;
  /** Who tells. Asked each time: a replica that was declared dead goes on under another id. */
  replicaId: () => string;
}

export interface SignalExchange {
  /** How many other replicas live, each time that the heartbeat has counted them. */
  setPeers(count: number): void;
  /** One turn, now. Rejects when the database does not answer. */
  turn(): Promise<void>;
  /** Takes a turn every second. */
  start(): void;
  stop(): Promise<void>;
}

const NOBODY: ReadonlySet<string> = new Set();

export function createSignalExchange(deps: SignalExchangeDeps): SignalExchange {
  const { signals, loads, availability, directory, runtime, log, replicaId } = deps;
  const stop = new AbortController();
  let hasPeers = false;
  let cursor: Date | undefined;
  let heardAtMs = runtime.elapsedMs();
  let sweptAtMs = runtime.elapsedMs();

  async function tell(): Promise<void> {
    const changed = loads.takeChanged(MOST_TOLD);
    if (changed.length === 0) return;
    try {
      await signals.tell(replicaId(), changed, runtime.elapsedMs());
    } catch (error) {
      loads.tellAgain(changed);
      throw error;
    }
  }

  async function hear(): Promise<void> {
    const heard = await signals.hear(replicaId(), cursor, MOST_HEARD, runtime.elapsedMs);
    // Who has gone is forgotten before what is told of whoever is there now is taken in, also where no task comes.
    for (const workspaceId of new Set(heard.rows.map((row) => row.workspaceId))) await directory.agents(workspaceId);
    loads.hear(heard.rows, heard.living);
    cursor = heard.cursor;
    heardAtMs = runtime.elapsedMs();
  }

  /** What is not heard any more is not true any more. */
  function forgetOthers(): void {
    loads.hear([], NOBODY);
    cursor = undefined;
  }

  async function sweep(): Promise<void> {
    if (runtime.elapsedMs() - sweptAtMs < SWEEP_MS) return;
    sweptAtMs = runtime.elapsedMs();
    loads.tellAgain();
    await signals.sweep(OLD_MS);
  }

  async function judge(): Promise<void> {
    // An agent that is lent has other peers in each workspace.
    const failing = loads.takeFailing().flatMap((agent) => [agent, ...directory.borrowersOf(agent)]);
    const byWorkspace = Map.groupBy(failing, ({ workspaceId }) => workspaceId);
    for (const [workspaceId, agents] of byWorkspace) {
      const ids = agents.map(({ agentId }) => agentId);
      const ejected = availability.judge(workspaceId, await directory.agents(workspaceId), ids, loads);
      if (ejected.length > 0) log.warn({ workspaceId, agents: ejected }, "agents fail far more tasks than their peers");
    }
  }

  async function turn(): Promise<void> {
    if (hasPeers) {
      await sweep();
      await tell();
      await hear();
    }
    await judge();
  }

  async function keepTurning(): Promise<void> {
    while (!stop.signal.aborted) {
      await runtime.wait(TURN_MS, stop.signal).catch(() => {});
      if (stop.signal.aborted) return;
      await turn().catch((error: unknown) => log.debug({ err: error }, "what is known of agents was not exchanged"));
      if (hasPeers && runtime.elapsedMs() - heardAtMs > STALE_MS) forgetOthers();
    }
  }

  let kept: Promise<void> = Promise.resolve();
  return {
    setPeers(count) {
      if (hasPeers && count === 0) forgetOthers();
      if (!hasPeers) heardAtMs = runtime.elapsedMs();
      hasPeers = count > 0;
    },
    turn,
    start() {
      kept = keepTurning();
    },
    async stop() {
      stop.abort();
      await kept;
    },
  };
}
