/**
 * Removes keys, cached results, reports, reputations, past windows of budgets and nonces that are of no use any more. Every replica does,
 * now and then.
 */
import type { Logger } from "pino";
import type { ExpiredRows } from "../../store/expired-rows.ts";
import { isTransient } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";

/** The mean pause between two sweeps, in milliseconds. Replicas do not keep step. */
const EVERY_MS = 60_000;
/** Rows that one statement removes, and statements of a kind in one sweep, at most. The rest is for the next sweep. */
const BATCH = 1_000;
const MOST_BATCHES = 50;
/** So long a report of a judge is known again, and so long the reputation of an agent that has left is kept, in milliseconds. */
const REPORTS_KEPT_MS = 7 * 86_400_000;
const LEFT_KEPT_MS = 30 * 86_400_000;
/** So long it is known what was used of a budget, from the end of a window: a month is held against the same one of a year before. */
const WINDOWS_KEPT_MS = 400 * 86_400_000;
/** So long keys that have ended are listed. */
const ENDED_KEYS_KEPT_MS = 400 * 86_400_000;

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
  const ago = (ms: number) => new Date(runtime.now().getTime() - ms);

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
        await removeAll(() => rows.removeReports(ago(REPORTS_KEPT_MS), BATCH));
        await removeAll(() => rows.removeReputations(ago(LEFT_KEPT_MS), BATCH));
        await removeAll(() => rows.removeBudgetSlices(ago(WINDOWS_KEPT_MS), BATCH));
        await removeAll(() => rows.removeNonces(runtime.now(), BATCH));
        await removeAll(() => rows.removeApiKeys(ago(ENDED_KEYS_KEPT_MS), BATCH));
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
