/** What the world outside decides: time and chance. Injected, so that tests decide it instead. */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { uuidV7 } from "../domain/identifiers.ts";

export interface Runtime {
  now(): Date;
  /** Milliseconds since some moment, for durations: it neither jumps nor goes back when the clock is set. */
  elapsedMs(): number;
  /** A new id for a task, a context, a message or a request: a UUID of version 7. */
  newId(): string;
  /** From 0 up to but not including 1. */
  random(): number;
  /** Resolves after `ms`; rejects with the signal's reason when it aborts first. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
}

export function systemRuntime(): Runtime {
  // One call to the system serves 256 ids.
  let pool = randomBytes(0);
  let used = 0;
  return {
    now: () => new Date(),
    elapsedMs: () => performance.now(),
    newId: () => {
      if (used + 16 > pool.length) {
        pool = randomBytes(4096);
        used = 0;
      }
      used += 16;
      return uuidV7(Date.now(), pool, used - 16);
    },
    random: Math.random,
    wait: async (ms, signal) => {
      try {
        await sleep(ms, undefined, { signal });
      } catch {
        throw signal.reason;
      }
    },
  };
}

/** Exponential backoff with full jitter above a floor of half: attempt 0 waits between base/2 and base. */
export function backoffMs(attempt: number, baseMs: number, maxMs: number, random: () => number): number {
  const ceiling = Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
  return ceiling / 2 + (ceiling / 2) * random();
}
