/**
 * The one writer of one task in this process: it knows the task as it stands, appends to its log and tells the hub. Other
 * writers may exist for moments (a cancel beside a running agent); the number that each append expects keeps them apart.
 */
import { equals } from "@bufbuild/protobuf";
import { StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { SignalboxError } from "../domain/errors.ts";
import { applyUpdate, foldTask, type NewUpdate, stateOf, type TaskImage, type TaskUpdate } from "../domain/task-log.ts";
import { isTerminal } from "../domain/task-state.ts";
import type { TaskStore } from "../store/task-store.ts";
import { backoffMs, type Runtime } from "./runtime.ts";
import type { UpdateHub } from "./update-hub.ts";

export interface AppendOptions {
  /** The task stays hidden from Get and List; refused when it was disclosed meanwhile. Otherwise it is disclosed. */
  hidden?: boolean;
  /** Throws when the database is away instead of waiting for it. What became of the append is then unknown. */
  once?: boolean;
  upstreamTaskId?: string;
  upstreamContextId?: string;
}

/**
 * - `stored`: the updates are durable, or there were none to store.
 * - `ended`: the task has ended; nothing was stored.
 * - `disclosed`: the append wanted the task hidden, and it no longer is.
 */
export type AppendOutcome = "stored" | "ended" | "disclosed";

export interface TaskWriter {
  /** The task as this writer knows it. */
  readonly image: TaskImage;
  /**
   * Stores what `make` makes of the image. `make` is called again when another writer was faster. Waits for a database
   * that is away as long as `signal` lets it.
   */
  append(
    make: (image: TaskImage) => readonly NewUpdate[],
    options: AppendOptions,
    signal: AbortSignal,
  ): Promise<AppendOutcome>;
  /** Reads the task anew, waiting for the database as long as `signal` lets it. */
  refresh(signal: AbortSignal): Promise<void>;
}

interface WriterDeps {
  store: TaskStore;
  hub: UpdateHub;
  runtime: Runtime;
}

export function createTaskWriter(deps: WriterDeps, initial: TaskImage): TaskWriter {
  let image = initial;
  // Appends of one task go one after another: each builds on the image that the one before left.
  let last: Promise<unknown> = Promise.resolve();

  const { workspaceId, taskId, agentId } = initial.header;

  /** Reads the log anew and tells the hub what it did not know. Returns the rows that are new to this writer. */
  async function reload(): Promise<readonly TaskUpdate[]> {
    const stored = await deps.store.load(workspaceId, taskId);
    if (!stored) throw new Error(`task ${taskId} is gone from the database`);
    const news = stored.updates.slice(image.seq);
    image = foldTask(stored.header, stored.updates);
    if (news.length > 0)
      deps.hub.publish({ workspaceId, taskId, agentId, updates: news, hasPush: stored.header.hasPush });
    return news;
  }

  async function appendNow(
    make: (image: TaskImage) => readonly NewUpdate[],
    options: AppendOptions,
    signal: AbortSignal,
  ): Promise<AppendOutcome> {
    let made: { after: number; updates: readonly NewUpdate[] } | undefined;
    // Whether an answer was lost. The append may then be stored, or even be stored later, when it was tried again.
    let inDoubt = false;
    for (let attempt = 0; ; ) {
      signal.throwIfAborted();
      if (isTerminal(stateOf(image))) return "ended";
      const { header } = image;
      if (options.hidden && header.disclosed) return "disclosed";
      if (made?.after !== image.seq) made = { after: image.seq, updates: make(image) };
      const { updates } = made;
      const disclose = !options.hidden;
      const learns =
        (options.upstreamTaskId !== undefined && options.upstreamTaskId !== header.upstreamTaskId) ||
        (options.upstreamContextId !== undefined && options.upstreamContextId !== header.upstreamContextId);
      if (updates.length === 0 && !learns && (!disclose || header.disclosed)) return "stored";
      try {
        const done = await deps.store.append({
          workspaceId,
          taskId,
          expectedSeq: image.seq,
          updates,
          at: deps.runtime.now(),
          disclose,
          onlyIfHidden: options.hidden ?? false,
          ...(options.upstreamTaskId !== undefined && { upstreamTaskId: options.upstreamTaskId }),
          ...(options.upstreamContextId !== undefined && { upstreamContextId: options.upstreamContextId }),
        });
        if (!done) {
          const news = await reload();
          if (inDoubt && holds(news, updates)) return "stored";
          continue;
        }
        header.disclosed = done.disclosed;
        header.hasPush = done.hasPush;
        header.upstreamTaskId = options.upstreamTaskId ?? header.upstreamTaskId;
        header.upstreamContextId = options.upstreamContextId ?? header.upstreamContextId;
        const numbered = updates.map((update, i) => ({ ...update, seq: image.seq + 1 + i }));
        for (const update of numbered) applyUpdate(image, update);
        if (numbered.length > 0)
          deps.hub.publish({ workspaceId, taskId, agentId, updates: numbered, hasPush: done.hasPush });
        return "stored";
      } catch (error) {
        if (options.once || !isTransient(error)) throw error;
        inDoubt = true;
        await deps.runtime.wait(backoffMs(attempt++, 100, 5_000, deps.runtime.random), signal);
        const news = await reload().catch((failure: unknown) => {
          if (!isTransient(failure)) throw failure;
          return undefined;
        });
        if (news && holds(news, updates)) return "stored";
      }
    }
  }

  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = last.then(work);
    last = turn.catch(() => {});
    return turn;
  }

  return {
    get image() {
      return image;
    },
    append: (make, options, signal) => inTurn(() => appendNow(make, options, signal)),
    refresh: (signal) => inTurn(() => whenDatabaseAnswers(deps.runtime, signal, async () => void (await reload()))),
  };
}

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
function isTransient(error: unknown): boolean {
  return error instanceof SignalboxError && (error.reason === "DATABASE_UNAVAILABLE" || error.reason === "QUEUE_FULL");
}

/** Whether `stored` begins with these updates: what is stored already must not be stored twice. */
function holds(stored: readonly TaskUpdate[], updates: readonly NewUpdate[]): boolean {
  if (updates.length === 0) return false;
  return updates.every((update, i) => {
    const row = stored[i];
    return row !== undefined && row.kind === update.kind && equals(StreamResponseSchema, row.body, update.body);
  });
}
