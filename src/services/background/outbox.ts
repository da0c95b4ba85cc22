/**
 * The outbox: what must follow every committed update outside the task's own transaction, such as deliveries, caches and
 * metrics of record, is a duty here. A duty gets the rows of all logs in one order, each at least once, whatever dies in
 * between. Each duty has its own cursor in the database, leased to one replica that lives, so that one which fails holds up
 * no other; a replica that dies is followed by another within a lease.
 *
 * A duty must bear repetition. A replica that was declared dead while it was only slow may hand on a batch that its
 * successor has handed on already, and even later than that; what it cannot do is move the cursor. A duty whose work is in this
 * database moves its cursor in the transaction of its work: then each batch is done once.
 */
import type { Logger } from "pino";
import type {
  OutboxLag,
  OutboxPage,
  OutboxPosition,
  OutboxRepository,
  OutboxRow,
  OutboxTopic,
} from "../../store/outbox-repository.ts";
import { whenDatabaseAnswers } from "../database-away.ts";
import { backoffMs, type Runtime } from "../runtime.ts";
import type { UpdateHub } from "../update-hub.ts";
import { type Alarm, createAlarm } from "./alarm.ts";

/** How often a duty looks although nothing was heard, and whether another replica's cursor has become free. */
const POLL_MS = 1_000;
/** Shortest pause between two looks of a duty that names none, unless there is a backlog. */
const REST_MS = 20;
/** Longest time for which a cursor stays unwritten while it only passes rows that its duty does not want. */
const UNWRITTEN_MS = 200;
const RETRY_BASE_MS = 100;
const RETRY_MAX_MS = 30_000;
/** A batch has at most so many rows, and about so many bytes; one row may have more. */
const BATCH = { rows: 1_000, bytes: 4 * 1024 * 1024 };

export interface Duty {
  /** The name of its cursor, for ever. A name that is new begins at the present end of the logs. */
  readonly name: string;
  readonly topic: OutboxTopic;
  /** Shortest pause between two looks, in milliseconds: what is committed meanwhile is read together. 20 unless told. */
  readonly restMs?: number;
  /**
   * Does what follows from a batch. When it resolves, the batch is behind it; when it rejects, it gets the batch again after
   * a pause, perhaps with more rows. No transaction is open meanwhile. `signal` aborts when the server stops.
   *
   * A duty that must not repeat moves its cursor itself, by `place` and in the transaction that does what follows. It resolves to true
   * when it has, and to false when the cursor is not where `place` has it, or another's: then nothing may have followed.
   */
  handle(rows: readonly OutboxRow[], signal: AbortSignal, place: DutyPlace): Promise<unknown>;
}

/** Where a duty is when a batch is behind it, and its right to move there. */
export interface DutyPlace {
  readonly fence: number;
  /** Where the cursor stands in the database. It is elsewhere after a move whose answer was lost, and one that a crash undid. */
  readonly from: OutboxPosition;
  readonly position: OutboxPosition;
}

export interface OutboxDeps {
  duties: readonly Duty[];
  /** Names of duties that nobody does here. Left out, there are none. */
  idle?: readonly string[];
  repository: OutboxRepository;
  hub: Pick<UpdateHub, "onCommit" | "onHint">;
  runtime: Runtime;
  log: Logger;
  /** Who reads. Asked again and again: a replica that was declared dead goes on under another id. */
  replicaId: () => string;
  /** Bounds of a batch; 1,000 rows and 4 MiB unless told. */
  batch?: { rows: number; bytes: number };
}

export interface Outbox {
  /** How far each duty is behind, wherever it is read. */
  lag(): Promise<OutboxLag[]>;
  /** Gives up what is under way, waits for it, and gives the cursors back. */
  stop(): Promise<void>;
}

/** Resolves when every duty has its cursor: what is committed from then on reaches them all. */
export async function startOutbox(deps: OutboxDeps): Promise<Outbox> {
  const { duties, idle = [], repository, hub } = deps;
  for (const name of idle) await repository.leave(name);
  for (const { name } of duties) await repository.enter(name);
  const stop = new AbortController();
  const readers = duties.map((duty) => {
    const alarm = createAlarm();
    return { alarm, done: serve(deps, duty, alarm, stop.signal) };
  });
  const wake = () => {
    for (const { alarm } of readers) alarm.ring();
  };
  const unsubscribe = [hub.onCommit(wake), hub.onHint(wake)];
  const names = duties.map(({ name }) => name);
  return {
    lag: () => repository.lag(names),
    async stop() {
      for (const leave of unsubscribe) leave();
      stop.abort();
      await Promise.all(readers.map(({ done }) => done));
    },
  };
}

