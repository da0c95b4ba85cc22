/**
 * Asks a second agent when the first is slow, for tasks that are safe to repeat. Whoever completes the task first has it; the
 * other is told to stop. After Dean and Barroso, "The Tail at Scale" (2013): hedged requests, deferred until most requests
 * would have been answered, and few at once, so that a system that is slow as a whole is not given twice the work.
 */

import { type Message, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ownerAsViewer } from "../domain/identity/visibility.ts";
import { misfitOfResult } from "../domain/output-check.ts";
import type { Rollout } from "../domain/rollout.ts";
import {
  agentsOf,
  type Delivery,
  givenCapabilityId,
  stateBrought,
  type TaskHeader,
  type TaskImage,
  type TaskUpdate,
} from "../domain/task-log.ts";
import type { TaskResult } from "../domain/task-result.ts";
import { EngineState, stateName } from "../domain/task-state.ts";
import type { PermitTask } from "./agent-permits.ts";
import { AgentCallError, type AgentClient, type AgentEndpoint } from "./agent-port.ts";
import { type AnotherAgent, asGiven, endpointOf, type FindAnotherAgent, type RolloutSource } from "./another-agent.ts";
import type { GuardPorts } from "./guarded-writer.ts";
import type { TaskLog } from "./late-log.ts";
import { TaskCopy } from "./task-copy.ts";
import type { DeliveryDeps } from "./task-delivery.ts";
import type { UpdateHub } from "./update-hub.ts";
import { wordless } from "./wordless-log.ts";

/** Node's longest timer, 24.8 days. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** Of an agent's tasks so many are with a second agent at once at most; one always may be. */
const MOST_HEDGED = 0.1;

/**
 * - `won`: the second agent's answer became the task's.
 * - `lost`: the first was faster, or had shown something by then.
 * - `failed`: the second did not complete the task, or could not be called.
 * - `refused`: nobody was asked: too many tasks are hedged already, there is no room, or no second agent.
 */
export type HedgeOutcome = "won" | "lost" | "failed" | "refused";

/** What decides about second requests. */
export interface HedgePorts {
  rollouts: RolloutSource;
  /** Another agent of the task's capability. One that is not safe to repeat is not asked. */
  secondAgent: FindAnotherAgent;
  /** The time within which a share of an agent's last tasks ended, in milliseconds; undefined as long as it is not known. */
  quantileMs: (workspaceId: string, agentId: string, quantile: number) => number | undefined;
  /** What is declared of the time that the task's capability takes at its agent, in milliseconds. */
  averageLatencyMs: (task: TaskHeader) => Promise<number | undefined>;
  /** How many tasks an agent has. */
  inFlight: (workspaceId: string, agentId: string) => number;
  /** Takes a place at the second agent; undefined when it has none. The function gives it back. */
  tryReserve: (task: PermitTask) => Promise<(() => void) | undefined>;
  onOutcome: (outcome: HedgeOutcome) => void;
}

export interface HedgeDeps extends DeliveryDeps {
  ports: HedgePorts;
  hub: UpdateHub;
  /** What is looked at before it leaves; left out, nothing is. */
  guard?: Pick<GuardPorts, "results"> | undefined;
  connect(agent: AgentEndpoint): AgentClient;
  /** Gives a task to the second agent, with its answer. False when the task is no longer as it must be. */
  giveTo(attempt: HedgedAttempt, second: AnotherAgent, answer: TaskResult, since: Date): Promise<boolean>;
  /** Ends with this replica's work. */
  life(): AbortSignal;
  inBackground(what: string, taskId: string, work: () => Promise<void>): void;
}

/** An attempt that is under way. */
export interface HedgedAttempt {
  /** Whether an earlier result is looked for, or waited for, before its agent is asked at all. */
  readonly isStoodIn: boolean;
  readonly writer: { readonly image: TaskImage };
  readonly log: TaskLog;
  /** Aborted when the first agent is no longer listened to. */
  readonly ends: AbortSignal;
}

export interface Hedging {
  /** Watches over the first attempt of a task that is safe to repeat. Undefined where nothing is hedged. */
  begin(attempt: HedgedAttempt, message: Message, delivery: Delivery): TaskHedge | undefined;
}

