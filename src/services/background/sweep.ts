/** Removes keys of idempotency and cached results that are of no use any more. Every replica does, now and then. */
import type { Logger } from "pino";
import type { ExpiredRows } from "../../store/expired-rows.ts";
import { isTransient } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";

/** The mean pause between two sweeps, in milliseconds. Replicas do not keep step. */
const EVERY_MS = 60_000;
/** Rows that one statement removes, and statements of a kind in one sweep, at most. The rest is for the next sweep. */
const BATCH = 1_000;
const MOST_BATCHES = 50;

export interface SweepDeps {
  rows: ExpiredRows;
  runtime: Runtime;
  log: Logger;
  /** Cached results that a workspace may have; beyond it the oldest go. */
  maxResults: number;
}

export interface Sweep {
  /** Ends the sweeps, and waits for the statement that is under way. */
  stop(): Promise<void>;
}

export function startSweep({ rows, runtime, log, maxResults }: SweepDeps): Sweep {
  const stop = new AbortController();
  const { signal } = stop;

  async function removeAll(remove: () => Promise<number>): Promise<void> {
    for (let batches = 0; batches < MOST_BATCHES && !signal.aborted; batches++) {
      if ((await remove()) < BATCH) return;
    }
  }

  async function keepSweeping(): Promise<void> {
    while (!signal.aborted) {
      await runtime.wait(EVERY_MS * (0.5 + runtime.random()), signal);
      try {
        await removeAll(() => rows.removeKeys(runtime.now(), BATCH));
        await removeAll(() => rows.removeResults(runtime.now(), BATCH));
        await removeAll(() => rows.evictResults(maxResults, BATCH));
      } catch (err) {
        if (!isTransient(err)) log.error({ err }, "what has expired could not be removed; trying again later");
      }
    }
  }

  const sweeping = keepSweeping().catch((err: unknown) => {
    if (!signal.aborted) log.error({ err }, "sweeps have stopped");
  });
  return {
    async stop() {
      stop.abort();
      await sweeping;
    },
  };
}