/** A cursor in the hands of this replica. */
interface Held {
  /** The id under which it was leased. */
  replicaId: string;
  fence: number;
  /** Up to where the duty is done. */
  position: OutboxPosition;
  /** Where the cursor stands in the database, as far as this replica knows. */
  written: OutboxPosition;
  /** When the cursor in the database fell behind `position`, in milliseconds; undefined while it has not. */
  unwrittenSince: number | undefined;
}

/** Reads for one duty until the signal aborts. Never rejects. */
async function serve(deps: OutboxDeps, duty: Duty, alarm: Alarm, signal: AbortSignal): Promise<void> {
  const { repository, runtime, log, batch = BATCH } = deps;
  const query = <T>(work: () => Promise<T>): Promise<T> => whenDatabaseAnswers(runtime, signal, work);
  const now = () => runtime.elapsedMs();
  let held: Held | undefined;
  let failures = 0;
  /** Looks in a row that found only what a running transaction holds back. */
  let vain = 0;

  async function take(): Promise<Held | undefined> {
    const replicaId = deps.replicaId();
    const lease = await query(() => repository.take(duty.name, replicaId));
    return lease && { ...lease, written: lease.position, replicaId, unwrittenSince: undefined };
  }

  /** Does the next batch. Undefined when the cursor turns out to be another's. */
  async function step(cursor: Held): Promise<OutboxPage | undefined> {
    const page = await query(() => repository.read(duty.topic, cursor.position, batch));
    const place = { fence: cursor.fence, from: cursor.written, position: page.position };
    const moved = page.rows.length > 0 ? await duty.handle(page.rows, signal, place) : undefined;
    if (moved === false) return undefined;
    vain = page.held && page.position === cursor.position ? vain + 1 : 0;
    if (page.position !== cursor.position) cursor.unwrittenSince ??= now();
    cursor.position = page.position;
    if (moved === true) {
      cursor.written = cursor.position;
      cursor.unwrittenSince = undefined;
      return page;
    }
    const overdue = cursor.unwrittenSince !== undefined && now() - cursor.unwrittenSince >= UNWRITTEN_MS;
    if (page.rows.length === 0 && !overdue) return page;
    const advanced = await query(() => repository.advance(duty.name, cursor.fence, cursor.position, cursor.written));
    cursor.written = cursor.position;
    cursor.unwrittenSince = undefined;
    return advanced ? page : undefined;
  }

  async function rest(cursor: Held, { more, held: waiting }: OutboxPage): Promise<void> {
    if (more) return;
    await runtime.wait(duty.restMs ?? REST_MS, signal);
    // What a transaction held back appears without a word: look again soon, then less and less often.
    const pause = waiting ? REST_MS * 2 ** vain : POLL_MS;
    await alarm.sleep(Math.min(pause, cursor.unwrittenSince === undefined ? POLL_MS : UNWRITTEN_MS), signal);
  }

  while (!signal.aborted) {
    try {
      if (held?.replicaId !== deps.replicaId()) held = await take();
      if (held) {
        const page = await step(held);
        failures = 0;
        if (page) await rest(held, page);
        else held = undefined;
      } else {
        await runtime.wait(POLL_MS, signal);
      }
    } catch (error) {
      if (signal.aborted) break;
      log.warn({ err: error, duty: duty.name, failures: ++failures }, "a duty of the outbox failed; trying again");
      const pause = backoffMs(failures - 1, RETRY_BASE_MS, RETRY_MAX_MS, runtime.random);
      await runtime.wait(pause, signal).catch(() => {});
    }
  }
  if (held) await giveBack(deps, duty, held);
}

/** So that another need not wait until this replica is known to be gone. Best effort. */
async function giveBack({ repository, log }: OutboxDeps, duty: Duty, held: Held): Promise<void> {
  try {
    if (held.unwrittenSince !== undefined) await repository.advance(duty.name, held.fence, held.position, held.written);
    await repository.release(duty.name, held.fence);
  } catch (error) {
    log.debug({ err: error, duty: duty.name }, "a cursor of the outbox was not given back");
  }
}