/** Whether another agent's answer may still become the task's: nothing but statuses was shown, and nothing is asked. */
export function mayBeHedged({ state, header, task }: TaskImage): boolean {
  const isAtWork = state === EngineState.ASSIGNED || state === EngineState.WORKING;
  const isFirst = header.attempt === 1 && agentsOf(header).length === 1;
  return isAtWork && isFirst && task.artifacts.length === 0 && said(task.history) === 1;
}

const said = (history: readonly Message[]): number => history.filter(({ role }) => role === Role.USER).length;

export function createHedging(deps: HedgeDeps): Hedging {
  const { ports } = deps;
  /** How many of each agent's tasks are hedged now. */
  const hedged = new Map<string, number>();

  function take({ workspaceId, agentId }: TaskHeader): (() => void) | undefined {
    const key = `${workspaceId} ${agentId}`;
    const now = hedged.get(key) ?? 0;
    if (now >= Math.max(1, Math.floor(MOST_HEDGED * ports.inFlight(workspaceId, agentId)))) return undefined;
    hedged.set(key, now + 1);
    return () => {
      const left = (hedged.get(key) ?? 0) - 1;
      if (left > 0) hedged.set(key, left);
      else hedged.delete(key);
    };
  }

  return {
    begin(attempt, message, delivery) {
      const { header } = attempt.writer.image;
      if (!mayBeHedged(attempt.writer.image)) return undefined;
      const rollout = ports.rollouts.of(header.workspaceId, givenCapabilityId(header));
      if (!(rollout instanceof Promise) && !rollout.hedging) return undefined;
      return new TaskHedge({ ...deps, take }, attempt, { message, delivery, rollout });
    },
  };
}

interface OneHedgeDeps extends HedgeDeps {
  /** Takes one of the places of hedged tasks. */
  take(header: TaskHeader): (() => void) | undefined;
}

/** The second request of one task, if there is one. */
export class TaskHedge {
  readonly #deps: OneHedgeDeps;
  readonly #attempt: HedgedAttempt;
  readonly #stop = new AbortController();
  readonly #over = Promise.withResolvers<boolean>();
  readonly #deaf: () => void;
  /** Whether a second agent was asked. */
  #isUnderWay = false;

