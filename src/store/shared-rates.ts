/**
 * Points a second that replicas share: a row for each key, on which all of them draw. The limiter is rate-limiter-flexible's for
 * PostgreSQL, with two of its parts exchanged: it counts by the clock of the database, and what many keys draw at the same moment is
 * one statement. See docs/decisions/0013-limits-of-workspaces.md.
 */
import { RateLimiterMemory, RateLimiterPostgres, RateLimiterRes } from "rate-limiter-flexible";
import { databaseUnavailable } from "../domain/errors.ts";
import type { Database, Row, Statement } from "./database.ts";
import { createGroupCommit, type GroupCommit } from "./group-commit.ts";
import { int8Array, textArray } from "./pg-arrays.ts";

/** Length of a window, in seconds. */
const WINDOW_S = 1;
/** Keys in one statement at most, and those that may wait for one. */
const BATCH = 500;
const MOST_WAITING = 100_000;
/** Limits that are different, of which limiters are kept. */
const MOST_LIMITERS = 1_000;
/** How long the database may take to answer, in milliseconds; then this replica counts for itself, and asks no more for so long. */
const PATIENCE_MS = 500;
const AWAY_MS = 1_000;
/** Windows are forgotten when so much time has passed since their end. */
const KEPT = "1 minute";

/** What a replica has drawn. */
export interface Drawn {
  /** Points that it may spend. */
  points: number;
  /** When its window ends, in milliseconds by `elapsedMs`: a little sooner than by the database's clock, never later. */
  untilMs: number;
  /** Whether nothing is left of the window. */
  isLast: boolean;
}

export interface SharedRates {
  /**
   * Draws points of the window of a key, as many as it has left, but no more than are asked for; of all that draw with one limit, none get
   * more than it together. While the database does not answer, this replica alone is counted. Never rejects.
   */
  draw(key: string, limit: number, points: number): Promise<Drawn>;
  /** Removes a bounded number of windows that are over. Returns how many. */
  sweep(): Promise<number>;
  close(): Promise<void>;
}

interface Ask {
  key: string;
  points: number;
}

/** A window of the database, and when it ends. */
interface Window {
  consumed: number;
  untilMs: number;
}

// The row is looked at again once it is locked, so the time is that of the change and not of the wait.
const DRAW: Statement = {
  name: "rate-draw-v1",
  text: `
    insert into rate_windows as r (rate_key, points, ends_at)
    select k, p, clock_timestamp() + interval '${WINDOW_S} second' from unnest($1::text[], $2::bigint[]) as i(k, p)
    on conflict (rate_key) do update set
      points = case when r.ends_at <= clock_timestamp() then excluded.points else r.points + excluded.points end,
      ends_at = case when r.ends_at <= clock_timestamp() then clock_timestamp() + interval '${WINDOW_S} second' else r.ends_at end
    returning rate_key, points, (extract(epoch from r.ends_at - clock_timestamp()) * 1000)::float8 as left_ms`,
};

const SWEEP: Statement = {
  name: "rate-sweep-v1",
  text: `
    delete from rate_windows where ctid = any (array(
      select ctid from rate_windows where ends_at < clock_timestamp() - interval '${KEPT}' limit 1000 for update skip locked
    )) returning 1`,
};

type Clock = () => number;

/** The library's limiter of one limit, on our statement. */
class LimiterByDatabaseClock extends RateLimiterPostgres {
  readonly #draws: GroupCommit<Ask, Window>;
  readonly #now: Clock;

  constructor(points: number, draws: GroupCommit<Ask, Window>, now: Clock) {
    super({
      storeClient: draws,
      storeType: "pool",
      tableName: "rate_windows",
      // By a migration. What is over is swept by `sweep`.
      tableCreated: true,
      clearExpiredByTimeout: false,
      keyPrefix: "",
      points,
      duration: WINDOW_S,
      insuranceLimiter: new RateLimiterMemory({ keyPrefix: "", points, duration: WINDOW_S }),
    });
    this.#draws = draws;
    this.#now = now;
  }

  // The two that each store of the library must have.
  protected _upsert(key: string, points: number): Promise<Window> {
    return this.#draws.submit({ key, points });
  }

  protected _getRateLimiterRes(_key: string, changed: number, { consumed, untilMs }: Window): RateLimiterRes {
    const left = Math.max(0, this.points - consumed);
    return new RateLimiterRes(left, untilMs - this.#now(), consumed, consumed === changed);
  }
}

/** `elapsedMs` counts milliseconds, and is never set. */
export function createSharedRates(db: Pick<Database, "query">, elapsedMs: Clock): SharedRates {
  const limiters = new Map<number, LimiterByDatabaseClock>();
  let awayUntil = Number.NEGATIVE_INFINITY;

  const commits = createGroupCommit<Ask, Window>({
    name: "rates",
    maxBatch: BATCH,
    maxWaiting: MOST_WAITING,
    async flush(asks) {
      // In one order on all replicas, so that none waits for a row of another which waits for it; a key once.
      const sums = new Map<string, number>();
      for (const { key, points } of asks) sums.set(key, (sums.get(key) ?? 0) + points);
      const keys = [...sums.keys()].sort();
      const begunMs = elapsedMs();
      const rows = await db.query(DRAW, [textArray(keys, (key) => key), int8Array(keys, (key) => sums.get(key)!)]);
      const windows = new Map(rows.map((row) => [row.rate_key as string, windowOf(row, begunMs)]));
      // Of those that drew on one row together, each has what was consumed up to it.
      return asks.map(({ key, points }): Window => {
        const after = sums.get(key)! - points;
        sums.set(key, after);
        const window = windows.get(key)!;
        return { ...window, consumed: window.consumed - after };
      });
    },
  });

  /** The draws of the library, with an end to its patience. */
  const patient: GroupCommit<Ask, Window> = {
    async submit(ask) {
      if (elapsedMs() < awayUntil) throw databaseUnavailable();
      const late = Promise.withResolvers<never>();
      const timer = setTimeout(() => late.reject(databaseUnavailable()), PATIENCE_MS);
      const answer = commits.submit(ask);
      // Also when nobody waits for it any more.
      answer.catch(() => {});
      try {
        return await Promise.race([answer, late.promise]);
      } catch (error) {
        awayUntil = elapsedMs() + AWAY_MS;
        throw error;
      } finally {
        clearTimeout(timer);
      }
    },
    close: commits.close,
  };

  function limiterOf(limit: number): LimiterByDatabaseClock {
    let limiter = limiters.get(limit);
    if (!limiter) {
      if (limiters.size >= MOST_LIMITERS) limiters.delete(limiters.keys().next().value!);
      limiter = new LimiterByDatabaseClock(limit, patient, elapsedMs);
      limiters.set(limit, limiter);
    }
    return limiter;
  }

  return {
    async draw(key, limit, points) {
      const answer = await limiterOf(limit)
        .consume(key, points)
        .catch((refused: unknown) => refused);
      if (!(answer instanceof RateLimiterRes)) throw answer;
      const { consumedPoints, msBeforeNext } = answer;
      // What was asked for beyond the limit is refused as a whole: what was left of it is ours all the same.
      const left = Math.max(0, limit - (consumedPoints - points));
      return {
        points: Math.min(points, left),
        untilMs: elapsedMs() + msBeforeNext,
        isLast: consumedPoints >= limit,
      };
    },
    sweep: async () => (await db.query(SWEEP, [])).length,
    close: commits.close,
  };
}

const windowOf = (row: Row, begunMs: number): Window => ({
  consumed: row.points as number,
  untilMs: begunMs + (row.left_ms as number),
});
