/**
 * The look beneath the hints: asks the database from time to time how far the watched logs have come, and tells the hub. One
 * duty a replica for all its watchers, in statements of bounded size. It finds what a lost hint would hide; so it looks at
 * once when hints may have been lost, and often while none can come.
 */
import type { Logger } from "pino";
import type { TaskKey } from "../../store/task-reads.ts";
import type { TaskStore } from "../../store/task-store.ts";
import type { Runtime } from "../runtime.ts";
import { REMOVED, type UpdateHub } from "../update-hub.ts";

/** Tasks that one statement asks for. */
const BATCH = 500;
/** The rhythm while hints do not come, and after a look that failed, in milliseconds. */
const ANXIOUS_MS = 1_000;
/** Shortest pause between two looks, however often they are asked for, in milliseconds. */
const REST_MS = 50;

export interface SlowPollDeps {
  store: Pick<TaskStore, "lastNumbers">;
  hub: UpdateHub;
  runtime: Runtime;
  log: Logger;
  /** The rhythm while hints come, in milliseconds. */
  everyMs: number;
}

export interface SlowPoll {
  /** Looks at once, or as soon as the look that is under way has ended. */
  look(): void;
  /** Whether hints come. Until this is told, they are thought not to. */
  setConnected(connected: boolean): void;
  /** Waits for the look that is under way. */
  stop(): Promise<void>;
}

export function startSlowPoll({ store, hub, runtime, log, everyMs }: SlowPollDeps): SlowPoll {
  const stop = new AbortController();
  let connected = false;
  let failed = false;
  let asked = false;
  let wake = () => {};

  /** The tasks that are watched, in batches. */
  function* batches(): Generator<TaskKey[]> {
    let batch: TaskKey[] = [];
    for (const key of hub.watched()) {
      batch.push(key);
      if (batch.length < BATCH) continue;
      yield batch;
      batch = [];
    }
    if (batch.length > 0) yield batch;
  }

  async function lookNow(): Promise<void> {
    try {
      for (const batch of batches()) {
        if (stop.signal.aborted) return;
        const found = await store.lastNumbers(batch);
        for (const { workspaceId, taskId, seq } of found) hub.hint(workspaceId, taskId, seq);
        if (found.length < batch.length) tellOfMissing(batch, found);
      }
      failed = false;
    } catch (error) {
      failed = true;
      log.debug({ err: error }, "the watched tasks could not be looked at");
    }
  }

  /** Tasks that were removed: whoever still watches one reads its log, and finds that it is gone. */
  function tellOfMissing(batch: readonly TaskKey[], found: readonly TaskKey[]): void {
    const keyOf = ({ workspaceId, taskId }: TaskKey) => `${workspaceId} ${taskId}`;
    const there = new Set(found.map(keyOf));
    for (const key of batch) if (!there.has(keyOf(key))) hub.hint(key.workspaceId, key.taskId, REMOVED);
  }

  const pause = (ms: number, signal: AbortSignal) => runtime.wait(ms, signal).catch(() => {});

  async function keepLooking(): Promise<void> {
    while (!stop.signal.aborted) {
      if (!asked) {
        const woken = new AbortController();
        wake = () => woken.abort();
        await pause(connected && !failed ? everyMs : Math.min(everyMs, ANXIOUS_MS), woken.signal);
        wake = () => {};
      }
      asked = false;
      if (stop.signal.aborted) return;
      await lookNow();
      await pause(REST_MS, stop.signal);
    }
  }

  const done = keepLooking();
  return {
    look() {
      asked = true;
      wake();
    },
    setConnected(now) {
      connected = now;
    },
    async stop() {
      stop.abort();
      wake();
      await done;
    },
  };
}
