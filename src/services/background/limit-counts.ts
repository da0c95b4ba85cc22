/** Counts what workspaces have stored, and forgets seconds that are over. Every replica does, now and then; each page is counted by one. */
import type { Logger } from "pino";
import type { SharedRates } from "../../store/shared-rates.ts";
import type { StoredBytes } from "../../store/stored-bytes.ts";
import { isTransient } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";

/** From the end of one count of a workspace to the beginning of the next, in milliseconds. */
export const COUNT_EVERY_MS = 15_000;
/** The mean pause between two looks for what is due, and between two sweeps, in milliseconds. Replicas do not keep step. */
const LOOK_MS = 5_000;
const SWEEP_MS = 60_000;
/** Shortest pause between two pages, in milliseconds: others use the database too. */
const REST_MS = 2;

export interface LimitCountsDeps {
  stored: StoredBytes;
  rates: Pick<SharedRates, "sweep">;
  runtime: Runtime;
  log: Logger;
}

export function startLimitCounts({ stored, rates, runtime, log }: LimitCountsDeps): { stop(): Promise<void> } {
  const stop = new AbortController();
  const { signal } = stop;
  let sweptMs = runtime.elapsedMs();

  async function look(): Promise<void> {
    await stored.enlist();
    while (!signal.aborted && (await stored.countPage(COUNT_EVERY_MS))) await runtime.wait(REST_MS, signal);
    if (runtime.elapsedMs() - sweptMs < SWEEP_MS) return;
    sweptMs = runtime.elapsedMs();
    while (!signal.aborted && (await rates.sweep()) >= 1_000);
  }

  async function keepLooking(): Promise<void> {
    while (!signal.aborted) {
      await runtime.wait(LOOK_MS * (0.5 + runtime.random()), signal);
      try {
        await look();
      } catch (err) {
        if (signal.aborted) return;
        if (!isTransient(err))
          log.error({ err }, "what workspaces have stored could not be counted; trying again later");
      }
    }
  }

  const looking = keepLooking().catch((err: unknown) => {
    if (!signal.aborted) log.error({ err }, "what workspaces have stored is not counted any more");
  });
  return {
    async stop() {
      stop.abort();
      await looking;
    },
  };
}
