/**
 * A reader of one task's log with a cursor of its own: it gets every update after the cursor once, in order, whatever it
 * misses of the hub. Slow readers hold at most `BUFFER` updates in memory; beyond that they read the log, and wait for the
 * database where it is away.
 */
import type { TaskUpdate } from "../domain/task-log.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { Runtime } from "./runtime.ts";
import { whenDatabaseAnswers } from "./task-writer.ts";
import type { UpdateHub } from "./update-hub.ts";

/** Updates that one watcher holds at most. */
const BUFFER = 256;
/** How often a watcher looks into the log although it heard nothing. */
const POLL_MS = 15_000;

export interface WatchOptions {
  workspaceId: string;
  taskId: string;
  /** The first update is the one after this number. */
  after: number;
  /** True when nothing after `after` can be in the log yet: spares the first read. */
  fresh?: boolean;
  /** Ends the watch by throwing the signal's reason. */
  signal: AbortSignal;
}

/**
 * Listens at once, before the first `next()`, so that nothing is missed between a read and a watch. The caller ends it
 * with `return()` (or by leaving its `for await`); it never ends by itself.
 */
export function watchTask(
  deps: { store: TaskStore; hub: UpdateHub; runtime: Runtime },
  options: WatchOptions,
): AsyncGenerator<TaskUpdate, never, void> {
  const { workspaceId, taskId, signal } = options;
  let heard: TaskUpdate[] = [];
  let mustRead = !options.fresh;
  let wake: () => void = () => {};
  const unsubscribe = deps.hub.subscribe(workspaceId, taskId, ({ updates }) => {
    if (heard.length + updates.length > BUFFER) {
      heard = [];
      mustRead = true;
    } else {
      heard.push(...updates);
    }
    wake();
  });
  signal.addEventListener("abort", unsubscribe, { once: true });

  function changed(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        mustRead = true;
        wake();
      }, POLL_MS);
      timer.unref();
      wake = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", wake);
        wake = () => {};
        resolve();
      };
      signal.addEventListener("abort", wake, { once: true });
    });
  }

  async function* read(): AsyncGenerator<TaskUpdate, never, void> {
    let cursor = options.after;
    try {
      for (;;) {
        signal.throwIfAborted();
        if (mustRead) {
          mustRead = false;
          const rows = await whenDatabaseAnswers(deps.runtime, signal, () =>
            deps.store.readUpdates(workspaceId, taskId, cursor, BUFFER),
          );
          if (rows.length === BUFFER) mustRead = true;
          for (const row of rows) {
            cursor = row.seq;
            yield row;
          }
        } else if (heard.length > 0) {
          const batch = heard;
          heard = [];
          for (const update of batch) {
            if (update.seq <= cursor) continue;
            if (update.seq !== cursor + 1) {
              mustRead = true;
              break;
            }
            cursor = update.seq;
            yield update;
          }
        } else {
          await changed();
        }
      }
    } finally {
      unsubscribe();
      signal.removeEventListener("abort", unsubscribe);
    }
  }
  // A generator that never began runs no `finally` when it is returned.
  const updates = read();
  const leave = updates.return.bind(updates);
  updates.return = (value) => {
    unsubscribe();
    return leave(value);
  };
  return updates;
}