  constructor(
    deps: OneHedgeDeps,
    attempt: HedgedAttempt,
    what: { message: Message; delivery: Delivery; rollout: Rollout | Promise<Rollout> },
  ) {
    this.#deps = deps;
    this.#attempt = attempt;
    const { workspaceId, taskId } = attempt.writer.image.header;
    this.#deaf = deps.hub.subscribe(workspaceId, taskId, {
      onCommit: ({ updates }) => {
        // An agent that has asked something is not raced when it goes on.
        if (updates.some(asks) || !mayBeHedged(attempt.writer.image)) this.end();
      },
    });
    deps.inBackground("a second agent could not be asked", taskId, async () => {
      let won = false;
      try {
        won = await this.#work(what);
      } finally {
        this.#deaf();
        this.#over.resolve(won);
      }
    });
  }

  /** The first agent is done, or nothing may be raced any more: a second one is told to stop. */
  end(): void {
    this.#stop.abort(new Error("the hedge is over"));
  }

  /**
   * The first agent has failed: whether the second one has the task now. Resolves when that is decided, or the task's
   * runner must end; where nobody was asked yet, nobody will be.
   */
  async settled(): Promise<boolean> {
    const { ends } = this.#attempt;
    if (!this.#isUnderWay || ends.aborted) {
      this.end();
      return false;
    }
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const leave = () => resolve(false);
    ends.addEventListener("abort", leave, { once: true });
    try {
      return await Promise.race([this.#over.promise, promise]);
    } finally {
      ends.removeEventListener("abort", leave);
    }
  }

  async #work(what: { message: Message; delivery: Delivery; rollout: Rollout | Promise<Rollout> }): Promise<boolean> {
    const { ports, runtime } = this.#deps;
    const { header } = this.#attempt.writer.image;
    const { hedging } = await what.rollout;
    if (!hedging) return false;
    const usualMs =
      ports.quantileMs(header.workspaceId, header.agentId, hedging.quantile) ?? (await ports.averageLatencyMs(header));
    // What is usual is not known, so nothing is known to be slow.
    if (usualMs === undefined) return false;
    const delayMs = Math.min(Math.max(hedging.minDelayMs, usualMs), LONGEST_TIMER_MS);
    const isOver = await runtime.wait(delayMs, this.#stop.signal).then(
      () => false,
      () => true,
    );
    const outcome = isOver ? undefined : await this.#ask(what);
    if (outcome) ports.onOutcome(outcome);
    return outcome === "won";
  }

  /** Undefined when the first agent was faster than the asking. */
  async #ask(what: { message: Message; delivery: Delivery }): Promise<HedgeOutcome | undefined> {
    const { ports, take } = this.#deps;
    const { image } = this.#attempt.writer;
    const { header } = image;
    if (!mayBeHedged(image) || this.#attempt.isStoodIn) return undefined;
    const leaveQuota = take(header);
    if (!leaveQuota) return "refused";
    try {
      const second = await ports.secondAgent(asGiven(header), what.message, agentsOf(header));
      if (!second || !endpointOf(second).safeToRepeat || second.agent.agentId === header.agentId) return "refused";
      const { agentId } = second.agent;
      const capabilityId = second.capability?.capabilityId;
      const leavePlace = await ports.tryReserve({ workspaceId: header.workspaceId, agentId, capabilityId });
      if (!leavePlace) return "refused";
      try {
        return await this.#race(second, what);
      } finally {
        leavePlace();
      }
    } finally {
      leaveQuota();
    }
  }

  async #race(
    second: AnotherAgent,
    { message, delivery }: { message: Message; delivery: Delivery },
  ): Promise<HedgeOutcome | undefined> {
    const { store, runtime, connect, giveTo, life, guard } = this.#deps;
    const { writer } = this.#attempt;
    const { signal } = this.#stop;
    const { header: first } = writer.image;
    const { workspaceId, contextId, agentId } = first;
    const upstreamContextId = await store.findUpstreamContext(workspaceId, {
      contextId,
      agentId: second.agent.agentId,
      viewer: ownerAsViewer(first),
    });
    if (signal.aborted) return undefined;
    const facts = { secondAgentId: second.agent.agentId };
    // The first agent's words may be told where the second's may not.
    const isHushed = () => guard?.results.guards({ ...writer.image.header, ...asHad(second) }) === true;
    const log = wordless(this.#attempt.log, isHushed);
    let client: AgentClient;
    try {
      client = connect(endpointOf(second));
    } catch (error) {
      log.info({ ...facts, err: error }, "the second agent cannot be called");
      return "failed";
    }
    log.info(facts, "the agent is slow; a second one is asked as well");
    const header = { ...writer.image.header, agentId: second.agent.agentId, upstreamContextId };
    const copy = new TaskCopy(this.#deps, header, client, signal);
    this.#isUnderWay = true;
    const since = runtime.now();
    try {
      const answer = await copy.answer(message, delivery);
      const state = "task" in answer ? answer.task.status?.state : TaskState.COMPLETED;
      if (state !== TaskState.COMPLETED) {
        log.info({ ...facts, state: state && stateName(state) }, "the second agent did not complete the task");
        return "failed";
      }
      const { outputSchema } = endpointOf(second);
      const misfit = outputSchema && misfitOfResult(outputSchema, answer);
      if (misfit) {
        log.info({ ...facts, why: misfit.text }, "what the second agent gives does not fit its output schema");
        return "failed";
      }
      const won = await giveTo(this.#attempt, second, answer, since);
      if (won) log.info({ ...facts, instead: agentId }, "the second agent was faster");
      return won ? "won" : "lost";
    } catch (error) {
      if (signal.aborted) return "lost";
      if (!(error instanceof AgentCallError)) throw error;
      log.info({ ...facts, err: error }, "the second agent failed");
      return "failed";
    } finally {
      await copy.end(life(), log);
    }
  }
}

/** Who would have the task, and for what. */
const asHad = ({ agent, capability }: AnotherAgent): Pick<TaskHeader, "agentId" | "capabilityId"> => ({
  agentId: agent.agentId,
  capabilityId: capability?.capabilityId,
});

const asks = (update: TaskUpdate): boolean => {
  const state = stateBrought(update);
  return state === EngineState.INPUT_REQUIRED || state === EngineState.AUTH_REQUIRED;
};
