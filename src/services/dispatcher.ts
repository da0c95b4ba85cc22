/** The running tasks of this process: starts a runner for each, finds it again, and lets all of them go at the end. */
import { clone } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Logger } from "pino";
import { type Message, TaskSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { agentText, messageUpdate, statusUpdate } from "../domain/agent-report.ts";
import { SignalboxError, unsupportedOperation } from "../domain/errors.ts";
import { foldTask, stateOf, type TaskHeader, type TaskImage } from "../domain/task-log.ts";
import { isTerminal, stateName } from "../domain/task-state.ts";
import { isOutcomeUnknown } from "../store/database-errors.ts";
import type { TaskStore } from "../store/task-store.ts";
import { AgentCallError, type AgentClient, type AgentConnector, type AgentEndpoint } from "./agent-port.ts";
import type { Runtime } from "./runtime.ts";
import { createTaskRunner, type Delivery, type TaskRunner } from "./task-runner.ts";
import { createTaskWriter, whenDatabaseAnswers } from "./task-writer.ts";
import type { UpdateHub } from "./update-hub.ts";

export interface DispatcherDeps {
  store: TaskStore;
  hub: UpdateHub;
  connector: AgentConnector;
  runtime: Runtime;
  log: Logger;
  agentTimeoutMs: number;
  /** Tasks that run at once at most; one more is refused with QUEUE_FULL. */
  maxRunning: number;
}

/** A message, the agent it goes to and what it is delivered with. */
export interface Work {
  agent: AgentEndpoint;
  message: Message;
  delivery: Delivery;
  /** The log of the request, with its ids. */
  log: Logger;
}

export interface Dispatcher {
  /** Stores a new task and starts it. Resolves when it is durable. `beforeStart` runs between the two. */
  begin(header: TaskHeader, work: Work, beforeStart?: () => Promise<void>): Promise<TaskImage>;
  /** Stores a further message of a task that has not ended, and delivers it. Resolves when it is durable. */
  proceed(image: TaskImage, work: Work): Promise<TaskImage>;
  /** Takes up a task that an earlier process left unfinished. */
  resume(image: TaskImage, agent: AgentEndpoint): void;
  /** Ends a task whose agent cannot be asked. */
  end(image: TaskImage, state: TaskState, text: string, cause: string): Promise<void>;
  /** Cancels a task at its agent. Throws TaskNotCancelable when the agent, or the task's state, forbids it. */
  cancel(image: TaskImage, agent: AgentEndpoint, signal: AbortSignal): Promise<void>;
  /** Shows the task to Get and List. False when its agent has answered with a bare Message meanwhile. */
  disclose(workspaceId: string, taskId: string): Promise<boolean>;
  /** Tasks that run now. */
  readonly running: number;
  /** Lets every task go, without ending any. Resolves when nothing writes any more. */
  stop(): Promise<void>;
}

interface Entry {
  runner: TaskRunner;
  /** Resolves when the runner rests. */
  done: Promise<void>;
}

export function createDispatcher(deps: DispatcherDeps): Dispatcher {
  const { store, runtime, log } = deps;
  const running = new Map<string, Entry>();
  /** Messages on their way to tasks that run. */
  const added = new Set<Promise<void>>();
  const stop = new AbortController();
  const keyOf = (header: Pick<TaskHeader, "workspaceId" | "taskId">) => `${header.workspaceId} ${header.taskId}`;

  function connect(agent: AgentEndpoint): AgentClient {
    try {
      return deps.connector.connect(agent);
    } catch (error) {
      throw error instanceof AgentCallError ? agentUnavailable(agent.agentId, error) : error;
    }
  }

  function runnerFor(image: TaskImage, client: AgentClient, requestLog = log): TaskRunner {
    const { taskId, workspaceId, agentId } = image.header;
    const taskLog = requestLog.child({ taskId, workspaceId, agentId });
    return createTaskRunner({ ...deps, log: taskLog }, createTaskWriter(deps, image), client, stop.signal);
  }

  function start(runner: TaskRunner, work: (runner: TaskRunner) => Promise<void>): void {
    const key = keyOf(runner.writer.image.header);
    const entry: Entry = { runner, done: Promise.resolve() };
    running.set(key, entry);
    entry.done = work(runner)
      .catch((error: unknown) => {
        if (!stop.signal.aborted)
          log.error({ err: error, taskId: runner.writer.image.header.taskId }, "a runner broke");
      })
      .finally(() => {
        if (running.get(key) === entry) running.delete(key);
        runner.release();
      });
  }

  /** Adds a message to a task that runs. If it came to rest meanwhile, what the message did there is looked after. */
  function add({ runner }: Entry, agent: AgentEndpoint, message: Message, delivery: Delivery): void {
    const work = runner
      .addMessage(message, delivery)
      .then(() => {
        const { image } = runner.writer;
        if (stop.signal.aborted || running.has(keyOf(image.header)) || isTerminal(stateOf(image))) return;
        start(runnerFor(image, connect(agent)), (next) => next.resume());
      })
      .catch((error: unknown) => {
        log.error({ err: error, taskId: runner.writer.image.header.taskId }, "a task cannot be looked after");
      })
      .finally(() => added.delete(work));
    added.add(work);
  }

  function admit(): void {
    if (stop.signal.aborted) throw draining();
    if (running.size >= deps.maxRunning) throw tooManyRunning(deps.maxRunning);
  }

  async function end(image: TaskImage, state: TaskState, text: string, cause: string): Promise<void> {
    await createTaskWriter(deps, image).append(
      ({ header }) => {
        const message = agentText(header, runtime.newId(), text);
        return [statusUpdate(header, { state, timestamp: timestampFromDate(runtime.now()), message }, cause)];
      },
      {},
      stop.signal,
    );
  }

  /** A task whose submit failed may be stored all the same. Nobody was told of it, so nobody will ask: it must not stay. */
  async function endUnacknowledged(header: TaskHeader): Promise<void> {
    try {
      const { workspaceId, taskId } = header;
      const stored = await whenDatabaseAnswers(runtime, stop.signal, () => store.load(workspaceId, taskId));
      if (!stored) return;
      const image = foldTask(stored.header, stored.updates);
      await end(image, TaskState.FAILED, "The task could not be started and was not acknowledged.", "not acknowledged");
    } catch (error) {
      if (!stop.signal.aborted) log.error({ err: error, taskId: header.taskId }, "an unacknowledged task may be left");
    }
  }

  return {
    get running() {
      return running.size;
    },

    async begin(header, { agent, message, delivery, log: requestLog }, beforeStart) {
      admit();
      const client = connect(agent);
      const update = messageUpdate(message);
      let stored = false;
      try {
        await store.submit({ header, updates: [update] });
        stored = true;
        await beforeStart?.();
      } catch (error) {
        client.release();
        if (stored || isOutcomeUnknown(error)) void endUnacknowledged(header);
        throw error;
      }
      // Two images: the runner moves its own on.
      const updates = [{ ...update, seq: 1 }];
      const runner = runnerFor(foldTask({ ...header }, updates), client, requestLog);
      start(runner, (r) => r.run(message, delivery));
      requestLog.debug({ taskId: header.taskId, agentId: header.agentId }, "task accepted");
      return foldTask(header, updates);
    },

    async proceed(image, { agent, message, delivery, log: requestLog }) {
      admit();
      const key = keyOf(image.header);
      let entry = running.get(key);
      if (entry && stateOf(entry.runner.writer.image) === TaskState.INPUT_REQUIRED) {
        // It is about to rest, and must not meet what comes now.
        await entry.done;
        entry = undefined;
      }
      const runner = entry?.runner ?? runnerFor(image, connect(agent), requestLog);
      const goOn = (current: TaskImage) => {
        const waits = stateOf(current) === TaskState.INPUT_REQUIRED || stateOf(current) === TaskState.AUTH_REQUIRED;
        const status = { state: TaskState.WORKING, timestamp: timestampFromDate(runtime.now()) };
        // First the status: the agent's question belongs before its answer in the history.
        return [
          ...(waits ? [statusUpdate(current.header, status, "its client answered")] : []),
          messageUpdate(message),
        ];
      };
      let outcome: string;
      try {
        outcome = await runner.writer.append(goOn, { once: true }, stop.signal);
      } catch (error) {
        // If the message was stored all the same, the task says WORKING: what its agent says of it is the truth.
        if (!running.has(key)) start(runner, (r) => r.writer.refresh(stop.signal).then(() => r.resume()));
        else if (!entry) runner.release();
        throw error;
      }
      if (outcome === "ended") {
        if (!entry) runner.release();
        throw messageToEnded(runner.writer.image);
      }
      const accepted = { ...runner.writer.image, task: clone(TaskSchema, runner.writer.image.task) };
      // Another message may have been faster and have started the task again, or the run that went on may have ended.
      const current = running.get(key);
      if (current) add(current, agent, message, delivery);
      if (current && current.runner !== runner) runner.release();
      if (!current) {
        const next = entry ? runnerFor(runner.writer.image, connect(agent), requestLog) : runner;
        start(next, (r) => r.run(message, delivery));
      }
      return accepted;
    },

    resume(image, agent) {
      if (!running.has(keyOf(image.header))) start(runnerFor(image, connect(agent)), (runner) => runner.resume());
    },

    end,

    async cancel(image, agent, signal) {
      const key = keyOf(image.header);
      const entry = running.get(key);
      if (entry) return entry.runner.cancel(signal);
      const runner = runnerFor(image, connect(agent));
      try {
        await runner.cancel(signal);
      } catch (error) {
        runner.release();
        throw error;
      }
      // An agent may take its time to cancel, and nobody else follows the task.
      if (isTerminal(stateOf(runner.writer.image)) || running.has(key)) runner.release();
      else start(runner, (r) => r.resume());
    },

    async disclose(workspaceId, taskId) {
      const entry = running.get(keyOf({ workspaceId, taskId }));
      if (entry) {
        await entry.runner.writer.append(() => [], {}, stop.signal);
        return entry.runner.writer.image.header.disclosed;
      }
      return (await store.load(workspaceId, taskId))?.header.disclosed ?? false;
    },

    async stop() {
      stop.abort(draining());
      await Promise.allSettled([...[...running.values()].map((entry) => entry.done), ...added]);
    },
  };
}

/** The server is about to stop; another replica, or this one after its restart, goes on. */
export const draining = (): SignalboxError =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "DRAINING",
    message: "This server is stopping. Its tasks go on; call again, or subscribe to the task again.",
    retryAfterMs: 1000,
  });

const tooManyRunning = (max: number): SignalboxError =>
  new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "QUEUE_FULL",
    message: `${max} tasks are running, which is the most this server takes (limits.running-tasks). Try again later.`,
    retryAfterMs: 1000,
  });

export const agentUnavailable = (agentId: string, cause: Error): SignalboxError =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "AGENT_UNAVAILABLE",
    message: `Agent "${agentId}" cannot be called: ${cause.message}`,
    metadata: { agentId },
    cause,
  });

/** A message for a task that has ended (A2A specification, section 3.1.1). */
export function messageToEnded(image: TaskImage): SignalboxError {
  const { taskId, contextId } = image.header;
  return unsupportedOperation(
    `Task "${taskId}" is ${stateName(stateOf(image))} and takes no further message. Send the message without taskId, in context "${contextId}", to begin a new task.`,
    { taskId, contextId },
  );
}
