/** Lets others have their turn after work that kept the process busy, so that many such pieces at once do not add up. */
import type { Runtime } from "../runtime.ts";

/** Work that takes no longer makes nobody wait, in milliseconds. */
const BUSY_MS = 5;

/**
 * Does work that does not wait, at once or, after a long piece, when the event loop has come round: no two long pieces follow
 * each other without that.
 */
export function createBreather(runtime: Pick<Runtime, "elapsedMs">): <T>(work: () => T) => Promise<T> {
  let rest: Promise<void> | undefined;
  return async (work) => {
    while (rest) await rest;
    const begun = runtime.elapsedMs();
    try {
      return work();
    } finally {
      if (runtime.elapsedMs() - begun > BUSY_MS) {
        rest = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
          rest = undefined;
        });
      }
    }
  };
}
