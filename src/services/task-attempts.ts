/**
 * Decides what follows when an attempt has failed: another one, when the agent provably never had the task or is declared
 * safe to repeat, else the end of the task. Whatever is decided is in the log before anything is sent again.
 */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Role, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { statusUpdate } from "../domain/agent-report.ts";
import { type NewUpdate, stateOf, type TaskImage } from "../domain/task-log.ts";
import { EngineState } from "../domain/task-state.ts";
import type { AgentCallError } from "./agent-port.ts";
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
  /** The replica that brought the task to its agent is gone, and the agent had not named it. */
  ownerDied(): Promise<void>;
}

export function createTaskAttempts(
  deps: { runtime: Runtime; log: TaskLog; rules: AttemptRules },
  writer: TaskWriter,
  reporter: TaskReporter,
  signal: AbortSignal,
): TaskAttempts {
  const { runtime, rules, log } = deps;

  /** What another attempt would send is the first message, so it must be all that the client has said. */
  function mayRepeat({ header, task }: TaskImage): boolean {
    return header.attempt < rules.most && task.history.filter(({ role }) => role === Role.USER).length === 1;
  }

  /** False when there can be no other: that is known when it is written down, because the client may say more until then. */
  async function again(why: string): Promise<boolean> {
    if (!mayRepeat(writer.image)) return false;
    const { attempt } = writer.image.header;
    const pauseMs = backoffMs(attempt - 1, rules.minPauseMs, rules.maxPauseMs, runtime.random);
    const cause = `attempt ${attempt} failed: ${why.replace(/\s+/g, " ")}; the next one is due in ${Math.round(pauseMs)} ms`;
    let repeats = true;
    await writer.append(
      (image) => {
        repeats = mayRepeat(image);
        return repeats ? toWait(image, cause) : [];
      },
      { wakeInMs: pauseMs, forgetUpstream: true, hidden: "either" },
      signal,
    );
    if (!repeats) return false;
    log.info({ attempt, pauseMs, why }, "an attempt failed; there will be another");
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

  return {
    async notBegun(failure) {
      const unheard = failure.kind === "unreachable";
      const unclear = failure.kind === "broken" || failure.kind === "timeout";
      const harmless = unheard || (unclear && rules.safeToRepeat);
      if (harmless && (await again(`${failure.kind}: ${failure.message}`))) return;
      await reporter.failFor(failure);
    },
    async failed(failure) {
      if (rules.safeToRepeat && (await again(`${failure.kind}: ${failure.message}`))) return;
      await reporter.failFor(failure);
    },
    async ownerDied() {
      if (rules.safeToRepeat && (await again("the replica that had it is gone"))) return;
      const text =
        "The router stopped before the agent confirmed the task. Whether the agent began it is not known; send it again if it may be repeated.";
      await reporter.set(TaskState.FAILED, text, "the replica that had it is gone, and the agent had not confirmed it");
    },
  };
}
