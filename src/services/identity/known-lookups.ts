/**
 * Answers of the database that every request asks for, held in memory. One is given at once for as long as it is `FRESH_MS` old, read
 * anew in the background from the middle of that time on, and waited for after it. While the database does not answer, what was
 * known holds for `AWAY_MS`. What is missed at one time is read by one statement.
 */
import { queueFull } from "../../domain/errors.ts";
import { isTransient } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";

/** How old an answer may be, and from when on it is read anew, in milliseconds. */
const FRESH_MS = 1_000;
const RENEW_MS = 500;
/** How old it may be while the database does not answer, in milliseconds. */
const AWAY_MS = 30_000;
/** How long the database is waited for, where something older is known, in milliseconds. */
const PATIENCE_MS = 1_000;
/** So long it is not waited for after that, in milliseconds. */
const DISTRUST_MS = 2_000;
/** Keys that one statement asks for, and that may wait for one. */
const BATCH = 500;
const MOST_WAITING = 10_000;

export interface KnownLookups<T> {
  /** Undefined: there is nothing of that name. A promise only where the database must be waited for. */
  get(key: string): T | undefined | Promise<T | undefined>;
  /** Has those for which `concerns` says so asked for anew, after a change: what is read now is no longer of use. */
  changed(concerns: (key: string) => boolean): void;
}

export interface KnownLookupsOptions<T> {
  /** For the error of a queue that is full. */
  name: string;
  runtime: Runtime;
  /** Of these keys; those of which there is nothing are left out. */
  load: (keys: readonly string[]) => Promise<ReadonlyMap<string, T>>;
  /** Keys that are held, of which there is something, and of which there is nothing. Those used last stay. */
  most: { found: number; missing: number };
}

interface Held<T> {
  readonly value: T | undefined;
  /** When it was asked for: it may be as old. */
  readonly at: number;
}

interface Waiting<T> {
  readonly key: string;
  readonly answer: PromiseWithResolvers<T | undefined>;
}

export function createKnownLookups<T>({ name, runtime, load, most }: KnownLookupsOptions<T>): KnownLookups<T> {
  /** In the order of their last use. What nobody knows keeps out nothing of what somebody does. */
  const found = new Map<string, Held<T>>();
  const missing = new Map<string, Held<T>>();
  /** What is read, or waits to be. */
  const asked = new Map<string, Promise<T | undefined>>();
  let queue: Waiting<T>[] = [];
  let isReading = false;
  /** Grows with every change: what was read before one is not kept. */
  let changes = 0;
  /** Until when the database is taken to be away. */
  let awayUntil = Number.NEGATIVE_INFINITY;

  function heldOf(key: string): Held<T> | undefined {
    const [map, held] = found.has(key) ? [found, found.get(key)!] : [missing, missing.get(key)];
    if (!held) return undefined;
    map.delete(key);
    map.set(key, held);
    return held;
  }

  function keep(key: string, value: T | undefined, at: number): void {
    found.delete(key);
    missing.delete(key);
    const [map, room] = value === undefined ? [missing, most.missing] : [found, most.found];
    map.set(key, { value, at });
    if (map.size > room) map.delete(map.keys().next().value!);
  }

  /** Reads all that waits, one statement after another. */
  async function read(): Promise<void> {
    if (isReading) return;
    isReading = true;
    // What else is asked for in this turn of the event loop goes along.
    await Promise.resolve();
    while (queue.length > 0) {
      const batch = queue.slice(0, BATCH);
      queue = queue.slice(BATCH);
      const at = runtime.elapsedMs();
      const before = changes;
      try {
        const answers = await load([...new Set(batch.map(({ key }) => key))]);
        awayUntil = Number.NEGATIVE_INFINITY;
        for (const { key, answer } of batch) {
          if (asked.get(key) === answer.promise) asked.delete(key);
          if (changes === before) keep(key, answers.get(key), at);
          answer.resolve(answers.get(key));
        }
      } catch (error) {
        if (isTransient(error)) awayUntil = runtime.elapsedMs() + DISTRUST_MS;
        for (const { key, answer } of batch) {
          if (asked.get(key) === answer.promise) asked.delete(key);
          answer.reject(error);
        }
      }
    }
    isReading = false;
  }

  function ask(key: string): Promise<T | undefined> {
    const under = asked.get(key);
    if (under) return under;
    const answer = Promise.withResolvers<T | undefined>();
    // Who asked in the background waits for nothing.
    answer.promise.catch(() => {});
    if (queue.length >= MOST_WAITING) {
      answer.reject(queueFull(name));
      return answer.promise;
    }
    asked.set(key, answer.promise);
    queue.push({ key, answer });
    void read();
    return answer.promise;
  }

  /** What is read, or what is held where that does not come. */
  async function askOr(held: Held<T>, key: string): Promise<T | undefined> {
    const timer = new AbortController();
    const late = runtime.wait(PATIENCE_MS, timer.signal).then(
      () => {
        awayUntil = runtime.elapsedMs() + DISTRUST_MS;
        return held.value;
      },
      () => held.value,
    );
    try {
      return await Promise.race([ask(key), late]);
    } catch (error) {
      if (isTransient(error)) return held.value;
      throw error;
    } finally {
      timer.abort();
    }
  }

  return {
    get(key) {
      const held = heldOf(key);
      const now = runtime.elapsedMs();
      const age = held ? now - held.at : Number.POSITIVE_INFINITY;
      if (!held || age > AWAY_MS) return ask(key);
      if (age <= RENEW_MS) return held.value;
      if (age <= FRESH_MS || now < awayUntil) {
        // Whoever is given what is held waits for nothing, and hears of nothing.
        ask(key).catch(() => {});
        return held.value;
      }
      return askOr(held, key);
    },
    changed(concerns) {
      changes += 1;
      for (const map of [found, missing]) for (const key of map.keys()) if (concerns(key)) map.delete(key);
      asked.clear();
    },
  };
}
