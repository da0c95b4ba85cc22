/**
 * How agents do: how many tasks each has at once, how long they take, how many fail, and whether it can be reached. What this
 * replica has seen itself is in memory; what others have told it is beside that, and what is read here is both together. An agent
 * that is lent is known by the name that it has where it is registered, whoever asks for it by another.
 */
import { TaskState } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { mergeSignals, newSignals, observe, type Signals } from "../../domain/routing/agent-signals.ts";
import {
  type Breaker,
  type BreakerRules,
  callFailed,
  callSucceeded,
  isForgotten,
  newBreaker,
  openAsWell,
} from "../../domain/routing/breaker.ts";
import type { TaskHeader } from "../../domain/task-log.ts";
import type { HeardSignals, SharedSignals } from "../../store/signal-repository.ts";
import type { AgentCallError } from "../agent-port.ts";
import type { Runtime } from "../runtime.ts";

/** Agents that are remembered at most. The one that was longest without a task is forgotten first. */
const MOST_AGENTS = 20_000;
/** Answers of what stands before an agent, that say that the agent is not there. */
const NOT_THERE = new Set(["UNAVAILABLE", "HTTP_502", "HTTP_503", "HTTP_504"]);

/** After so long every replica knows that an agent has moved, in milliseconds. */
const MOVE_KNOWN_MS = 3_000;

/** What is known of one agent. */
export interface AgentLoad {
  readonly inFlight: number;
  readonly signals: Signals;
}

type OfTask = Pick<TaskHeader, "workspaceId" | "agentId">;

export interface AgentLoads {
  /** What is known of an agent, by all replicas; undefined when it has had no task. */
  of(workspaceId: string, agentId: string): AgentLoad | undefined;
  /** The agent's circuit breaker; undefined when it is closed, and there is nothing to remember. */
  breaker(workspaceId: string, agentId: string): Breaker | undefined;
  /** A task begins to run here, at an agent by its name where it is registered. */
  begin(agent: OfTask): void;
  /** It runs here no longer. `state` says how it stands: one that has ended tells how long its agent took, and whether it failed. */
  end(task: OfTask & Pick<TaskHeader, "createdAt">, state: TaskState): void;
  /** The agent has answered the message of a task, whatever it said, or can be asked for one again. */
  answered(task: OfTask): void;
  /** It could not be had, or what it answered is no A2A. What it refuses is an answer. */
  failedCall(task: OfTask, failure: AgentCallError): void;
  /** What was seen of an agent that has gone, or was registered anew, is forgotten, and the others are told. Its tasks run on. */
  forget(agent: OfTask): void;
  /** The agent has another address: of whether it can be reached, nothing is known any more. */
  moved(agent: OfTask): void;
  /** Takes out at most `limit` agents of which the others do not know what this replica knows. */
  takeChanged(limit: number): SharedSignals[];
  /** Has these agents told to the others once more; all that have tasks here, where none are given. */
  tellAgain(agents?: readonly OfTask[]): void;
  /** Takes in what others have told, and forgets what those have told that do not live. */
  hear(rows: readonly HeardSignals[], living: ReadonlySet<string>): void;
  /** Agents that failed tasks since this was last asked, here or elsewhere. */
  takeFailing(): OfTask[];
  /** The agents that are known, those first that had no task for longest. */
  known(): Iterable<OfTask>;
}

export interface LoadEvents {
  /** When calls to an agent are to stop. Undefined: never. */
  rules?: BreakerRules | undefined;
  /** Told of each breaker that is open, or half-open, from now on, and of each that has closed. */
  onCircuit?: (agent: OfTask, breaker: Breaker | undefined) => void;
  /** Where an agent is registered that another workspace lends; undefined for a workspace's own. */
  homeOf?: (workspaceId: string, agentId: string) => OfTask | undefined;
}

/** Of one agent. */
interface Known extends OfTask {
  readonly own: { inFlight: number; signals: Signals };
  breaker: Breaker | undefined;
  /** When it came to another address; undefined when it never did. */
  movedAtMs: number | undefined;
  /** By replica; undefined when there is none. */
  others: Map<string, HeardSignals> | undefined;
  /** All together, as long as it is true. */
  merged: { inFlight: number; signals: Signals } | undefined;
}

