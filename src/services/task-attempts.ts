/**
 * Decides what follows when an attempt has failed: another one, when the agent provably never had the task or is declared
 * safe to repeat, else the end of the task. Another one goes to another agent where the rollout names one, and at once.
 * Whatever is decided is in the log before anything is sent again.
 */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Role, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { statusUpdate } from "../domain/agent-report.ts";
import { attemptFailed, failureCause, movedCause } from "../domain/cause.ts";
import { agentsOf, type NewUpdate, stateOf, type TaskImage } from "../domain/task-log.ts";
import { EngineState } from "../domain/task-state.ts";
import type { Reroute } from "../store/append-batch.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { AgentCallError } from "./agent-port.ts";
import { asGiven, type FindAnotherAgent, rerouteTo } from "./another-agent.ts";
import type { TaskLog } from "./late-log.ts";
import { backoffMs, type Runtime } from "./runtime.ts";
import type { TaskReporter } from "./task-reporter.ts";
import type { TaskWriter } from "./task-writer.ts";

export interface AttemptRules {
  /** Attempts of one task at most. */
  most: number;
  /** Bounds of the pause before another attempt, in milliseconds. It doubles with each, with jitter. */
  minPauseMs: number;
  maxPauseMs: number;
  /** Whether the agent's work may be done twice. */
  safeToRepeat: boolean;
  /** Told that a task waits for its next attempt. */
  onPause: (pauseMs: number) => void;
}

export interface TaskAttempts {
  /** The agent never named the task. It provably never had it when the failure is `unreachable`. */
  notBegun(failure: AgentCallError): Promise<void>;
  /** The agent had the task, and can no longer be had, or no longer has it. */
  failed(failure: AgentCallError): Promise<void>;
  /** The agent answered with an error, or with what is no A2A, and would again. */
  refused(failure: AgentCallError): Promise<void>;
  /** The agent ended the task as failed, and said why. False when that is how the task ends. */
  failedByAgent(why: string): Promise<boolean>;
  /** The replica that brought the task to its agent is gone, and the agent had not named it. */
  ownerDied(): Promise<void>;
}

export interface AttemptsDeps {
  runtime: Runtime;
  log: TaskLog;
  rules: AttemptRules;
  store: Pick<TaskStore, "findUpstreamContext">;
  /** Who has the task next when an agent has failed it; left out where there is nobody. */
  nextAgent?: FindAnotherAgent | undefined;
  /** Whether the client still wants it. */
  isWanted: () => boolean;
  /** Whether a second agent, which was asked because this one was slow, has the task now that this one has failed. */
  isHedged: () => Promise<boolean>;
}

export function createTaskAttempts(
  deps: AttemptsDeps,
  writer: TaskWriter,
  reporter: TaskReporter,
  signal: AbortSignal,
): TaskAttempts {
  const { runtime, rules, log } = deps;

  /** What another attempt would send is the first message, so it must be all that the client has said. */
  function mayRepeat({ header, task }: TaskImage): boolean {
    return header.attempt < rules.most && task.history.filter(({ role }) => role === Role.USER).length === 1;
  }

  /** What has been shown of one agent's work stays, so another must not begin anew beside it. */
  const mayMove = (image: TaskImage): boolean => mayRepeat(image) && image.task.artifacts.length === 0;

  /** Lets the same agent try again, after a pause. False when there can be no other attempt. */
  async function again(why: string): Promise<boolean> {
    if (!mayRepeat(writer.image)) return false;
    const pauseMs = backoffMs(writer.image.header.attempt - 1, rules.minPauseMs, rules.maxPauseMs, runtime.random);
    const cause = attemptFailed(writer.image.header.attempt, why, `the next one is due in ${Math.round(pauseMs)} ms`);
    return schedule(why, cause, { pauseMs, allowed: mayRepeat });
  }

  /** Gives the task to the next agent, at once. False when there is none, or it must stay where it is. */
  async function elsewhere(why: string): Promise<boolean> {
    if (await deps.isHedged()) return true;
    const { header, task } = writer.image;
    const [message] = task.history;
    if (!deps.nextAgent || !message || !deps.isWanted() || !mayMove(writer.image)) return false;
    let reroute: Reroute;
    try {
      const next = await deps.nextAgent(asGiven(header), message, agentsOf(header));
      if (!next) return false;
      reroute = await rerouteTo(next, header, deps.store);
    } catch (error) {
      log.warn({ err: error }, "no other agent could be looked for");
      return false;
    }
    const allowed = (image: TaskImage) => deps.isWanted() && mayMove(image);
    const cause = movedCause(header.attempt, why, { from: header.agentId, to: reroute.agentId });
    return schedule(why, cause, { pauseMs: 0, allowed, reroute });
  }

  /** False when it must not be: that is known when it is written down, because the client may say more until then. */
  async function schedule(
    why: string,
    cause: string,
    { pauseMs, allowed, reroute }: { pauseMs: number; allowed: (image: TaskImage) => boolean; reroute?: Reroute },
  ): Promise<boolean> {
    const { attempt } = writer.image.header;
    let repeats = true;
    await writer.append(
      (image) => {
        repeats = allowed(image);
        return repeats ? toWait(image, cause) : [];
      },
      { wakeInMs: pauseMs, forgetUpstream: true, hidden: "either", ...(reroute && { reroute }) },
      signal,
    );
    if (!repeats) return false;
    log.info(
      { attempt, pauseMs, why, ...(reroute && { to: reroute.agentId }) },
      "an attempt failed; there will be another",
    );
    rules.onPause(pauseMs);
    return true;
  }

  function toWait(image: TaskImage, cause: string): NewUpdate[] {
    const waits: NewUpdate = {
      kind: "transition",
      body: create(StreamResponseSchema),
      state: EngineState.SCHEDULED,
      cause,
    };
    if (stateOf(image) !== TaskState.AUTH_REQUIRED) return [waits];
    // The next attempt may not ask for it.
    const working = { state: TaskState.WORKING, timestamp: timestampFromDate(runtime.now()) };
    return [statusUpdate(image.header, working, "the attempt that asked for it failed"), waits];
  }

  async function refused(failure: AgentCallError): Promise<void> {
    if (rules.safeToRepeat && (await elsewhere(failureCause(failure)))) return;
    await reporter.failFor(failure);
  }

  return {
    refused,
    async notBegun(failure) {
      const unheard = failure.kind === "unreachable";
      const unclear = failure.kind === "broken" || failure.kind === "timeout";
      const harmless = unheard || (unclear && rules.safeToRepeat);
      if (!harmless) return refused(failure);
      const why = failureCause(failure);
      if (!(await elsewhere(why)) && !(await again(why))) await reporter.failFor(failure);
    },
    async failed(failure) {
      const why = failureCause(failure);
      if (rules.safeToRepeat && ((await elsewhere(why)) || (await again(why)))) return;
      await reporter.failFor(failure);
    },
    failedByAgent: async (why) => rules.safeToRepeat && (await elsewhere(`the agent says FAILED${why && `: ${why}`}`)),
    async ownerDied() {
      // Nothing is said against the agent.
      if (rules.safeToRepeat && (await again("the replica that had it is gone"))) return;
      const text =
        "The router stopped before the agent confirmed the task. Whether the agent began it is not known; send it again if it may be repeated.";
      await reporter.set(TaskState.FAILED, text, "the replica that had it is gone, and the agent had not confirmed it");
    },
  };
}
