/**
 * This replica's slices of limits that hold across replicas. Units are taken and given back in memory as long as the slice
 * has any; only when it is used up, or others want of it, the database is asked, for all slices that have something to say at
 * that moment in one transaction. What a unit is, a task at once or a millionth of a budget, is the business of whoever takes it.
 */
import type { Logger } from "pino";
import type { SliceAsk } from "../domain/allotment.ts";
import type { AllotmentRepository, Allotted, LimitKey } from "../store/allotment-repository.ts";
import { createGroupCommit } from "../store/group-commit.ts";
import { type Alarm, createAlarm } from "./background/alarm.ts";
import type { Runtime } from "./runtime.ts";

/** How often it looks after its slices, in milliseconds. What others want of them it is told sooner. */
const UPKEEP_MS = 1_000;
/** Shortest pause between two such looks, however often they are asked for, in milliseconds. */
const REST_MS = 100;
/** What was idle for so long is given back, in milliseconds. */
const IDLE_MS = 5_000;
/** How long the slices of a dead replica count after the last of its tasks was rescued, in milliseconds. */
const GRACE_MS = 2_000;
/** Slices in one transaction at most, and those that may wait for one. */
const BATCH = 200;
const MOST_WAITING = 100_000;

export interface AllotmentsDeps {
  repository: AllotmentRepository;
  replicaId: () => string;
  /** A limit as it is now; undefined when there is none any more. */
  limitOf: (limit: LimitKey) => Promise<number | undefined>;
  /** Told that other replicas may find units of a limit now, or are asked to give some back. */
  announce: () => void;
  /** Told that there may be units where there were none. */
  onRoom: () => void;
  runtime: Runtime;
  log: Logger;
}

export interface Allotments {
  /** This replica's slice of a limit, which is `limit` units now. To be used at once, not to be kept while it holds nothing. */
  slice(key: LimitKey, limit: number): Slice;
  /** Another replica may have given something back, or want something. */
  heed(): void;
  /** Units in the slices of this replica, and those of them in use. */
  totals(): { granted: number; held: number };
  /** Forgets all slices: this replica was declared dead, and what it had is counted no longer. */
  reset(): void;
  start(): void;
  /** Gives back what is idle. What is in use counts on until whoever takes the work over has had it counted. */
  stop(): Promise<void>;
}

/** A replica's slice of one limit. */
export interface Slice {
  /** What all slices together may have. */
  readonly limit: number;
  /** Units that can be taken at once. */
  readonly idle: number;
  /** Whether none can be taken, and the database has just said that there are no more. */
  readonly isExhausted: boolean;
  /** Takes units that are idle. False when there are not so many. */
  take(units: number): boolean;
  /** The same, but asks the database for more. Rejects as that does. */
  ask(units: number): Promise<boolean>;
  /** Takes units whether there are any or not: what they stand for goes on already. Nobody gets new ones until they are back. */
  force(units: number): void;
  giveBack(units: number): void;
}

