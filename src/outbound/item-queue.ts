/** Items on their way from one who makes them to one who reads them, in memory. */
export interface ItemQueue<T> extends AsyncIterable<T> {
  push(item: T): void;
  /** Ends the items after those that wait, with an error if one is given. */
  close(error?: unknown): void;
  /** Ends the items with an error, at once. */
  fail(error: unknown): void;
}

export interface QueueEvents {
  /** The reader begins to wait for an item. */
  onWait: () => void;
  /** The reader waits no more. */
  onGiven: () => void;
  /** The reader leaves before the end. */
  onLeave: () => void;
}

export function createItemQueue<T>({ onWait, onGiven, onLeave }: QueueEvents): ItemQueue<T> {
  const items: T[] = [];
  let ended: { error: unknown } | undefined;
  let failure: { error: unknown } | undefined;
  let waiting: PromiseWithResolvers<IteratorResult<T>> | undefined;

  function next(): Promise<IteratorResult<T>> {
    if (failure) return Promise.reject(failure.error);
    const value = items.shift();
    if (value !== undefined) return Promise.resolve({ done: false, value });
    if (ended?.error !== undefined) return Promise.reject(ended.error);
    if (ended) return Promise.resolve({ done: true, value: undefined });
    waiting = Promise.withResolvers();
    onWait();
    return waiting.promise;
  }

  /** Gives what is there now to the reader that waits. */
  function settle(): void {
    const reader = waiting;
    waiting = undefined;
    if (!reader) return;
    onGiven();
    reader.resolve(next());
  }

  const iterator: AsyncIterator<T> = {
    next,
    async return() {
      ended = { error: undefined };
      onLeave();
      return { done: true, value: undefined };
    },
  };
  return {
    push(item) {
      if (ended || failure) return;
      items.push(item);
      settle();
    },
    close(error) {
      ended ??= { error };
      settle();
    },
    fail(error) {
      failure ??= { error };
      settle();
    },
    [Symbol.asyncIterator]: () => iterator,
  };
}
