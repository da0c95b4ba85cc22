/** Work of which only so much runs at once. */

/**
 * Returns a function that runs `work` as soon as one of `count` places is free, first come first served, and settles as
 * it does. The place is free again when the work has ended, well or badly.
 */
export function createPlaces(count: number): <T>(work: () => Promise<T>) => Promise<T> {
  let free = count;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (free > 0) free--;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      // Handed over, not freed: nobody who comes later gets in between.
      if (next) next();
      else free++;
    }
  };
}
