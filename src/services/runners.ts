/** What the parts of the dispatcher share: the runners of this replica, and the life that they live in. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Logger } from "pino";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { agentText, statusUpdate } from "../domain/agent-report.ts";
import { taskNotFound } from "../domain/errors.ts";
import { foldTask, type TaskHeader, type TaskImage } from "../domain/task-log.ts";
import type { TaskKey } from "../store/task-reads.ts";
import { createAbortGroup } from "./abort-group.ts";
import type { AgentPermits } from "./agent-permits.ts";
import { AgentCallError, type AgentClient, type AgentConnector, type AgentEndpoint } from "./agent-port.ts";
import { isTransient, whenDatabaseAnswers } from "./database-away.ts";
import { agentUnavailable, draining } from "./dispatch-errors.ts";
import type { Work } from "./further-messages.ts";
import { createGuardedWriter, type GuardPorts } from "./guarded-writer.ts";
import { createTurns } from "./in-turn.ts";
import { LateLog, type TaskLog } from "./late-log.ts";
import { putBack } from "./put-back.ts";
import type { AgentLoads } from "./routing/agent-load.ts";
import type { Life, RunnerDeps } from "./runner-deps.ts";
import { createRunningTasks, type RunningTasks, type TaskTimes } from "./running-tasks.ts";
import { backoffMs } from "./runtime.ts";
import type { AppendOptions } from "./task-append.ts";
import { handOver } from "./task-handover.ts";
import { createHedging, type HedgePorts } from "./task-hedge.ts";
import { TaskRunner } from "./task-runner.ts";
import { createTaskWriter, LeaseLostError, type TaskWriter, type WriterDeps } from "./task-writer.ts";
import { wordless } from "./wordless-log.ts";

/** Bounds of the pause before something is tried again that another replica was faster with, in milliseconds. */
const PAUSE_MIN_MS = 5;
const PAUSE_MAX_MS = 1_000;

/** How long an orderly stop may take at least to put back what no agent was asked, in milliseconds. */
const PUT_BACK_MS = 1_000;

/** The cause of the end of a task that was stored and that nobody was told of. */
export const NOT_ACKNOWLEDGED = "not acknowledged";

export interface RunnersDeps extends RunnerDeps, WriterDeps {
  /** What holds back what agents say until the policy has decided; left out, nothing is. */
  guard?: GuardPorts | undefined;
  log: Logger;
  connector: AgentConnector;
  loads: TaskTimes & Pick<AgentLoads, "answered" | "failedCall">;
  permits: Pick<AgentPermits, "force">;
  /** Told when there is room for another task. */
  onRoom: () => void;
  /** What decides about second requests; left out where there are none. */
  hedges?: HedgePorts | undefined;
}

export interface Runners {
  readonly running: RunningTasks;
  /** Ends what lives here: the process stops, or was declared dead by another replica. */
  readonly signal: AbortSignal;
  /** Whether nothing new begins. */
  readonly stopping: boolean;
  /** Lets what decides who carries a task go one after another. */
  inTurn<T>(key: TaskKey, work: () => Promise<T>): Promise<T>;
  /** A way to an agent. Throws AGENT_UNAVAILABLE when its card offers none. */
  connect(agent: AgentEndpoint): AgentClient;
  /** A runner for a task as it stands, which has yet to be started or released. `request` lends its log, if there is one. */
  runnerFor(image: TaskImage, agent: AgentEndpoint, client: AgentClient, request?: Work): TaskRunner;
  /** A task as the database has it, however long that takes. */
  load(key: TaskKey): Promise<TaskImage>;
  /** Ends a task whose agent cannot be asked; `by` as of AppendOptions. */
  end(image: TaskImage, state: TaskState, text: string, cause: string, by?: AppendOptions["by"]): Promise<void>;
  /** Ends a task whose submit failed, and that may be stored all the same. Nobody was told of it, so nobody will ask: it must not stay. */
  endUnacknowledged(task: TaskHeader): Promise<void>;
  /** The pause before what another replica was faster with is tried again. */
  pause(attempt: number, signal: AbortSignal): Promise<void>;
  /** Does what nobody waits for. `what` says in the log what its failure means. */
  inBackground(what: string, taskId: string, work: () => Promise<void>): void;
  /** Lets every task go at once, and begins another life. */
  abandon(): void;
  /**
   * Puts back what waits for another task's result, waits up to `patienceMs` for agents to name their tasks, then lets every task
   * go without ending any.
   */
  stop(patienceMs: number): Promise<void>;
}