export function createAgentLoads(
  runtime: Runtime,
  { rules, onCircuit = () => {}, homeOf = () => undefined }: LoadEvents = {},
): AgentLoads {
  const loads = new Map<string, Known>();
  const changed = new Set<Known>();
  const failing = new Set<Known>();
  const keyOf = (workspaceId: string, agentId: string) => `${workspaceId} ${agentId}`;

  function known(workspaceId: string, agentId: string): Known | undefined {
    const home = homeOf(workspaceId, agentId);
    return loads.get(home ? keyOf(home.workspaceId, home.agentId) : keyOf(workspaceId, agentId));
  }

  function at({ workspaceId, agentId }: OfTask): Known {
    const key = keyOf(workspaceId, agentId);
    const before = loads.get(key);
    if (before) return before;
    const own = { inFlight: 0, signals: newSignals() };
    const nothing = { breaker: undefined, movedAtMs: undefined, others: undefined, merged: undefined };
    const load: Known = { workspaceId, agentId, own, ...nothing };
    loads.set(key, load);
    if (loads.size > MOST_AGENTS) forgetOne(load);
    return load;
  }

  function touched(task: OfTask): Known {
    const load = at(task);
    // Moved to the end: the first is the one that was longest without a task.
    const key = keyOf(task.workspaceId, task.agentId);
    loads.delete(key);
    loads.set(key, load);
    changed.add(load);
    load.merged = undefined;
    return load;
  }

  function forgetOne(latest: Known): void {
    for (const [key, load] of loads) {
      if (load === latest || load.own.inFlight > 0) continue;
      loads.delete(key);
      changed.delete(load);
      failing.delete(load);
      return;
    }
  }

  function circuitMoved(load: Known, breaker: Breaker): void {
    changed.add(load);
    onCircuit(load, breaker.openUntilMs === undefined ? undefined : breaker);
  }

  function succeeded(load: Known): void {
    const { breaker } = load;
    if (!breaker || !rules) return;
    const nowMs = runtime.elapsedMs();
    const wasOpen = breaker.openUntilMs !== undefined;
    callSucceeded(breaker, nowMs);
    if (wasOpen && breaker.openUntilMs === undefined) circuitMoved(load, breaker);
    if (isForgotten(breaker, rules, nowMs)) load.breaker = undefined;
  }

  function answered({ workspaceId, agentId }: OfTask): void {
    const load = loads.get(keyOf(workspaceId, agentId));
    if (load) succeeded(load);
  }

  function merge(load: Known, others: Map<string, HeardSignals>) {
    const nowMs = runtime.elapsedMs();
    const all = [load.own, ...others.values()];
    const inFlight = all.reduce((sum, each) => sum + each.inFlight, 0);
    return {
      inFlight,
      signals: mergeSignals(
        all.map(({ signals }) => signals),
        nowMs,
      ),
    };
  }

  return {
    of(workspaceId, agentId) {
      const load = known(workspaceId, agentId);
      if (!load?.others) return load?.own;
      load.merged ??= merge(load, load.others);
      return load.merged;
    },
    breaker: (workspaceId, agentId) => known(workspaceId, agentId)?.breaker,
    begin(agent) {
      touched(agent).own.inFlight += 1;
    },
    end(task, state) {
      const load = touched(task);
      const { own } = load;
      own.inFlight = Math.max(0, own.inFlight - 1);
      const failed = state === TaskState.FAILED || state === TaskState.REJECTED;
      if (!failed && state !== TaskState.COMPLETED) return;
      const latencyMs = Math.max(0, runtime.now().getTime() - task.createdAt.getTime());
      observe(own.signals, { latencyMs, failed, nowMs: runtime.elapsedMs() });
      if (failed) failing.add(load);
      else succeeded(load);
    },
    answered,
    failedCall(task, failure) {
      if (failure.kind === "refused" && !NOT_THERE.has(failure.reason ?? "")) return answered(task);
      if (!rules) return;
      const load = at(task);
      load.breaker ??= newBreaker();
      const openUntilMs = load.breaker.openUntilMs;
      callFailed(load.breaker, rules, runtime.elapsedMs(), runtime.random());
      if (load.breaker.openUntilMs !== openUntilMs) circuitMoved(load, load.breaker);
    },
    forget({ workspaceId, agentId }) {
      const load = loads.get(keyOf(workspaceId, agentId));
      if (!load) return;
      load.own.signals = newSignals();
      load.breaker = undefined;
      load.others = undefined;
      load.merged = undefined;
      failing.delete(load);
      changed.add(load);
    },
    moved(agent) {
      const load = loads.get(keyOf(agent.workspaceId, agent.agentId));
      if (!load) return;
      load.movedAtMs = runtime.elapsedMs();
      const wasOpen = load.breaker?.openUntilMs !== undefined;
      load.breaker = undefined;
      if (!wasOpen) return;
      changed.add(load);
      onCircuit(load, undefined);
    },
    takeChanged(limit) {
      const taken: SharedSignals[] = [];
      for (const load of changed) {
        if (taken.length === limit) break;
        changed.delete(load);
        const { workspaceId, agentId, own, breaker } = load;
        taken.push({
          workspaceId,
          agentId,
          inFlight: own.inFlight,
          signals: own.signals,
          openUntilMs: breaker?.openUntilMs,
          openings: breaker?.openings ?? 0,
        });
      }
      return taken;
    },
    tellAgain(agents) {
      if (agents) for (const agent of agents) changed.add(at(agent));
      else for (const load of loads.values()) if (load.own.inFlight > 0) changed.add(load);
    },
    hear(rows, living) {
      for (const load of loads.values()) {
        if (!load.others) continue;
        // What others have seen fades, and they may have told more.
        load.merged = undefined;
        for (const replicaId of load.others.keys()) if (!living.has(replicaId)) load.others.delete(replicaId);
        if (load.others.size === 0) load.others = undefined;
      }
      const nowMs = runtime.elapsedMs();
      for (const row of rows) {
        const load = at(row);
        load.others ??= new Map();
        if (row.signals.failed > (load.others.get(row.replicaId)?.signals.failed ?? 0)) failing.add(load);
        load.others.set(row.replicaId, row);
        load.merged = undefined;
        if (!rules || row.openUntilMs === undefined || row.openUntilMs <= nowMs) continue;
        // Whoever tells it may not know yet that the agent has moved.
        if (load.movedAtMs !== undefined && nowMs - load.movedAtMs < MOVE_KNOWN_MS) continue;
        load.breaker ??= newBreaker();
        const openUntilMs = load.breaker.openUntilMs;
        openAsWell(load.breaker, row.openUntilMs, row.openings, nowMs);
        // It is theirs to tell the others.
        if (load.breaker.openUntilMs !== openUntilMs) onCircuit(load, load.breaker);
      }
    },
    takeFailing() {
      const taken = [...failing];
      failing.clear();
      return taken;
    },
    known: () => loads.values(),
  };
}
