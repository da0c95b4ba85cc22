/** Forgets old exchanges, a bounded number in each statement. Every replica looks; no two delete the same. */
import type { Logger } from "pino";
import type { ExchangeRetention } from "../../store/exchange-retention.ts";
import { isTransient } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";

/** Exchanges that one statement deletes. Each has at most a few hundred messages. */
const BATCH = 10;
/** The rhythm, in milliseconds. */
const EVERY_MS = 60_000;
/** Rest between two statements while there is more, in milliseconds. */
const REST_MS = 50;

export interface ExchangeSweepDeps {
  retention: ExchangeRetention;
  runtime: Runtime;
  log: Logger;
  /** How long an exchange is kept after its last message, in milliseconds. */
  keepMs: number;
}

/** Sweeps at once and then every minute, until it is stopped; stopping waits for the statement that is under way. */
export function startExchangeSweep({ retention, runtime, log, keepMs }: ExchangeSweepDeps): { stop(): Promise<void> } {
  const stop = new AbortController();
  const { signal } = stop;

  async function sweep(): Promise<number> {
    try {
      return await retention.sweep(new Date(runtime.now().getTime() - keepMs), BATCH);
    } catch (err) {
      if (!isTransient(err)) log.error({ err }, "old exchanges could not be swept; trying again later");
      return 0;
    }
  }

  async function keepSweeping(): Promise<void> {
    while (!signal.aborted) {
      const swept = await sweep();
      await runtime.wait(swept === BATCH ? REST_MS : EVERY_MS, signal).catch(() => {});
    }
  }

  const done = keepSweeping();
  return {
    async stop() {
      stop.abort();
      await done;
    },
  };
}
