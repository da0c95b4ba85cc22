/** Asks all workers what they measure, for one page. */
import type { MetricsSnapshot } from "../../transport/ops/metrics.ts";
import { createMetricsBook, type WorkerCounts } from "./metrics-book.ts";

/** How long a worker may take to say what it measures, in milliseconds. It asks the database for some of it. */
const ANSWER_MS = 2_500;

export interface MetricsRoundDeps {
  /** Those that can be asked, each by its id. */
  workers: () => ReadonlyMap<number, { ask(question: number): void }>;
  counts: () => WorkerCounts;
  /** Default: 2.5 s. */
  answerMs?: number;
}

export interface MetricsRounds {
  /** The page of all workers. Whoever asks while it is made gets the same one. Takes little more than 2.5 s, whatever workers do. */
  page(): Promise<string>;
  /** What a worker has answered. */
  answered(worker: number, question: number, snapshot: MetricsSnapshot): void;
  /** A worker is gone. */
  left(worker: number): void;
}

export function createMetricsRounds({ workers, counts, answerMs = ANSWER_MS }: MetricsRoundDeps): MetricsRounds {
  const book = createMetricsBook();
  /** Those whose answers are waited for. */
  let waiting = new Set<number>();
  let complete = Promise.withResolvers<void>();
  let round = 0;
  let making: Promise<string> | undefined;

  function settle(worker: number): void {
    if (waiting.delete(worker) && waiting.size === 0) complete.resolve();
  }

  async function make(): Promise<string> {
    const asked = workers();
    round += 1;
    waiting = new Set(asked.keys());
    complete = Promise.withResolvers();
    const timer = setTimeout(complete.resolve, answerMs);
    for (const worker of asked.values()) worker.ask(round);
    if (asked.size > 0) await complete.promise;
    clearTimeout(timer);
    const silent = waiting;
    waiting = new Set();
    return book.page(counts(), silent);
  }

  return {
    page() {
      making ??= make().finally(() => {
        making = undefined;
      });
      return making;
    },
    answered(worker, question, snapshot) {
      // One that comes too late is news all the same, but not of a worker that has gone meanwhile.
      if (!workers().has(worker)) return;
      book.take(worker, snapshot);
      if (question === round) settle(worker);
    },
    left(worker) {
      settle(worker);
      book.close(worker);
    },
  };
}
