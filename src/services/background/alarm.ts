/** Lets a loop sleep until there is something to do. */
import type { Runtime } from "../runtime.ts";

export interface Alarm {
  /** Ends the sleep that is under way, or the next one before it begins. */
  ring(): void;
  /** Sleeps at most `ms`. Rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

export function createAlarm(runtime: Runtime): Alarm {
  let rung = false;
  let wake = () => {};
  return {
    ring() {
      rung = true;
      wake();
    },
    async sleep(ms, signal) {
      signal.throwIfAborted();
      if (!rung) {
        const woken = new AbortController();
        wake = () => woken.abort();
        await runtime.wait(ms, AbortSignal.any([woken.signal, signal])).catch(() => signal.throwIfAborted());
        wake = () => {};
      }
      rung = false;
    },
  };
}
