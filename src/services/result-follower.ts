/** Waits for the result of a task that is under way, on whatever replica. */
import type { Logger } from "pino";
import type { StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { resultOf } from "../domain/cached-result.ts";
import { foldTask, stateBrought } from "../domain/task-log.ts";
import { isLeased } from "../domain/task-state.ts";
import type { ResultCacheRepository, ResultTask } from "../store/result-cache-repository.ts";
import type { TaskStore } from "../store/task-store.ts";
import { whenDatabaseAnswers } from "./database-away.ts";
import { backoffMs, type Runtime } from "./runtime.ts";
import type { UpdateHub } from "./update-hub.ts";
import { watchTask } from "./watch.ts";

/** How long a task that was announced may take to be stored, in milliseconds. */
export const ABSENT_MS = 5_000;
/** Bounds of the pause between two looks for it, in milliseconds. */
const LOOK_MIN_MS = 5;
const LOOK_MAX_MS = 250;

export interface FollowerDeps {
  readonly store: TaskStore;
  readonly hub: UpdateHub;
  readonly runtime: Runtime;
  readonly log: Logger;
  readonly repository: Pick<ResultCacheRepository, "look">;
}

/** What is followed, and for whom. */
export interface Following {
  workspaceId: string;
  /** The task that is under way. */
  taskId: string;
  /** The task that waits for its result. */
  for: string;
  /** Whether the task as it stands in the end may be given to others. */
  isOfUse: (task: NonNullable<ResultTask["task"]>) => boolean;
}

/**
 * The result of a task when it has one. Undefined where it comes to none: it fails, or is canceled; it waits, for a replica,
 * for its next attempt or for its client, for all of which others had to wait too long; or its log is silent for `timeoutMs`.
 * Throws the signal's reason, and nothing else.
 */
export async function followResult(
  deps: FollowerDeps,
  following: Following,
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
): Promise<StreamResponse | undefined> {
  const { store, runtime, log, repository } = deps;
  const { workspaceId, taskId } = following;
  try {
    if (!(await isStored(deps, following, signal))) return undefined;
    if (!(await rests(deps, following, signal, timeoutMs))) return undefined;
    const task = await whenDatabaseAnswers(runtime, signal, () => repository.look(workspaceId, taskId));
    if (!task || !following.isOfUse(task)) return undefined;
    const stored = await whenDatabaseAnswers(runtime, signal, () => store.load(workspaceId, taskId));
    return stored && resultOf(foldTask(stored.header, stored.updates), following.for);
  } catch (err) {
    signal.throwIfAborted();
    log.warn({ err, taskId: following.for, followed: taskId }, "the result of an equal task could not be waited for");
    return undefined;
  }
}

async function isStored({ store, runtime }: FollowerDeps, key: Following, signal: AbortSignal): Promise<boolean> {
  const { workspaceId, taskId } = key;
  const began = runtime.elapsedMs();
  for (let looks = 0; ; looks++) {
    const found = await whenDatabaseAnswers(runtime, signal, () => store.lastNumbers([{ workspaceId, taskId }]));
    if (found.length > 0) return true;
    if (runtime.elapsedMs() - began >= ABSENT_MS) return false;
    await runtime.wait(backoffMs(looks, LOOK_MIN_MS, LOOK_MAX_MS, runtime.random), signal);
  }
}

/** Whether the task comes to a rest before its log is silent for too long. */
async function rests(deps: FollowerDeps, key: Following, signal: AbortSignal, timeoutMs: number): Promise<boolean> {
  const { workspaceId, taskId } = key;
  const updates = watchTask(deps, { workspaceId, taskId, after: 0, signal });
  try {
    for (;;) {
      const next = updates.next();
      // Whoever has waited too long does not wait for it any more.
      next.catch(() => {});
      const silence = new AbortController();
      const late = deps.runtime.wait(timeoutMs, silence.signal).then(
        () => undefined,
        () => undefined,
      );
      const news = await Promise.race([next, late]).finally(() => silence.abort());
      if (!news || news.done) return false;
      const state = stateBrought(news.value);
      if (state !== undefined && !isLeased(state)) return true;
    }
  } finally {
    updates.end();
  }
}
