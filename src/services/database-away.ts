/** What to do while the database is away: wait for it. */
import { SignalboxError } from "../domain/errors.ts";
import { backoffMs, type Runtime } from "./runtime.ts";

/** Repeats what only reads until the database answers. */
export async function whenDatabaseAnswers<T>(
  runtime: Runtime,
  signal: AbortSignal,
  read: () => Promise<T>,
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await read();
    } catch (error) {
      if (!isTransient(error)) throw error;
      await runtime.wait(backoffMs(attempt, 100, 5_000, runtime.random), signal);
    }
  }
}

/** The database is away, or has more to write than it can hold: trying again can help. */
export function isTransient(error: unknown): boolean {
  return error instanceof SignalboxError && (error.reason === "DATABASE_UNAVAILABLE" || error.reason === "QUEUE_FULL");
}
