/** Brings further messages to tasks that have not ended, whichever replica carries them. */
import { clone } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { Logger } from "pino";
import { type Message, TaskSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate, statusUpdate } from "../domain/agent-report.ts";
import { type Delivery, stateOf, type TaskImage } from "../domain/task-log.ts";
import { isClaimable, isInterrupted, isLeased, isTerminal } from "../domain/task-state.ts";
import { isOutcomeUnknown } from "../store/database-errors.ts";
import type { TaskKey } from "../store/task-reads.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { AgentEndpoint } from "./agent-port.ts";
import { draining, messageToEnded, notBegunYet, tooManyMessages } from "./dispatch-errors.ts";
import type { Runners } from "./runners.ts";
import type { RunningTask } from "./running-tasks.ts";
import type { Runtime } from "./runtime.ts";
import { LeaseLostError } from "./task-writer.ts";
import type { UpdateHub } from "./update-hub.ts";
import { watchTask } from "./watch.ts";

/** Messages on their way to the agent of one task at most. */
const MAX_PENDING = 64;
/** How long a message waits for another replica to bring the task to its agent, in milliseconds. */
const NAMING_MS = 30_000;

/** A message, the agent it goes to and what it is delivered with. */
export interface Work {
  agent: AgentEndpoint;
  message: Message;
  delivery: Delivery;
  /** Who sends it. */
  readonly principal: string;
  /** Who acts for it, as `Principal.actors`. */
  readonly actors?: readonly string[] | undefined;
  /** The log of the request, with its ids. Made when it is asked for. */
  readonly log: Logger;
}

export interface FurtherMessagesDeps {
  store: TaskStore;
  hub: UpdateHub;
  runtime: Runtime;
  replicaId: () => string;
  /** Looks after a task of which a write was in doubt. */
  heal: (key: TaskKey) => Promise<void>;
}

/** Stores a further message of a task that has not ended, and delivers it. Resolves when it is durable. */
export type ProceedWithTask = (image: TaskImage, work: Work, signal: AbortSignal) => Promise<TaskImage>;

export function createFurtherMessages(deps: FurtherMessagesDeps, runners: Runners): ProceedWithTask {
  const { runtime, heal } = deps;
  const { running, connect, runnerFor, load, inTurn, inBackground } = runners;

  /** The status that ends a rest, and the message: the agent's question belongs before its answer in the history. */
  const goOn =
    ({ agent, message }: Work, isHere: boolean) =>
    (image: TaskImage) => {
      const { header } = image;
      // Where its agent has not named it, the message would begin another task there, or be forgotten by the next attempt.
      const isNamed = isHere || header.upstreamTaskId !== undefined;
      // Nor may it go to the agent that had it, under the name that the next one gave it.
      if (!isNamed || header.agentId !== agent.agentId || isClaimable(image.state)) throw notBegunYet(header.taskId);
      const status = { state: TaskState.WORKING, timestamp: timestampFromDate(runtime.now()) };
      return [
        ...(isInterrupted(stateOf(image)) ? [statusUpdate(header, status, "its client answered")] : []),
        { ...messageUpdate(message), cause: `accepted by replica ${deps.replicaId()}` },
      ];
    };

  async function proceed(image: TaskImage, work: Work, signal: AbortSignal): Promise<TaskImage> {
    for (let current = image, attempt = 0; ; current = await load(image.header)) {
      if (runners.stopping) throw draining();
      if (isTerminal(stateOf(current))) throw messageToEnded(current);
      const here = running.get(current.header);
      if (here && here.runner.pendingMessages >= MAX_PENDING) throw tooManyMessages(current.header.taskId);
      // Until its agent has named it, only the replica that brought it there can carry a message to it.
      if (!here && isLeased(current.state) && current.header.upstreamTaskId === undefined) {
        await hasMoved(current, signal);
      } else if (!here && isClaimable(current.state)) {
        throw notBegunYet(current.header.taskId);
      } else if (here && !isLeased(here.runner.writer.image.state)) {
        // It is about to rest, and must not meet what comes now.
        await ends(here, signal);
      } else {
        try {
          return await inTurn(current.header, () => tell(current, work));
        } catch (error) {
          if (!(error instanceof LeaseLostError)) throw error;
          await runners.pause(attempt++, signal);
        }
      }
    }
  }

  /** Stores a message under this replica's lease, which it takes if it does not have it, and brings it to the agent. */
  async function tell(image: TaskImage, work: Work): Promise<TaskImage> {
    const { agent, message, delivery, principal, actors } = work;
    const entry = running.get(image.header);
    const runner = entry?.runner ?? runnerFor(image, agent, connect(agent), work);
    let outcome: string;
    try {
      if (!entry && isLeased(image.state)) await runner.writer.seize(runners.signal);
      outcome = await runner.writer.append(
        goOn(work, entry !== undefined),
        { once: true, take: !entry, by: { principal, actors } },
        runners.signal,
      );
    } catch (error) {
      if (!entry) runner.release();
      else if (error instanceof LeaseLostError) running.drop(image.header, runner.writer);
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
      running.start(runnerFor(runner.writer.image, agent, connect(agent), work), (r) => r.run(message, delivery));
    else running.start(runner, (r) => r.run(message, delivery));
    return accepted;
  }

  /** Adds a message to a task that runs. If it came to rest meanwhile, what the message did there is looked after. */
  function addMessage({ runner }: RunningTask, agent: AgentEndpoint, message: Message, delivery: Delivery): void {
    const { header } = runner.writer.image;
    inBackground("a task cannot be looked after", header.taskId, async () => {
      await runner.addMessage(message, delivery);
      await inTurn(header, async () => {
        const { image } = runner.writer;
        if (runners.signal.aborted || running.get(header) || isTerminal(stateOf(image))) return;
        running.start(runnerFor(image, agent, connect(agent)), (next) => next.resume());
      });
    });
  }

  /** Waits until a task that has come to rest is let go of. */
  async function ends({ done }: RunningTask, signal: AbortSignal): Promise<void> {
    const { promise: left, reject } = Promise.withResolvers<never>();
    const leave = () => reject(signal.reason);
    if (signal.aborted) leave();
    signal.addEventListener("abort", leave, { once: true });
    await Promise.race([done, left]).finally(() => signal.removeEventListener("abort", leave));
  }

  /** Waits until something more is known of a task that another replica is bringing to its agent. */
  async function hasMoved({ header, seq }: TaskImage, signal: AbortSignal): Promise<void> {
    const late = AbortSignal.any([signal, runners.signal, AbortSignal.timeout(NAMING_MS)]);
    const { workspaceId, taskId } = header;
    const updates = watchTask(deps, { workspaceId, taskId, after: seq, signal: late });
    try {
      await updates.next();
    } catch (error) {
      signal.throwIfAborted();
      throw runners.signal.aborted ? draining() : late.aborted ? notBegunYet(taskId) : error;
    } finally {
      await updates.return(undefined as never);
    }
  }

  return proceed;
}
