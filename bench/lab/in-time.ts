/** Waits that have an end. */

/** What a promise gives. Throws when it has given nothing after so many milliseconds, and when the benchmark is to end. */
export async function inTime<T>(what: string, promise: Promise<T>, ms: number, signal: AbortSignal): Promise<T> {
  const over = Promise.withResolvers<never>();
  const giveUp = () => over.reject(signal.reason);
  const timer = setTimeout(() => over.reject(new Error(`${what}: nothing after ${ms / 1000} s`)), ms);
  signal.addEventListener("abort", giveUp, { once: true });
  if (signal.aborted) giveUp();
  try {
    return await Promise.race([promise, over.promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", giveUp);
  }
}
