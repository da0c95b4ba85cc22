/** Lets a loop sleep until there is something to do. */

export interface Alarm {
  /** Ends the sleep that is under way, or the next one before it begins. */
  ring(): void;
  /** Sleeps at most `ms`. Rejects with the signal's reason when it aborts first. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

export function createAlarm(): Alarm {
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
        await new Promise<void>((resolve) => {
          const timer = setTimeout(() => wake(), ms);
          wake = () => {
            clearTimeout(timer);
            signal.removeEventListener("abort", wake);
            wake = () => {};
            resolve();
          };
          signal.addEventListener("abort", wake);
        });
        signal.throwIfAborted();
      }
      rung = false;
    },
  };
}
