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

/**
 * Callers that are answered in one turn of the event loop. What the first of them do next is on its way to the database
 * while the others are answered, so that neither waits for the other, and nothing else waits for a large batch.
 */
const ANSWERED_AT_ONCE = 64;

interface Waiting<Item, Result> {
  item: Item;
  resolve: (result: Result) => void;
  reject: (error: unknown) => void;
}

/** What a caller is refused with. */
class Refusal {
  readonly reason: unknown;

  constructor(reason: unknown) {
    this.reason = reason;
  }
}

const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

export function createGroupCommit<Item, Result>(options: GroupCommitOptions<Item, Result>): GroupCommit<Item, Result> {
  const { name, flush, maxBatch, maxWaiting, lanes = 1, isolate } = options;
  const waiting: Waiting<Item, Result>[] = [];
  let inFlight = 0;
  /** Batches of which not all callers are answered. */
  let answering = 0;
  let scheduled = false;
  let closed: PromiseWithResolvers<void> | undefined;

  // Not at once, but when this turn of the event loop has read all its sockets: its requests share a batch. That costs a
  // lone caller some microseconds.
  function schedule(): void {
    if (scheduled || waiting.length === 0 || inFlight >= lanes) return;
    scheduled = true;
    setImmediate(start);
  }

  async function start(): Promise<void> {
    scheduled = false;
    const batch = waiting.splice(0, maxBatch);
    inFlight += 1;
    answering += 1;
    schedule();
    const answers = await perform(batch.map((entry) => entry.item));
    inFlight -= 1;
    schedule();
    for (let i = 0; i < batch.length; i++) {
      if (i > 0 && i % ANSWERED_AT_ONCE === 0) await nextTurn();
      const answer = answers[i];
      if (answer instanceof Refusal) batch[i]!.reject(answer.reason);
      else batch[i]!.resolve(answer as Result);
    }
    answering -= 1;
    settle();
  }

  /** What comes of each item. Never rejects. */
  async function perform(items: Item[]): Promise<(Result | Refusal)[]> {
    try {
      const results = await flush(items);
      if (results.length !== items.length) {
        throw new Error(`${name}: ${results.length} answers for ${items.length} items`);
      }
      return results.map((result) => (result instanceof Error ? new Refusal(result) : result));
    } catch (error) {
      if (items.length === 1 || !isolate?.(error)) return items.map(() => new Refusal(error));
      const middle = items.length >> 1;
      return [...(await perform(items.slice(0, middle))), ...(await perform(items.slice(middle)))];
    }
  }

  function settle(): void {
    if (waiting.length === 0 && answering === 0) closed?.resolve();
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
