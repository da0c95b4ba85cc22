/**
 * A reader of one task's log with a cursor of its own: it gets every update after the cursor once, in order, whoever wrote
 * it. It sleeps until the hub tells it something: rows that follow its own it takes as they are, and for anything else it
 * reads the log. A hint that is lost costs it time alone, because the slow poll (background/slow-poll.ts) tells the hub how
 * far each watched log has come. Slow readers hold at most `BUFFER` updates in memory; beyond that they read the log, and
 * wait for the database where it is away.
 */
import { taskNotFound } from "../domain/errors.ts";
import type { TaskUpdate } from "../domain/task-log.ts";
import type { TaskStore } from "../store/task-store.ts";
import { whenDatabaseAnswers } from "./database-away.ts";
import type { Runtime } from "./runtime.ts";
import { type Commit, REMOVED, type TaskListener, type UpdateHub } from "./update-hub.ts";

/** Updates that one watcher holds at most. */
const BUFFER = 256;

const NO_ROWS: readonly TaskUpdate[] = [];

export interface WatchDeps {
  store: TaskStore;
  hub: UpdateHub;
  runtime: Runtime;
}

export interface WatchOptions {
  workspaceId: string;
  taskId: string;
  /** The first update is the one after this number. */
  after: number;
  /** True when nothing after `after` can be in the log yet, nor perhaps the task itself: spares the first read. */
  fresh?: boolean;
  /** Ends the watch by throwing the signal's reason. */
  signal: AbortSignal;
}

/**
 * Listens at once, before the first `next()`, so that nothing is missed between a read and a watch. The caller ends it
 * with `end()` (or by leaving its `for await`); it never ends by itself.
 */
export function watchTask(deps: WatchDeps, options: WatchOptions): TaskWatch {
  return new TaskWatch(deps, options);
}

type Next = IteratorResult<TaskUpdate, never>;

/** Only a reader that left, or that asks after the end, meets it. */
const OVER = { done: true, value: undefined as never } as const;

/** For one reader, which asks again when it has its answer. */
export class TaskWatch implements AsyncIterableIterator<TaskUpdate, never, void>, TaskListener {
  readonly #deps: WatchDeps;
  readonly #workspaceId: string;
  readonly #taskId: string;
  readonly #signal: AbortSignal;
  readonly #unsubscribe: () => void;
  #ended = false;
  #cursor: number;
  /** Rows of the log that were read and not yet given. */
  #read = NO_ROWS;
  #given = 0;
  /** Rows that the hub has told of, and how many of them were looked at. */
  #heard: TaskUpdate[] = [];
  #seen = 0;
  #mustRead: boolean;
  /** Whether the task may yet have to be stored. */
  #isNew: boolean;
  /** The greatest number hinted at since the log was last read. Most hints tell what is known by then. */
  #hinted = 0;
  /** Wakes the reader, if it sleeps. */
  #wake: (() => void) | undefined;

  constructor(deps: WatchDeps, { workspaceId, taskId, after, fresh = false, signal }: WatchOptions) {
    this.#deps = deps;
    this.#workspaceId = workspaceId;
    this.#taskId = taskId;
    this.#signal = signal;
    this.#cursor = after;
    this.#mustRead = !fresh;
    this.#isNew = fresh;
    this.#unsubscribe = deps.hub.subscribe(workspaceId, taskId, this);
    if (signal.aborted) this.#unsubscribe();
    else signal.addEventListener("abort", this);
  }

  /** The next update, if it is known by now. Undefined: `news()` tells when to ask again. */
  take(): TaskUpdate | undefined {
    if (this.#ended || this.#signal.aborted) return undefined;
    if (this.#given < this.#read.length) {
      const row = this.#read[this.#given++]!;
      this.#cursor = row.seq;
      return row;
    }
    this.#read = NO_ROWS;
    this.#given = 0;
    if (this.#mustRead) return undefined;
    while (this.#seen < this.#heard.length) {
      const update = this.#heard[this.#seen++]!;
      if (update.seq <= this.#cursor) continue;
      if (update.seq !== this.#cursor + 1) {
        this.#forget();
        return undefined;
      }
      this.#cursor = update.seq;
      return update;
    }
    this.#heard.length = 0;
    this.#seen = 0;
    return undefined;
  }

  /**
   * Resolves when there may be something to take, and when the watch has ended. Rejects with the signal's reason, and with
   * TaskNotFound when the task was removed.
   */
  news(): Promise<void> {
    if (this.#signal.aborted) return Promise.reject(this.#signal.reason);
    if (this.#mustRead || this.#hinted > this.#cursor) return this.#readLog();
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  async next(): Promise<Next> {
    while (!this.#ended) {
      const value = this.take();
      if (value) return { done: false, value };
      try {
        await this.news();
      } catch (error) {
        // Who has left asks for no reason.
        if (this.#ended) break;
        this.end();
        throw error;
      }
    }
    return OVER;
  }

  /** The task of a fresh watch is stored: if it is missing from now on, it was removed. */
  taskIsStored(): void {
    this.#isNew = false;
  }

  /** Ends the watch. A reader that sleeps is told that there is nothing more. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#unsubscribe();
    this.#signal.removeEventListener("abort", this);
    this.#rouse();
  }

  return(_value?: never): Promise<Next> {
    this.end();
    return Promise.resolve(OVER);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** For the hub. */
  onCommit({ updates }: Commit): void {
    if (this.#heard.length + updates.length > BUFFER) {
      this.#heard.splice(0, this.#seen);
      this.#seen = 0;
    }
    if (this.#heard.length + updates.length > BUFFER) this.#forget();
    else for (const update of updates) this.#heard.push(update);
    this.#rouse();
  }

  /** For the hub. */
  onHint(seq: number): void {
    if (seq === REMOVED) this.#mustRead = true;
    else if (seq <= Math.max(this.#hinted, this.#cursor)) return;
    else this.#hinted = seq;
    this.#rouse();
  }

  /** For the signal: the reader meets its reason. */
  handleEvent(): void {
    this.#unsubscribe();
    this.#rouse();
  }

  async #readLog(): Promise<void> {
    this.#mustRead = false;
    const asked = this.#hinted;
    const { store, runtime } = this.#deps;
    const { updates, more, gone } = await whenDatabaseAnswers(runtime, this.#signal, () =>
      store.readUpdates(this.#workspaceId, this.#taskId, this.#cursor, BUFFER),
    );
    if (gone && !this.#isNew) throw taskNotFound(this.#taskId);
    if (more) this.#mustRead = true;
    // Whatever the hint said: what was committed before it was in the log that was read.
    if (this.#hinted === asked) this.#hinted = 0;
    this.#read = updates;
    this.#given = 0;
  }

  /** What was heard does not follow what is known: the log tells. */
  #forget(): void {
    this.#heard = [];
    this.#seen = 0;
    this.#mustRead = true;
  }

  #rouse(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
