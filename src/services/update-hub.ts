/**
 * Tells this process of updates that it has committed. A hint with a body: watchers read the log whenever what they hear
 * does not follow what they have, so nothing depends on it but speed.
 */
import type { TaskUpdate } from "../domain/task-log.ts";

export interface Commit {
  workspaceId: string;
  taskId: string;
  agentId: string;
  updates: readonly TaskUpdate[];
  hasPush: boolean;
}

export interface UpdateHub {
  publish(commit: Commit): void;
  /** Calls `listener` with each commit of one task, until the returned function is called. */
  subscribe(workspaceId: string, taskId: string, listener: (commit: Commit) => void): () => void;
  /** Calls `listener` with each commit of every task: the hook for duties that follow transitions. Best effort. */
  onCommit(listener: (commit: Commit) => void): () => void;
}

export function createUpdateHub(): UpdateHub {
  const byTask = new Map<string, Set<(commit: Commit) => void>>();
  const all = new Set<(commit: Commit) => void>();
  const keyOf = (workspaceId: string, taskId: string) => `${workspaceId} ${taskId}`;
  return {
    publish(commit) {
      for (const listener of byTask.get(keyOf(commit.workspaceId, commit.taskId)) ?? []) listener(commit);
      for (const listener of all) listener(commit);
    },
    subscribe(workspaceId, taskId, listener) {
      const key = keyOf(workspaceId, taskId);
      const listeners = byTask.get(key) ?? new Set();
      byTask.set(key, listeners.add(listener));
      return () => {
        listeners.delete(listener);
        if (listeners.size === 0 && byTask.get(key) === listeners) byTask.delete(key);
      };
    },
    onCommit(listener) {
      all.add(listener);
      return () => all.delete(listener);
    },
  };
}
