/** Tells an agent to stop whose work nobody wants: its task has ended without it, or is another's. */
import type { AgentCallOptions, AgentClient } from "./agent-port.ts";
import type { TaskLog } from "./late-log.ts";
import { LeaseLostError, type TaskWriter } from "./task-writer.ts";

/** How long a replica that was declared dead still tries to tell an agent, in milliseconds. */
const LAST_TRY_MS = 30_000;

export interface UnwantedWorkDeps {
  readonly log: TaskLog;
  readonly writer: TaskWriter;
  /** What a short call to the agent is made with. */
  control(signal: AbortSignal): AgentCallOptions;
}

export interface UnwantedWork {
  /** Whether another agent has the task by now. */
  readonly isWithAnother: boolean;
  /** Tells the agent to stop what it calls `name`. */
  stop(name: string | undefined): Promise<void>;
  /**
   * The agent has named a task that had ended by then, or was taken over: nobody follows what it has begun, so it is canceled
   * there. False when somebody does, or the agent is told otherwise.
   */
  namedLate(name: string): Promise<boolean>;
}

/** `life` ends the writes of this replica. */
export function createUnwantedWork(
  deps: UnwantedWorkDeps,
  agentId: string,
  client: AgentClient,
  life: AbortSignal,
): UnwantedWork {
  const { log, writer } = deps;
  const isWithAnother = () => writer.image.header.agentId !== agentId;
  return {
    get isWithAnother() {
      return isWithAnother();
    },

    async stop(name) {
      if (name === undefined) return;
      try {
        await client.cancel(name, deps.control(life));
        log.info("the agent was told to stop: its work is not wanted");
      } catch (error) {
        log.info({ err: error }, "the agent could not be told to stop");
      }
    },

    async namedLate(name) {
      // A replica that was declared dead writes no more, but it alone knows what to cancel.
      const until = life.aborted ? AbortSignal.timeout(LAST_TRY_MS) : life;
      try {
        // Nor does it know what became of its last write: another may follow the task by this very name.
        if (life.aborted) await writer.refresh(until).catch(exceptLostLease);
        // Whom another agent has replaced is told when the run ends.
        if (writer.image.header.upstreamTaskId === name || isWithAnother()) return false;
        await client.cancel(name, deps.control(until));
      } catch (error) {
        log.info({ err: error }, "the agent could not be told that its work is not wanted");
      }
      return true;
    },
  };
}

function exceptLostLease(error: unknown): void {
  if (!(error instanceof LeaseLostError)) throw error;
}
