/** Writes down, now and then, which API keys were used. Best effort: what a crash loses is the last use of some keys. */
import type { Logger } from "pino";
import { isTransient } from "../database-away.ts";
import type { KnownKeys } from "../identity/known-keys.ts";
import type { Runtime } from "../runtime.ts";

/** The mean pause, in milliseconds. Replicas do not keep step. */
const EVERY_MS = 15_000;

export interface KeyUses {
  /** Writes down what is not written yet, and ends. */
  stop(): Promise<void>;
}

export interface KeyUsesDeps {
  keys: Pick<KnownKeys, "noteUses">;
  runtime: Runtime;
  log: Logger;
}

export function startKeyUses({ keys, runtime, log }: KeyUsesDeps): KeyUses {
  const stop = new AbortController();
  const { signal } = stop;

  const note = () =>
    keys.noteUses().catch((err: unknown) => {
      if (!isTransient(err)) log.error({ err }, "the use of keys could not be written down");
    });

  async function keepNoting(): Promise<void> {
    while (!signal.aborted) {
      await runtime.wait(EVERY_MS * (0.5 + runtime.random()), signal);
      await note();
    }
  }

  const noting = keepNoting().catch((err: unknown) => {
    if (!signal.aborted) log.error({ err }, "the use of keys is not written down any more");
  });
  return {
    async stop() {
      stop.abort();
      await noting;
      await note();
    },
  };
}