export function createAllotments(deps: AllotmentsDeps): Allotments {
  const { repository, replicaId, runtime, log } = deps;
  const slices = new Map<string, LimitSlice>();
  const stop = new AbortController();
  const alarm: Alarm = createAlarm();
  let surplusAt = runtime.elapsedMs();

  const commits = createGroupCommit<LimitSlice, void>({
    name: "allotment",
    maxBatch: BATCH,
    maxWaiting: MOST_WAITING,
    async flush(batch) {
      await settle(batch.filter(({ hasLeft }) => !hasLeft));
      return batch.map(() => undefined);
    },
  });

  async function settle(batch: readonly LimitSlice[]): Promise<void> {
    if (batch.length === 0) return;
    const asks = batch.map((slice) => slice.question());
    try {
      const answers = await repository.settle(replicaId(), asks);
      for (const [i, slice] of batch.entries()) slice.answer(asks[i]!, answers[i]!);
    } catch (error) {
      for (const [i, slice] of batch.entries()) slice.failed(asks[i]!);
      throw error;
    }
  }

  const book: Book = {
    settle: (slice) => commits.submit(slice),
    announce: deps.announce,
    onFailure: (err) => log.debug({ err }, "the slice of a limit could not be settled; it will be tried again"),
  };

  async function lookAfter(): Promise<void> {
    const now = runtime.elapsedMs();
    const hasSurplus = now - surplusAt >= IDLE_MS;
    if (hasSurplus) surplusAt = now;
    await Promise.all(
      [...slices].map(async ([name, slice]) => {
        await slice.lookAfter(await deps.limitOf(slice.limitKey), hasSurplus);
        if (slice.isEmpty && slices.get(name) === slice) slices.delete(name);
      }),
    );
    if (slices.size === 0) return;
    await repository.sweep(GRACE_MS);
    deps.onRoom();
  }

  async function keepLooking(): Promise<void> {
    while (!stop.signal.aborted) {
      try {
        await alarm.sleep(UPKEEP_MS, stop.signal);
        if (slices.size > 0) await lookAfter();
        await runtime.wait(REST_MS, stop.signal);
      } catch (err) {
        if (!stop.signal.aborted) log.debug({ err }, "the slices of limits could not be looked after");
      }
    }
  }

  let kept = Promise.resolve();
  return {
    slice(key, limit) {
      const name = `${key.workspaceId} ${key.key}`;
      let slice = slices.get(name);
      if (!slice) {
        slice = new LimitSlice(key, limit, book);
        slices.set(name, slice);
      } else slice.setLimit(limit);
      return slice;
    },
    heed() {
      if (slices.size === 0) return;
      for (const slice of slices.values()) slice.hope();
      alarm.ring();
    },
    totals() {
      let [granted, held] = [0, 0];
      for (const slice of slices.values()) {
        granted += slice.granted;
        held += slice.held;
      }
      return { granted, held };
    },
    reset() {
      for (const slice of slices.values()) slice.leave();
      slices.clear();
    },
    start() {
      kept = keepLooking();
    },
    async stop() {
      stop.abort();
      await kept;
      await Promise.all([...slices.values()].map((slice) => slice.giveBackIdle()));
      for (const slice of slices.values()) slice.leave();
      await commits.close();
    },
  };
}

/** What a slice asks of those who keep it. */
interface Book {
  settle(slice: LimitSlice): Promise<void>;
  announce(): void;
  onFailure(error: unknown): void;
}

class LimitSlice implements Slice {
  readonly limitKey: LimitKey;
  limit: number;
  granted = 0;
  held = 0;
  /** Whether nothing is told to the database any more. */
  hasLeft = false;
  readonly #book: Book;
  /** Units that are waited for. */
  #waiting = 0;
  /** The next settlement, as long as it has not begun. */
  #next: Promise<void> | undefined;
  /** Whether one is under way: until it ends, nothing idle may be used, because it may be given back. */
  #isSettling = false;
  /** Whether all slices together are more than the limit. */
  #isOver = false;
  #isExhausted = false;
  /** Whether somebody was refused since it was last looked after. */
  #wasRefused = false;
  /** What the database has written down as wanted. */
  #wanted = 0;
  /** Whether what the database has of it may be something else than what it should. */
  #isInDoubt = false;
  /** The fewest units that were idle since the surplus was last looked at. */
  #leastIdle = 0;
  /** Units to give back with the next settlement, if they are still idle. */
  #surplus = 0;

  constructor(limitKey: LimitKey, limit: number, book: Book) {
    this.limitKey = limitKey;
    this.limit = limit;
    this.#book = book;
  }

  get idle(): number {
    return this.#isSettling || this.#isOver ? 0 : Math.max(0, Math.min(this.granted, this.limit) - this.held);
  }

  get isExhausted(): boolean {
    return this.#isExhausted && this.idle === 0;
  }

  get isEmpty(): boolean {
    return this.granted === 0 && this.held === 0 && this.#waiting === 0 && this.#wanted === 0 && !this.#isBusy;
  }

