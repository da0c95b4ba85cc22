import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { awaitedApproval } from "../domain/approval.ts";
import { stateOf, type TaskImage } from "../domain/task-log.ts";
import { isLeased, isTerminal } from "../domain/task-state.ts";
import { isOutcomeUnknown } from "../store/database-errors.ts";
import type { TakenTask } from "../store/lease-repository.ts";
import type { TaskKey } from "../store/task-reads.ts";
import type { AgentPermits, Permit } from "./agent-permits.ts";
import type { AgentClient, AgentEndpoint } from "./agent-port.ts";
import { createWaitingTasks, type WaitingTasks, type WaitingTasksDeps } from "./approvals/waiting-tasks.ts";
import { whenDatabaseAnswers } from "./database-away.ts";
import { createFurtherMessages, type ProceedWithTask } from "./further-messages.ts";
import { createMirrors, type MirrorPorts } from "./mirrors.ts";
import { type BeginTask, createNewTasks, type NewTasksDeps } from "./new-tasks.ts";
import { createRunners, type RunnersDeps } from "./runners.ts";
import type { AppendOptions, ByPrincipal } from "./task-append.ts";
import { AGENT_LEFT, CANCELED_BY_CLIENT } from "./task-cancel.ts";
import type { TaskRunner } from "./task-runner.ts";
import { createTaskWriter, LeaseLostError } from "./task-writer.ts";

export interface DispatcherDeps extends RunnersDeps, WaitingTasksDeps, Omit<NewTasksDeps, "mirror"> {
  /** What decides about copies of tasks; left out where there are none. */
  mirrors?: MirrorPorts | undefined;
  approvals: WaitingTasksDeps["approvals"];
  permits: Pick<AgentPermits, "isNeeded" | "force">;
}

export interface Dispatcher {
  readonly begin: BeginTask;
  readonly proceed: ProceedWithTask;
  /** Tasks that wait for their approval. */
  readonly waiting: Pick<WaitingTasks, "settle" | "expire">;
  /** Carries on a task that this replica has just taken from a queue, or from a replica that is gone, with the permit that it has. */
  adopt(task: TakenTask, how: "claimed" | "rescued", permit?: Permit): Promise<void>;
  /** Ends a task whose agent cannot be asked; `by` as of AppendOptions. */
  end(image: TaskImage, state: TaskState, text: string, cause: string, by?: AppendOptions["by"]): Promise<void>;
  /**
   * Cancels a task at its agent, as a principal wants. Throws TaskNotCancelable when the agent, or the task's state, forbids it.
   */
  cancel(image: TaskImage, agent: AgentEndpoint, signal: AbortSignal, by: ByPrincipal): Promise<void>;
  /** Shows the task to Get and List. False when its agent has answered with a bare Message meanwhile. */
  disclose(workspaceId: string, taskId: string): Promise<boolean>;
  /** Tasks that run here now. */
  readonly running: number;
  readonly runningByWorkspace: ReadonlyMap<string, number>;
  /** The tasks that run here, with the tokens under which they do. */
  held(): TakenTask[];
  /** Gives the tasks of a workspace that run here the permits that they need since limits were set. */
  permitAll(workspaceId: string): void;
  /** Looks anew at a task that seems to be another's. */
  heed(task: TakenTask): Promise<void>;
  /** Lets every task go at once: this replica was declared dead, and they are others' now. */
  abandon(): void;
  /** Waits up to `patienceMs` for agents to name their tasks, then lets every task go without ending any. */
  stop(patienceMs: number): Promise<void>;
}

