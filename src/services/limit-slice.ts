/** What one replica has of one limit: units that are in use, and idle ones from which it serves what comes. */
import type { SliceAsk } from "../domain/allotment.ts";
import type { Allotted, LimitKey } from "../store/allotment-repository.ts";

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
  /** There may be more than the database said. */
  hope(): void;
}

/** What a slice asks of those who keep it. */
export interface Book {
  settle(slice: LimitSlice): Promise<void>;
  announce(): void;
  onFailure(error: unknown): void;
}

export class LimitSlice implements Slice {
  readonly limitKey: LimitKey;
  limit: number;
  granted = 0;
  held = 0;
  /** Whether nothing is told to the database any more. */
  hasLeft = false;
  /** When somebody last asked for it, by the clock that counts milliseconds. */
  askedMs = 0;
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
  /** Units that were given back past this slice, in all, as the database has last told; undefined before it has. */
  #returned: number | undefined;
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

  /** Whether nobody waits for units, and none is idle. */
  get isAtRest(): boolean {
    return this.idle === 0 && this.#waiting === 0 && !this.#isBusy;
  }

  get isEmpty(): boolean {
    return this.granted === 0 && this.held === 0 && this.#wanted === 0 && this.isAtRest;
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

  hope(): void {
    this.#isExhausted = false;
  }

  leave(): void {
    this.hasLeft = true;
  }

  /**
   * Settles what is to be settled, and gives back what others want, or what was idle for long when `hasSurplus` asks for that.
   * `isWanted`: whether others do; undefined where nobody knows. Where they do, units may have come back past it of which it has not
   * heard: it asks.
   */
  async lookAfter(limit: number | undefined, hasSurplus: boolean, isWanted?: boolean): Promise<void> {
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
    const gives = (idle > 0 && (isWanted !== false || this.#surplus > 0)) || (this.held > 0 && isWanted === true);
    if (gives || wantsNoMore || isAmiss) await this.#settle();
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
    // No more than the limit is ever to be had, however many ask for how much at the same moment.
    const need = this.held + Math.min(this.#waiting, this.limit);
    return { ...this.limitKey, limit: this.limit, held: this.held, keep, need, returned: this.#returned };
  }

  answer({ limit, need }: SliceAsk, { granted, others, returned = 0, standing = 0 }: Allotted): void {
    const gave = granted < this.granted && others.wanted > 0;
    // What an earlier slice of this replica has used of the same limit is used.
    const back = this.#returned === undefined ? -standing : returned - this.#returned;
    this.#returned = returned;
    this.held -= back;
    const wanted = Math.max(0, need - back - granted);
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
