/**
 * A reader of one task's log with a cursor of its own: it gets every update after the cursor once, in order, whoever wrote
 * it. It sleeps until the hub tells it something: rows that follow its own it takes as they are, and for anything else it
 * reads the log. A hint that is lost costs it time alone, because the slow poll (background/slow-poll.ts) tells the hub how
 * far each watched log has come. Slow readers hold at most `BUFFER` updates in memory; beyond that they read the log, and
 * wait for the database where it is away.
 */
import type { TaskUpdate } from "../domain/task-log.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { Runtime } from "./runtime.ts";
import { whenDatabaseAnswers } from "./task-writer.ts";
import type { UpdateHub } from "./update-hub.ts";

/** Updates that one watcher holds at most. */
const BUFFER = 256;

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
  let cursor = options.after;
  let heard: TaskUpdate[] = [];
  let mustRead = !options.fresh;
  /** The greatest number hinted at since the log was last read. Most hints tell what is known by then. */
  let hinted = 0;
  let wake: () => void = () => {};
  const unsubscribe = deps.hub.subscribe(workspaceId, taskId, {
    onCommit({ updates }) {
      if (heard.length + updates.length > BUFFER) {
        heard = [];
        mustRead = true;
      } else {
        heard.push(...updates);
      }
      wake();
    },
    onHint(seq) {
      if (seq <= Math.max(hinted, cursor)) return;
      hinted = seq;
      wake();
    },
  });
  signal.addEventListener("abort", unsubscribe, { once: true });

  function changed(): Promise<void> {
    return new Promise((resolve) => {
      wake = () => {
        signal.removeEventListener("abort", wake);
        wake = () => {};
        resolve();
      };
      signal.addEventListener("abort", wake, { once: true });
    });
  }

  async function* read(): AsyncGenerator<TaskUpdate, never, void> {
    try {
      for (;;) {
        signal.throwIfAborted();
        if (mustRead || (heard.length === 0 && hinted > cursor)) {
          mustRead = false;
          const asked = hinted;
          const { updates: rows, more } = await whenDatabaseAnswers(deps.runtime, signal, () =>
            deps.store.readUpdates(workspaceId, taskId, cursor, BUFFER),
          );
          if (more) mustRead = true;
          // Whatever the hint said: what was committed before it was in the log that was read.
          if (hinted === asked) hinted = 0;
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