export function createRunners(deps: RunnersDeps): Runners {
  const { store, runtime, log } = deps;
  const running = createRunningTasks({ ...deps, onRest: deps.onRoom, now: runtime.now });
  const turns = createTurns();
  const beside = new Set<Promise<void>>();
  let life = newLife();
  let stopping = false;

  function connect(agent: AgentEndpoint): AgentClient {
    try {
      return deps.connector.connect(agent);
    } catch (error) {
      throw error instanceof AgentCallError ? agentUnavailable(agent.agentId, error) : error;
    }
  }

  function runnerFor(image: TaskImage, agent: AgentEndpoint, client: AgentClient, request?: Work): TaskRunner {
    const { taskId, workspaceId, agentId, delivery } = image.header;
    // A request's log has its trace already.
    const traceId = request ? undefined : delivery.traceparent?.split("-")[1];
    const facts = { taskId, workspaceId, agentId, ...(traceId !== undefined && { traceId }) };
    const late = new LateLog(() => (request?.log ?? log).child(facts));
    const { writer, log: ofTask } = guarded(createTaskWriter(deps, image), late, () => runner.breakOff());
    const runner = new TaskRunner(runnerDeps, { writer, agent, client, log: ofTask, life });
    return runner;
  }

  /** All that a runner writes comes this way, and is judged, unless a client did it: the agent's words may be in what the router says. */
  function guarded(writer: TaskWriter, late: TaskLog, onWithheld: () => void): { writer: TaskWriter; log: TaskLog } {
    if (!deps.guard) return { writer, log: late };
    const guarding = createGuardedWriter({ ...deps, guard: deps.guard, onWithheld }, writer);
    return { writer: guarding, log: wordless(late, () => guarding.holdsBack) };
  }

  async function load(key: TaskKey): Promise<TaskImage> {
    const { signal } = life;
    try {
      const stored = await whenDatabaseAnswers(runtime, signal, () => store.load(key.workspaceId, key.taskId));
      // It ended, and was removed.
      if (!stored) throw taskNotFound(key.taskId);
      return foldTask(stored.header, stored.updates);
    } catch (error) {
      // Reading is for every life.
      if (signal !== life.signal) return load(key);
      throw error;
    }
  }

  function inBackground(what: string, taskId: string, work: () => Promise<void>): void {
    const { signal } = life;
    const done = work()
      .catch((err: unknown) => {
        if (signal.aborted) return;
        // That the database is away is known, and nobody's mistake.
        if (isTransient(err)) log.warn({ err, taskId }, what);
        else log.error({ err, taskId }, what);
      })
      .finally(() => beside.delete(done));
    beside.add(done);
  }

  async function end(
    image: TaskImage,
    state: TaskState,
    text: string,
    cause: string,
    by?: AppendOptions["by"],
  ): Promise<void> {
    const status = ({ header }: TaskImage) => {
      const message = agentText(header, runtime.newId(), text);
      return [statusUpdate(header, { state, timestamp: timestampFromDate(runtime.now()), message }, cause)];
    };
    await createTaskWriter(deps, image).append(status, { take: true, ...(by && { by }) }, life.signal);
  }

  async function endUnacknowledged({ workspaceId, taskId }: TaskHeader): Promise<void> {
    const stored = await whenDatabaseAnswers(runtime, life.signal, () => store.load(workspaceId, taskId));
    if (!stored) return;
    const image = foldTask(stored.header, stored.updates);
    await end(image, TaskState.FAILED, "The task could not be started and was not acknowledged.", NOT_ACKNOWLEDGED);
  }

  /** No agent has heard of these: whoever takes this replica's tasks over could not know that. */
  async function putBackStoodIn(): Promise<void> {
    const stoodIn = running.runners().filter((runner) => runner.isStoodIn);
    const each = stoodIn.map(async (runner) => {
      const { header } = runner.writer.image;
      const done = running.get(header)?.done;
      // It ends first: then nobody else writes what its result would be.
      runner.letGo();
      await done;
      await putBack(runner.writer, "its replica stops, and its agent was not asked", life.signal);
    });
    for (const answer of await Promise.allSettled(each)) {
      if (answer.status === "rejected") log.warn({ err: answer.reason }, "a task could not be put back");
    }
  }

  /** Waits for something, but not for longer than that. */
  async function atMost(timeoutMs: number, work: Promise<unknown>): Promise<void> {
    const impatient = new AbortController();
    await Promise.race([work, runtime.wait(timeoutMs, impatient.signal).catch(() => {})]);
    impatient.abort();
  }

  const runnerDeps: RunnerDeps = { ...deps, hedging: undefined };
  const runners: Runners = {
    running,
    get signal() {
      return life.signal;
    },
    get stopping() {
      return stopping;
    },
    inTurn: ({ workspaceId, taskId }, work) => turns(`${workspaceId} ${taskId}`, work),
    connect,
    runnerFor,
    load,
    end,
    endUnacknowledged,
    pause: (attempt, signal) => runtime.wait(backoffMs(attempt, PAUSE_MIN_MS, PAUSE_MAX_MS, runtime.random), signal),
    inBackground,

    abandon() {
      for (const task of running.list()) running.drop(task);
      life.end(new LeaseLostError("of this replica"));
      life = newLife();
    },

    async stop(patienceMs) {
      stopping = true;
      const named = Promise.all(running.runners().map((runner) => runner.named));
      await Promise.all([atMost(patienceMs, named), atMost(Math.max(patienceMs, PUT_BACK_MS), putBackStoodIn())]);
      life.end(draining());
      await Promise.allSettled([running.settled(), ...beside]);
    },
  };
  if (deps.hedges) {
    runnerDeps.hedging = createHedging({
      ...deps,
      ports: deps.hedges,
      connect,
      giveTo: (...handed) => handOver({ ...deps, ...runners, signal: life.signal }, ...handed),
      life: () => life.signal,
      inBackground,
    });
  }
  return runners;
}

function newLife(): Life & { end(reason: unknown): void } {
  const controller = new AbortController();
  const runners = createAbortGroup();
  return {
    signal: controller.signal,
    runners,
    end(reason) {
      controller.abort(reason);
      runners.abort(reason);
    },
  };
}
