/** Things that come one after another, and a test that waits for each. */
export interface Inbox<T> {
  put(item: T): void;
  /** The next one, which may have come already. */
  next(): Promise<T>;
  /** How many have come that nobody has taken. */
  readonly waiting: number;
}

export function createInbox<T>(): Inbox<T> {
  const items: T[] = [];
  const readers: ((item: T) => void)[] = [];
  return {
    get waiting() {
      return items.length;
    },
    put(item) {
      const reader = readers.shift();
      if (reader) reader(item);
      else items.push(item);
    },
    next() {
      if (items.length > 0) return Promise.resolve(items.shift() as T);
      return new Promise((resolve) => readers.push(resolve));
    },
  };
}
