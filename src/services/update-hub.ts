/**
 * Where this process hears that logs have grown. Two kinds of news come through it: commits, with the rows, of what this
 * replica has written or found written; and hints, with a bare number, of what others have written. Neither is needed for
 * anything but speed: whoever reads a log reads it from the database when what it hears does not follow what it has.
 *
 * `onCommit` and `onWork` are the persistence hooks: this replica's commits, best effort, each told once, after it is
 * durable and before anybody else is answered. A process that dies between the commit and the call tells nobody. What must
 * surely follow every transition reads the outbox instead.
 */
import type { TaskUpdate } from "../domain/task-log.ts";
import type { TaskKey } from "../store/task-reads.ts";

export interface Commit extends TaskKey {
  agentId: string;
  updates: readonly TaskUpdate[];
  hasPush: boolean;
}

/** What one listener hears of one task. */
export interface TaskListener {
  /** Rows that are new to this replica, in their order. Between two calls there may be rows that others wrote. */
  onCommit?(commit: Commit): void;
  /** Somebody says that the log has reached this number. It may be old news. */
  onHint?(seq: number): void;
}

/** Whether work was announced by this replica or by another. */
export type WorkOrigin = "here" | "elsewhere";

/** The number that is hinted at when a task was removed: no log comes so far, so every watcher looks. */
export const REMOVED = Number.MAX_SAFE_INTEGER;

export interface UpdateHub {
  /** Tells of rows that are durable. */
  publish(commit: Commit): void;
  /** Tells that a task's log has reached a number, whoever wrote it. */
  hint(workspaceId: string, taskId: string, seq: number): void;
  /** Listens to one task until the returned function is called. A listener must neither throw nor wait. */
  subscribe(workspaceId: string, taskId: string, listener: TaskListener): () => void;
  /** The tasks that somebody listens to. */
  watched(): Iterable<TaskKey>;
  /** Calls `listener` with each commit of every task, until the returned function is called. */
  onCommit(listener: (commit: Commit) => void): () => void;
  /** Calls `listener` whenever others are said to have written, until the returned function is called. */
  onHint(listener: () => void): () => void;
  /** Tells that a task may wait in the queue for a replica that has room for it. */
  announceWork(origin?: WorkOrigin): void;
  /** Calls `listener` for each announcement, until the returned function is called. There may be no work after all. */
  onWork(listener: (origin: WorkOrigin) => void): () => void;
}

const NOBODY: ReadonlySet<TaskListener> = new Set();

export function createUpdateHub(): UpdateHub {
  /** By workspace and task: a key made of both would have to be made, and hashed, for every commit. */
  const watched = new Map<string, Map<string, Set<TaskListener>>>();
  const onCommit = new Set<(commit: Commit) => void>();
  const onHint = new Set<() => void>();
  const onWork = new Set<(origin: WorkOrigin) => void>();
  const listenersOf = (workspaceId: string, taskId: string): ReadonlySet<TaskListener> =>
    watched.get(workspaceId)?.get(taskId) ?? NOBODY;

  function leave(workspaceId: string, taskId: string, listener: TaskListener): void {
    const tasks = watched.get(workspaceId);
    const listeners = tasks?.get(taskId);
    if (!tasks || !listeners?.delete(listener) || listeners.size > 0) return;
    tasks.delete(taskId);
    if (tasks.size === 0) watched.delete(workspaceId);
  }

  return {
    publish(commit) {
      for (const listener of listenersOf(commit.workspaceId, commit.taskId)) listener.onCommit?.(commit);
      for (const listener of onCommit) listener(commit);
    },
    hint(workspaceId, taskId, seq) {
      for (const listener of listenersOf(workspaceId, taskId)) listener.onHint?.(seq);
      for (const listener of onHint) listener();
    },
    subscribe(workspaceId, taskId, listener) {
      const tasks = watched.get(workspaceId) ?? new Map<string, Set<TaskListener>>();
      if (tasks.size === 0) watched.set(workspaceId, tasks);
      const listeners = tasks.get(taskId);
      if (listeners) listeners.add(listener);
      else tasks.set(taskId, new Set([listener]));
      return () => leave(workspaceId, taskId, listener);
    },
    *watched() {
      for (const [workspaceId, tasks] of watched) for (const taskId of tasks.keys()) yield { workspaceId, taskId };
    },
    onCommit: (listener) => listening(onCommit, listener),
    onHint: (listener) => listening(onHint, listener),
    announceWork(origin = "here") {
      for (const listener of onWork) listener(origin);
    },
    onWork: (listener) => listening(onWork, listener),
  };
}

function listening<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}