  get #isBusy(): boolean {
    return this.#isSettling || this.#next !== undefined;
  }

  setLimit(limit: number): void {
    if (limit === this.limit) return;
    if (limit > this.limit) this.#isExhausted = false;
    this.limit = limit;
    this.#settleBeside();
  }

  take(units: number): boolean {
    if (this.idle < units || this.hasLeft) return false;
    this.#hold(units);
    return true;
  }

  async ask(units: number): Promise<boolean> {
    if (this.take(units)) return true;
    if (this.hasLeft) return false;
    if (this.#isExhausted) {
      this.#wasRefused = true;
      return false;
    }
    this.#waiting += units;
    try {
      await this.#settle();
    } finally {
      this.#waiting -= units;
    }
    const taken = this.take(units);
    if (!taken) this.#isExhausted = this.#wasRefused = true;
    return taken;
  }

  force(units: number): void {
    this.#hold(units);
    if (this.held > this.granted) this.#settleBeside();
  }

  giveBack(units: number): void {
    this.held -= units;
    this.#isExhausted = false;
    if (this.#isOver) this.#settleBeside();
  }

  /** There may be more than the database said. */
  hope(): void {
    this.#isExhausted = false;
  }

  leave(): void {
    this.hasLeft = true;
  }

  /** Settles what is to be settled, and gives back what others want, or what was idle for long when `hasSurplus` asks for that. */
  async lookAfter(limit: number | undefined, hasSurplus: boolean): Promise<void> {
    const { idle } = this;
    if (limit === undefined) this.#surplus = this.granted;
    else this.setLimit(limit);
    if (hasSurplus) {
      this.#surplus = Math.max(this.#surplus, Math.min(this.#leastIdle, idle));
      this.#leastIdle = idle;
    }
    const wantsNoMore = this.#wanted > 0 && !this.#wasRefused;
    this.#isExhausted = this.#wasRefused = false;
    const isAmiss = this.#isOver || this.#isInDoubt || this.held > this.granted;
    if (idle > 0 || wantsNoMore || isAmiss) await this.#settle();
  }

  async giveBackIdle(): Promise<void> {
    this.#surplus = this.granted;
    if (this.granted > this.held || this.#wanted > 0) await this.#settle().catch(this.#book.onFailure);
  }

  // --- a settlement

  /** What is asked for. From here to the answer nothing idle is used. */
  question(): LimitKey & SliceAsk {
    this.#next = undefined;
    this.#isSettling = true;
    const keep = Math.max(this.held, this.granted - this.#surplus);
    this.#surplus = 0;
    return { ...this.limitKey, limit: this.limit, held: this.held, keep, need: this.held + this.#waiting };
  }

  answer({ limit, need }: SliceAsk, { granted, others }: Allotted): void {
    const gave = granted < this.granted && others.wanted > 0;
    const wanted = Math.max(0, need - granted);
    const wantsMore = wanted > 0 && this.#wanted === 0;
    this.granted = granted;
    this.#wanted = wanted;
    this.#isOver = granted + others.granted > limit;
    this.#isSettling = this.#isInDoubt = false;
    this.#leastIdle = Math.min(this.#leastIdle, this.idle);
    if (gave || wantsMore) this.#book.announce();
    if (this.held > granted) this.#settleBeside();
  }

  /** Nobody knows what the database has. It is at least what was held, whichever of the two it is. */
  failed({ held }: SliceAsk): void {
    this.granted = Math.min(this.granted, held);
    this.#isSettling = false;
    this.#isInDoubt = true;
  }

  #settle(): Promise<void> {
    if (this.hasLeft) return Promise.resolve();
    if (this.#next) return this.#next;
    const next = this.#book.settle(this);
    this.#next = next;
    // One that was refused never began.
    next.catch(() => {
      if (this.#next === next) this.#next = undefined;
    });
    return next;
  }

  #settleBeside(): void {
    if (!this.hasLeft) this.#settle().catch(this.#book.onFailure);
  }

  #hold(units: number): void {
    this.held += units;
    this.#leastIdle = Math.min(this.#leastIdle, this.idle);
  }
}
