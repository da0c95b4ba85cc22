/** A fixed number of callers for a fixed time. */
export interface InFlight {
  inFlight: number;
  durationMs: number;
}

/** Each caller calls again as soon as its call has ended. Resolves when the last call has; throws when one does. */
export async function keepInFlight({ inFlight, durationMs }: InFlight, call: () => Promise<unknown>): Promise<void> {
  const end = performance.now() + durationMs;
  const caller = async () => {
    while (performance.now() < end) await call();
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
}
