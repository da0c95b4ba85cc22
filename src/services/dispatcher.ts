/**
 * Brings tasks to their agents: starts a runner for each task that this replica has, takes over the tasks that it must act
 * on, and lets all of them go at the end.
 */
import { clone, create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Logger } from "pino";
import { type Message, StreamResponseSchema, TaskSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { agentText, messageUpdate, statusUpdate } from "../domain/agent-report.ts";
import { type Delivery, foldTask, stateOf, type TaskHeader, type TaskImage } from "../domain/task-log.ts";
import { EngineState, isClaimable, isInterrupted, isLeased, isTerminal } from "../domain/task-state.ts";
import { isOutcomeUnknown } from "../store/database-errors.ts";
import type { TakenTask } from "../store/lease-repository.ts";
import type { TaskKey } from "../store/task-reads.ts";
import { AgentCallError, type AgentClient, type AgentConnector, type AgentEndpoint } from "./agent-port.ts";
import { agentUnavailable, draining, messageToEnded, notBegunYet, queueIsFull } from "./dispatch-errors.ts";
import { createTurns } from "./in-turn.ts";
import { createRunningTasks, type RunningTask } from "./running-tasks.ts";
import type { AttemptRules } from "./task-attempts.ts";
import { createTaskRunner, type RunnerDeps, type TaskRunner } from "./task-runner.ts";
import { createTaskWriter, LeaseLostError, type WriterDeps, whenDatabaseAnswers } from "./task-writer.ts";
import { watchTask } from "./watch.ts";

/** How long a message waits for another replica to bring the task to its agent, in milliseconds. */
const NAMING_MS = 30_000;

export interface DispatcherDeps extends Omit<RunnerDeps, "attempts">, WriterDeps {
  connector: AgentConnector;
  /** An agent as it is registered now. */
  findAgent: (workspaceId: string, agentId: string) => Promise<AgentEndpoint | undefined>;
  replicaId: () => string;
  attempts: Omit<AttemptRules, "safeToRepeat">;
  /** Tasks that run here at once at most; what comes beyond waits in the queue. */
  maxRunning: number;
  /** Whether a new task must wait in the queue, because others do, and whether the queue takes one more. */
  queue: { busy: () => boolean; full: () => Promise<boolean> };
  /** Told when there is room for another task. */
  onRoom: () => void;
}

/** A message, the agent it goes to and what it is delivered with. */
export interface Work {
  agent: AgentEndpoint;
  message: Message;
  delivery: Delivery;
  /** The log of the request, with its ids. */
  log: Logger;
}

/** A task before a replica has accepted it. */
export type TaskRequest = Omit<TaskHeader, "fence" | "leaseOwner" | "attempt" | "delivery">;

export interface Dispatcher {
  /**
   * Stores a new task and starts it, or lets it wait for a replica that has room. Resolves when it is durable.
   * `beforeStart` runs between the two.
   */
  begin(request: TaskRequest, work: Work, beforeStart?: () => Promise<void>): Promise<TaskImage>;
  /** Stores a further message of a task that has not ended, and delivers it. Resolves when it is durable. */
  proceed(image: TaskImage, work: Work, signal: AbortSignal): Promise<TaskImage>;
  /** Carries on a task that this replica has just taken from the queue, or from a replica that is gone. */
  adopt(task: TakenTask, how: "claimed" | "rescued"): Promise<void>;
  /** Ends a task whose agent cannot be asked. */
  end(image: TaskImage, state: TaskState, text: string, cause: string): Promise<void>;
  /** Cancels a task at its agent. Throws TaskNotCancelable when the agent, or the task's state, forbids it. */
  cancel(image: TaskImage, agent: AgentEndpoint, signal: AbortSignal): Promise<void>;
  /** Shows the task to Get and List. False when its agent has answered with a bare Message meanwhile. */
  disclose(workspaceId: string, taskId: string): Promise<boolean>;
  /** Tasks that run here now. */
  readonly running: number;
  readonly runningByWorkspace: ReadonlyMap<string, number>;
  /** The tasks that run here, with the tokens under which they do. */
  held(): TakenTask[];
  /** Looks anew at a task that seems to be another's. */
  heed(task: TakenTask): Promise<void>;
  /** Lets every task go at once: this replica was declared dead, and they are others' now. */
  abandon(): void;
  /** Waits up to `patienceMs` for agents to name their tasks, then lets every task go without ending any. */
  stop(patienceMs: number): Promise<void>;
}

export function createDispatcher(deps: DispatcherDeps): Dispatcher {
  const { store, runtime, log } = deps;
  const running = createRunningTasks({ hub: deps.hub, log, onRest: deps.onRoom });
  /** What decides who carries a task goes one after another. */
  const inTurn = createTurns();
  /** Messages on their way to tasks that run, and looks at tasks of which a write was in doubt. */
  const beside = new Set<Promise<void>>();
  let life = new AbortController();
  let stopping = false;
  let starting = 0;

  const keyOf = ({ workspaceId, taskId }: TaskKey) => `${workspaceId} ${taskId}`;

  function connect(agent: AgentEndpoint): AgentClient {
    try {
      return deps.connector.connect(agent);
    } catch (error) {
      throw error instanceof AgentCallError ? agentUnavailable(agent.agentId, error) : error;
    }
  }

  function runnerFor(image: TaskImage, agent: AgentEndpoint, client: AgentClient, parent = log): TaskRunner {
    const { taskId, workspaceId, agentId } = image.header;
    const attempts = { ...deps.attempts, safeToRepeat: agent.safeToRepeat };
    const taskLog = parent.child({ taskId, workspaceId, agentId });
    return createTaskRunner({ ...deps, attempts, log: taskLog }, createTaskWriter(deps, image), client, life.signal);
  }

  async function load(key: TaskKey): Promise<TaskImage> {
    const stored = await whenDatabaseAnswers(runtime, life.signal, () => store.load(key.workspaceId, key.taskId));
    if (!stored) throw new Error(`task ${key.taskId} is gone from the database`);
    return foldTask(stored.header, stored.updates);
  }

  function inBackground(what: string, taskId: string, work: () => Promise<void>): void {
    const { signal } = life;
    const done = work()
      .catch((err: unknown) => {
        if (!signal.aborted) log.error({ err, taskId }, what);
      })
      .finally(() => beside.delete(done));
    beside.add(done);
  }

  async function end(image: TaskImage, state: TaskState, text: string, cause: string): Promise<void> {
    const status = ({ header }: TaskImage) => {
      const message = agentText(header, runtime.newId(), text);
      return [statusUpdate(header, { state, timestamp: timestampFromDate(runtime.now()), message }, cause)];
    };
    await createTaskWriter(deps, image).append(status, { take: true }, life.signal);
  }

  // --- new tasks

  /** A task whose submit failed may be stored all the same. Nobody was told of it, so nobody will ask: it must not stay. */
  async function endUnacknowledged({ workspaceId, taskId }: TaskHeader): Promise<void> {
    const stored = await whenDatabaseAnswers(runtime, life.signal, () => store.load(workspaceId, taskId));
    if (!stored) return;
    const image = foldTask(stored.header, stored.updates);
    await end(image, TaskState.FAILED, "The task could not be started and was not acknowledged.", "not acknowledged");
  }

  async function begin(request: TaskRequest, work: Work, beforeStart?: () => Promise<void>): Promise<TaskImage> {
    if (stopping) throw draining();
    const waits = running.size + starting >= deps.maxRunning || deps.queue.busy();
    if (waits && (await deps.queue.full())) throw queueIsFull();
    const client = waits ? undefined : connect(work.agent);
    const { delivery } = work;
    const owner = deps.replicaId();
    const header: TaskHeader = waits
      ? { ...request, delivery, fence: 1, leaseOwner: undefined, attempt: 0 }
      : { ...request, delivery, fence: 1, leaseOwner: owner, attempt: 1 };
    const update = {
      ...messageUpdate(work.message),
      state: waits ? EngineState.QUEUED : EngineState.ASSIGNED,
      cause: waits ? `accepted by replica ${owner}, which had no room` : `accepted by replica ${owner}`,
    };
    let stored = false;
    starting += 1;
    try {
      await store.submit({ header, updates: [update] });
      stored = true;
      await beforeStart?.();
    } catch (error) {
      client?.release();
      if (stored || isOutcomeUnknown(error)) {
        inBackground("an unacknowledged task may be left", header.taskId, () => endUnacknowledged(header));
      }
      throw error;
    } finally {
      starting -= 1;
    }
    work.log.debug({ taskId: header.taskId, agentId: header.agentId, waits }, "task accepted");
    // Two images: the runner moves its own on.
    const image = () => foldTask({ ...header }, [{ ...update, seq: 1 }]);
    if (client) running.start(runnerFor(image(), work.agent, client, work.log), (r) => r.run(work.message, delivery));
    else deps.hub.announceWork();
    return image();
  }

  // --- further messages

  /** The status that ends a rest, and the message: the agent's question belongs before its answer in the history. */
  const goOn = (message: Message) => (image: TaskImage) => {
    const status = { state: TaskState.WORKING, timestamp: timestampFromDate(runtime.now()) };
    return [
      ...(isInterrupted(stateOf(image)) ? [statusUpdate(image.header, status, "its client answered")] : []),
      { ...messageUpdate(message), cause: `accepted by replica ${deps.replicaId()}` },
    ];
  };

  async function proceed(image: TaskImage, work: Work, signal: AbortSignal): Promise<TaskImage> {
    for (let current = image; ; current = await load(image.header)) {
      if (stopping) throw draining();
      if (isTerminal(stateOf(current))) throw messageToEnded(current);
      const here = running.get(current.header);
      // Until its agent has named it, only the replica that brought it there can carry a message to it.
      if (!here && isLeased(current.state) && current.header.upstreamTaskId === undefined) {
        await hasMoved(current, signal);
      } else if (!here && isClaimable(current.state)) {
        throw notBegunYet(current.header.taskId);
      } else {
        try {
          return await inTurn(keyOf(current.header), () => tell(current, work));
        } catch (error) {
          if (!(error instanceof LeaseLostError)) throw error;
          running.drop(current.header);
        }
      }
    }
  }

  /** Stores a message under this replica's lease, which it takes if it does not have it, and brings it to the agent. */
  async function tell(image: TaskImage, { agent, message, delivery, log: parent }: Work): Promise<TaskImage> {
    let entry = running.get(image.header);
    if (entry && !isLeased(entry.runner.writer.image.state)) {
      // It is about to rest, and must not meet what comes now.
      await entry.done;
      entry = undefined;
    }
    const runner = entry?.runner ?? runnerFor(image, agent, connect(agent), parent);
    let outcome: string;
    try {
      outcome = await runner.writer.append(goOn(message), { once: true, take: !entry }, life.signal);
    } catch (error) {
      if (!entry) runner.release();
      // If the message was stored all the same, the task is ours and says WORKING: what its agent says of it is the truth.
      if (isOutcomeUnknown(error))
        inBackground("a task cannot be looked after", image.header.taskId, () => heal(image.header));
      throw error;
    }
    if (outcome === "ended") {
      if (!entry) runner.release();
      throw messageToEnded(runner.writer.image);
    }
    const accepted = { ...runner.writer.image, task: clone(TaskSchema, runner.writer.image.task) };
    if (entry && running.get(image.header) === entry) addMessage(entry, agent, message, delivery);
    else if (entry)
      running.start(runnerFor(runner.writer.image, agent, connect(agent), parent), (r) => r.run(message, delivery));
    else running.start(runner, (r) => r.run(message, delivery));
    return accepted;
  }

  /** Adds a message to a task that runs. If it came to rest meanwhile, what the message did there is looked after. */
  function addMessage({ runner }: RunningTask, agent: AgentEndpoint, message: Message, delivery: Delivery): void {
    const { header } = runner.writer.image;
    inBackground("a task cannot be looked after", header.taskId, async () => {
      await runner.addMessage(message, delivery);
      await inTurn(keyOf(header), async () => {
        const { image } = runner.writer;
        if (life.signal.aborted || running.get(header) || isTerminal(stateOf(image))) return;
        running.start(runnerFor(image, agent, connect(agent)), (next) => next.resume());
      });
    });
  }

  /** Waits until something more is known of a task that another replica is bringing to its agent. */
  async function hasMoved({ header, seq }: TaskImage, signal: AbortSignal): Promise<void> {
    const late = AbortSignal.any([signal, life.signal, AbortSignal.timeout(NAMING_MS)]);
    const { workspaceId, taskId } = header;
    const updates = watchTask(deps, { workspaceId, taskId, after: seq, signal: late });
    try {
      await updates.next();
    } catch (error) {
      signal.throwIfAborted();
      throw life.signal.aborted ? draining() : late.aborted ? notBegunYet(taskId) : error;
    } finally {
      await updates.return(undefined as never);
    }
  }

  // --- tasks that this replica takes over

  /** Carries on a task that is this replica's by the database, and that it does not carry. */
  async function carry(image: TaskImage, how: "claimed" | "rescued"): Promise<void> {
    const { workspaceId, agentId } = image.header;
    const agent = await whenDatabaseAnswers(runtime, life.signal, () => deps.findAgent(workspaceId, agentId));
    if (!agent)
      return end(image, TaskState.FAILED, `Agent "${agentId}" left before it finished the task.`, "the agent has left");
    let client: AgentClient;
    try {
      client = connect(agent);
    } catch (error) {
      return end(image, TaskState.FAILED, (error as Error).message, "the agent cannot be called any more");
    }
    running.start(runnerFor(image, agent, client), (runner) => runner.adopt(how));
  }

  /** Looks after a task of which a write was in doubt. */
  const heal = (key: TaskKey): Promise<void> =>
    inTurn(keyOf(key), async () => {
      const image = await load(key);
      if (image.header.leaseOwner === deps.replicaId() && !running.get(key)) await carry(image, "rescued");
    });

  async function adopt(task: TakenTask, how: "claimed" | "rescued"): Promise<void> {
    await inTurn(keyOf(task), async () => {
      const image = await load(task);
      if (image.header.fence === task.fence && !running.get(task)) await carry(image, how);
    });
  }

  /** The entry of a task that runs here from now on, or a runner that was not started for one that rests. */
  async function entryToCancel(
    image: TaskImage,
    agent: AgentEndpoint,
  ): Promise<{ runner: TaskRunner; started: boolean }> {
    const entry = running.get(image.header);
    if (entry) return { runner: entry.runner, started: true };
    const runner = runnerFor(image, agent, connect(agent));
    if (!isLeased(image.state) || image.header.upstreamTaskId === undefined) return { runner, started: false };
    try {
      await runner.writer.append(takenToCancel, { take: true, hidden: "either" }, life.signal);
    } catch (error) {
      runner.release();
      throw error;
    }
    running.start(runner, (r) => r.resume());
    return { runner, started: true };
  }

  const takenToCancel = ({ state }: TaskImage) => [
    {
      kind: "transition" as const,
      body: create(StreamResponseSchema),
      state,
      cause: `taken over by replica ${deps.replicaId()} to be canceled`,
    },
  ];

  async function cancel(image: TaskImage, agent: AgentEndpoint, signal: AbortSignal): Promise<void> {
    for (let current = image; ; current = await load(image.header)) {
      const { runner, started } = await inTurn(keyOf(image.header), () => entryToCancel(current, agent));
      try {
        await runner.cancel(signal);
        // An agent may take its time to cancel, and nobody else follows the task.
        if (started) return;
        if (isTerminal(stateOf(runner.writer.image)) || running.get(image.header)) runner.release();
        else running.start(runner, (r) => r.resume());
        return;
      } catch (error) {
        if (!started) runner.release();
        // Another replica was faster with something: what it did decides.
        if (!(error instanceof LeaseLostError)) throw error;
        running.drop(current.header);
      }
    }
  }

  return {
    get running() {
      return running.size;
    },
    runningByWorkspace: running.byWorkspace,
    begin,
    proceed,
    adopt,
    end,
    cancel,
    held: running.list,
    heed: async (task) => running.get(task)?.runner.heed(),

    async disclose(workspaceId, taskId) {
      const entry = running.get({ workspaceId, taskId });
      const writer = entry?.runner.writer ?? createTaskWriter(deps, await load({ workspaceId, taskId }));
      await writer.append(() => [], {}, life.signal);
      return writer.image.header.disclosed;
    },

    abandon() {
      for (const task of running.list()) running.drop(task);
      life.abort(new LeaseLostError("of this replica"));
      life = new AbortController();
    },

    async stop(patienceMs) {
      stopping = true;
      const named = Promise.all(running.runners().map((runner) => runner.named));
      const impatient = new AbortController();
      await Promise.race([named, runtime.wait(patienceMs, impatient.signal).catch(() => {})]);
      impatient.abort();
      life.abort(draining());
      await Promise.allSettled([running.settled(), ...beside]);
    },
  };
}
