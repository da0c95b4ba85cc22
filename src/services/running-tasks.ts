/** The tasks that this replica carries at the moment, each with its runner. */
import type { Logger } from "pino";
import { stateBrought, type TaskHeader, type TaskUpdate } from "../domain/task-log.ts";
import { TRANSITIONS } from "../domain/task-state.ts";
import type { TakenTask } from "../store/lease-repository.ts";
import type { TaskKey } from "../store/task-reads.ts";
import type { TaskRunner } from "./task-runner.ts";
import type { UpdateHub } from "./update-hub.ts";

export interface RunningTask {
  readonly runner: TaskRunner;
  /** Resolves when the runner rests. */
  readonly done: Promise<void>;
}

export interface RunningTasks {
  /**
   * How many places are taken. Those that have ended, whose runner waits for the agent to name what it began, take half a
   * place at most.
   */
  readonly size: number;
  /** How many of each workspace run. */
  readonly byWorkspace: ReadonlyMap<string, number>;
  get(key: TaskKey): RunningTask | undefined;
  /** Lets a runner work. The task runs until the work settles; the runner is released then. */
  start(runner: TaskRunner, work: (runner: TaskRunner) => Promise<void>): void;
  /** Forgets a task that is no longer this replica's. Its runner may live on until its agent has named what it began. */
  drop(key: TaskKey): void;
  /** All of them, with the tokens under which they run. */
  list(): TakenTask[];
  /** The runners of all of them. */
  runners(): TaskRunner[];
  /** Resolves when none of those that run now runs any more. */
  settled(): Promise<void>;
}

const endsTask = (update: TaskUpdate): boolean => {
  const state = stateBrought(update);
  return state !== undefined && TRANSITIONS.get(state)?.length === 0;
};

export function createRunningTasks(deps: { hub: UpdateHub; log: Logger; onRest: () => void }): RunningTasks {
  const running = new Map<string, RunningTask>();
  const byWorkspace = new Map<string, number>();
  let active = 0;
  const keyOf = ({ workspaceId, taskId }: TaskKey) => `${workspaceId} ${taskId}`;

  function count({ workspaceId }: TaskHeader, by: 1 | -1): void {
    const next = (byWorkspace.get(workspaceId) ?? 0) + by;
    if (next === 0) byWorkspace.delete(workspaceId);
    else byWorkspace.set(workspaceId, next);
  }

  return {
    byWorkspace,
    get size() {
      return Math.max(active, Math.ceil(running.size / 2));
    },
    get: (key) => running.get(keyOf(key)),
    start(runner, work) {
      const { header } = runner.writer.image;
      const { workspaceId, taskId } = header;
      const key = keyOf(header);
      const heed = () => {
        runner.heed().catch((err: unknown) => deps.log.warn({ err, taskId }, "a task could not be looked at again"));
      };
      let counts = true;
      /** What has ended takes no place, though its runner may yet wait for its agent to name what it began. */
      const uncount = () => {
        if (!counts) return;
        counts = false;
        active -= 1;
        count(header, -1);
      };
      const deaf = deps.hub.subscribe(workspaceId, taskId, {
        onCommit: ({ updates }) => {
          if (!updates.some(endsTask)) return;
          uncount();
          deps.onRest();
        },
        onHint: (seq) => {
          if (seq > runner.writer.image.seq) heed();
        },
      });
      count(header, 1);
      active += 1;
      const entry = {
        runner,
        done: work(runner)
          .catch((err: unknown) => deps.log.error({ err, taskId }, "a runner broke"))
          .finally(() => {
            deaf();
            uncount();
            if (running.get(key) === entry) running.delete(key);
            runner.release();
            deps.onRest();
          }),
      };
      running.set(key, entry);
    },
    drop: (key) => void running.delete(keyOf(key)),
    list: () =>
      [...running.values()].map(({ runner }) => {
        const { workspaceId, taskId, fence } = runner.writer.image.header;
        return { workspaceId, taskId, fence };
      }),
    runners: () => [...running.values()].map(({ runner }) => runner),
    settled: async () => void (await Promise.allSettled([...running.values()].map(({ done }) => done))),
  };
}
