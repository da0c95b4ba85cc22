/** What one writer has to do, one piece of work after another, and how long an append may wait for more of its kind. */
import {
  type AppendOptions,
  type AppendOutcome,
  type AppendWork,
  type MakeUpdates,
  MOST_JOINED,
  type Turn,
} from "./task-append.ts";

export class WriterTurns {
  /** What waits for its turn. An append that is written may take others from the front. */
  readonly waiting: Turn[] = [];
  readonly #gatherMs: number;
  readonly #write: (head: AppendWork) => Promise<void>;
  #isBusy = false;
  /** Whether something waits that must not wait for more. */
  #hurries = false;
  #timer: NodeJS.Timeout | undefined;

  /** `gatherMs` as of WriterDeps; `write` writes an append, and settles it whatever comes. */
  constructor(gatherMs: number, write: (head: AppendWork) => Promise<void>) {
    this.#gatherMs = gatherMs;
    this.#write = write;
  }

  append(make: MakeUpdates, options: AppendOptions, signal: AbortSignal): Promise<AppendOutcome> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ make, options, signal, resolve, reject });
      if (options.gather !== "chunk" || this.waiting.length >= MOST_JOINED) this.#hurry();
      else this.#timer ??= setTimeout(() => this.#hurry(), this.#gatherMs);
    });
  }

  /** Does something else when its turn has come. */
  take(job: () => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting.push(() => job().then(resolve, reject));
      this.#hurry();
    });
  }

  /** Puts back what was taken from the front, while an append is written: it has its turn after that. */
  putBack(works: readonly AppendWork[]): void {
    this.waiting.unshift(...works);
    this.#hurries = true;
  }

  /** Where nothing waits, what comes next may wait. */
  rest(): void {
    if (this.waiting.length > 0) return;
    this.#hurries = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #hurry(): void {
    this.#hurries = true;
    if (!this.#isBusy) void this.#takeTurns();
  }

  async #takeTurns(): Promise<void> {
    this.#isBusy = true;
    while (this.#hurries) {
      const turn = this.waiting.shift();
      this.rest();
      if (typeof turn === "function") await turn();
      else if (turn) await this.#write(turn);
    }
    this.#isBusy = false;
  }
}
