/** One time limit for many things that begin one after another, such as requests that have to arrive: one timer for all. */
export interface TimeLimit<T> {
  /** From now on `item` has its time. */
  begin(item: T): void;
  /** `item` made it. */
  end(item: T): void;
}

/** `onLate` is told of each item that did not end within `ms`, once. It must not throw. */
export function createTimeLimit<T>(ms: number, onLate: (item: T) => void): TimeLimit<T> {
  /** When the time of each item is over; the oldest comes first. */
  const due = new Map<T, number>();
  let timer: NodeJS.Timeout | undefined;

  const wakeIn = (delay: number) => {
    timer = setTimeout(sweep, delay);
    timer.unref();
  };
  function sweep(): void {
    timer = undefined;
    const now = performance.now();
    for (const [item, at] of due) {
      if (at > now) {
        wakeIn(at - now);
        break;
      }
      due.delete(item);
      onLate(item);
    }
  }
  return {
    begin(item) {
      due.set(item, performance.now() + ms);
      if (timer === undefined) wakeIn(ms);
    },
    end: (item) => void due.delete(item),
  };
}