export function createDispatcher(deps: DispatcherDeps): Dispatcher {
  const runners = createRunners(deps);
  const { running, connect, runnerFor, load, end, inTurn } = runners;
  const { inBackground } = runners;
  const life = () => runners.signal;
  const mirror = deps.mirrors && createMirrors({ ...deps, ports: deps.mirrors, connect, life, inBackground });
  const waiting = createWaitingTasks(deps, runners);
  const begin = createNewTasks({ ...deps, mirror }, runners, waiting);
  const proceed = createFurtherMessages({ ...deps, heal }, runners);

  /** Carries on a task that is this replica's by the database, and that it does not carry. True when it has begun to. */
  async function carry(image: TaskImage, how: "claimed" | "rescued", permit?: Permit): Promise<boolean> {
    const { header } = image;
    const approvalId = awaitedApproval(image);
    if (approvalId !== undefined) {
      await waiting.expire(image, approvalId, runners.signal);
      return false;
    }
    const agent = await whenDatabaseAnswers(deps.runtime, runners.signal, () => deps.findAgent(header));
    if (!agent) {
      const text = `Agent "${header.agentId}" left before it finished the task.`;
      await end(image, TaskState.FAILED, text, "the agent has left");
      return false;
    }
    let client: AgentClient;
    try {
      client = connect(agent);
    } catch (error) {
      await end(image, TaskState.FAILED, (error as Error).message, "the agent cannot be called any more");
      return false;
    }
    running.start(runnerFor(image, agent, client), (runner) => runner.adopt(how), { permit });
    return true;
  }

  /** Looks after a task of which a write was in doubt. */
  function heal(key: TaskKey): Promise<void> {
    return inTurn(key, async () => {
      const image = await load(key);
      if (image.header.leaseOwner === deps.replicaId() && !running.get(key)) await carry(image, "rescued");
    });
  }

  async function adopt(task: TakenTask, how: "claimed" | "rescued", permit?: Permit): Promise<void> {
    let carried = false;
    try {
      await inTurn(task, async () => {
        const image = await load(task);
        const { fence, leaseOwner } = image.header;
        if (fence !== task.fence || leaseOwner !== deps.replicaId() || running.get(task)) return;
        carried = await carry(image, how, permit);
      });
    } catch (error) {
      if (!(error instanceof LeaseLostError)) throw error;
    } finally {
      if (!carried) permit?.release();
    }
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
      await runner.writer.seize(runners.signal);
    } catch (error) {
      runner.release();
      // If it was taken all the same, it is this replica's, and nobody else will carry it.
      if (isOutcomeUnknown(error))
        inBackground("a task cannot be looked after", image.header.taskId, () => heal(image.header));
      throw error;
    }
    if (runner.writer.image.header.agentId !== agent.agentId) {
      // It went to another agent at that very moment.
      runner.release();
      throw new LeaseLostError(image.header.taskId);
    }
    // It came to rest at that very moment.
    if (!isLeased(runner.writer.image.state)) return { runner, started: false };
    running.start(runner, (r) => r.resume());
    return { runner, started: true };
  }

  async function cancel(image: TaskImage, agent: AgentEndpoint, signal: AbortSignal, by: ByPrincipal): Promise<void> {
    for (let current = image, attempt = 0; ; current = await load(image.header)) {
      try {
        const moved = current.header.agentId !== agent.agentId;
        const now = moved ? await deps.findAgent(current.header) : agent;
        if (now) return await cancelAsItStands(current, now, signal, by);
        return await end(current, TaskState.CANCELED, AGENT_LEFT, CANCELED_BY_CLIENT, by);
      } catch (error) {
        // Another replica was faster with something, or has declared this one dead: what the log says now decides.
        if (!(error instanceof LeaseLostError)) throw error;
        await runners.pause(attempt++, signal);
      }
    }
  }

  async function cancelAsItStands(
    image: TaskImage,
    agent: AgentEndpoint,
    signal: AbortSignal,
    by: ByPrincipal,
  ): Promise<void> {
    const { runner, started } = await inTurn(image.header, () => entryToCancel(image, agent));
    try {
      await runner.cancel(signal, by);
    } catch (error) {
      if (!started) runner.release();
      else if (error instanceof LeaseLostError) running.drop(image.header, runner.writer);
      throw error;
    }
    // An agent may take its time to cancel, and nobody else follows the task.
    if (started) return;
    if (isTerminal(stateOf(runner.writer.image)) || running.get(image.header)) runner.release();
    else running.start(runner, (r) => r.resume());
  }

  return {
    get running() {
      return running.size;
    },
    runningByWorkspace: running.byWorkspace,
    begin,
    proceed,
    waiting,
    adopt,
    end,
    cancel,
    held: running.list,
    permitAll: running.permitAll,
    heed: async (task) => running.get(task)?.runner.heed(),

    async disclose(workspaceId, taskId) {
      const key = { workspaceId, taskId };
      for (;;) {
        const writer = running.get(key)?.runner.writer ?? createTaskWriter(deps, await load(key));
        try {
          await writer.append(() => [], {}, runners.signal);
          return writer.image.header.disclosed;
        } catch (error) {
          if (!(error instanceof LeaseLostError)) throw error;
          running.drop(key, writer);
        }
      }
    },

    abandon: runners.abandon,
    stop: runners.stop,
  };
}
