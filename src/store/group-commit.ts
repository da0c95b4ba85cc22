/**
 * Group commit: what many callers want at about the same time becomes one statement. While a batch is in flight the next
 * one gathers, so there is no timer to tune: alone, a caller waits for nobody; under load, batches grow by themselves.
 */
import { databaseUnavailable, queueFull } from "../domain/errors.ts";

export interface GroupCommitOptions<Item, Result> {
  /** Names the queue in errors. */
  name: string;
  /**
   * Does the work of a batch and answers in its order. An Error among the answers is for that caller alone; what `flush`
   * throws is for all.
   */
  flush: (items: Item[]) => Promise<(Result | Error)[]>;
  /** Items in one batch at most. */
  maxBatch: number;
  /** Items that may wait for a batch; one more is refused with QUEUE_FULL. */
  maxWaiting: number;
  /** Batches in flight at once; 1 unless told. */
  lanes?: number;
  /**
   * Tells whether an error that `flush` threw is the fault of single items, and nothing was done. The batch is then
   * halved until the fault stands alone, and the innocent get their answers.
   */
  isolate?: (error: unknown) => boolean;
}

export interface GroupCommit<Item, Result> {
  submit(item: Item): Promise<Result>;
  /** Takes no more, and resolves when everything that was taken is answered. */
  close(): Promise<void>;
}

interface Waiting<Item, Result> {
  item: Item;
  resolve: (result: Result) => void;
  reject: (error: unknown) => void;
}

export function createGroupCommit<Item, Result>(options: GroupCommitOptions<Item, Result>): GroupCommit<Item, Result> {
  const { name, flush, maxBatch, maxWaiting, lanes = 1, isolate } = options;
  const waiting: Waiting<Item, Result>[] = [];
  let inFlight = 0;
  let scheduled = false;
  let closed: PromiseWithResolvers<void> | undefined;

  // Not at once, but when this turn of the event loop has read all its sockets: its requests share a batch. That costs a
  // lone caller some microseconds.
  function schedule(): void {
    if (scheduled || waiting.length === 0 || inFlight >= lanes) return;
    scheduled = true;
    setImmediate(start);
  }

  function start(): void {
    scheduled = false;
    const batch = waiting.splice(0, maxBatch);
    inFlight += 1;
    void run(batch).then(() => {
      inFlight -= 1;
      schedule();
      settle();
    });
    schedule();
  }

  async function run(batch: Waiting<Item, Result>[]): Promise<void> {
    try {
      const results = await flush(batch.map((entry) => entry.item));
      if (results.length !== batch.length) {
        throw new Error(`${name}: ${results.length} answers for ${batch.length} items`);
      }
      batch.forEach((entry, i) => {
        const result = results[i] as Result | Error;
        if (result instanceof Error) entry.reject(result);
        else entry.resolve(result);
      });
    } catch (error) {
      if (batch.length === 1 || !isolate?.(error)) {
        for (const entry of batch) entry.reject(error);
        return;
      }
      const middle = batch.length >> 1;
      await run(batch.slice(0, middle));
      await run(batch.slice(middle));
    }
  }

  function settle(): void {
    if (waiting.length === 0 && inFlight === 0) closed?.resolve();
  }

  return {
    submit(item) {
      if (closed) return Promise.reject(databaseUnavailable(new Error(`the queue "${name}" is closed`)));
      if (waiting.length >= maxWaiting) return Promise.reject(queueFull(name));
      return new Promise((resolve, reject) => {
        waiting.push({ item, resolve, reject });
        schedule();
      });
    },
    close() {
      closed ??= Promise.withResolvers<void>();
      settle();
      return closed.promise;
    },
  };
}
