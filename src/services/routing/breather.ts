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

/** Does work that is made of small steps, a few milliseconds at a time: between those, whatever else there is has its turn. */
export function createStepper(runtime: Pick<Runtime, "elapsedMs">): <T>(steps: Generator<void, T>) => Promise<T> {
  const breathe = createBreather(runtime);
  return async (steps) => {
    for (;;) {
      const step = await breathe(() => {
        const begun = runtime.elapsedMs();
        for (;;) {
          const next = steps.next();
          if (next.done || runtime.elapsedMs() - begun > BUSY_MS) return next;
        }
      });
      if (step.done) return step.value;
    }
  };
}
