/**
 * The one writer of one task in this process: it knows the task as it stands, appends to its log under its fencing token and
 * tells the hub. Chunks that come in quick succession are written together, each under its own number.
 */
import { equals } from "@bufbuild/protobuf";
import { StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { SignalboxError } from "../domain/errors.ts";
import { applyUpdate, foldTask, type NewUpdate, stateOf, type TaskImage, type TaskUpdate } from "../domain/task-log.ts";
import { isLeased, isTerminal } from "../domain/task-state.ts";
import type { TaskStore } from "../store/task-store.ts";
import { createGatherer, type Gather } from "./gatherer.ts";
import { backoffMs, type Runtime } from "./runtime.ts";
import type { UpdateHub } from "./update-hub.ts";

export interface AppendOptions {
  /**
   * True: the task stays hidden from Get and List; refused when it was disclosed meanwhile. "either": it stays as it is.
   * Otherwise it is disclosed.
   */
  hidden?: boolean | "either";
  /** Throws when the database is away instead of waiting for it. What became of the append is then unknown. */
  once?: boolean;
  /** Takes the task over from whoever has it. Without it, an append to a task that another has taken throws LeaseLostError. */
  take?: boolean;
  /** For a state in which nobody has the task: when a replica should claim it, in milliseconds from now. */
  wakeInMs?: number;
  upstreamTaskId?: string;
  upstreamContextId?: string;
  /** Forgets what the agent calls the task, because it will be asked anew. */
  forgetUpstream?: boolean;
  /** Whether it may be written together with its neighbours. Its updates must not depend on what they change. */
  gather?: Gather;
}

/**
 * - `stored`: the updates are durable, or there were none to store.
 * - `ended`: the task has ended; nothing was stored.
 * - `disclosed`: the append wanted the task hidden, and it no longer is.
 */
export type AppendOutcome = "stored" | "ended" | "disclosed";

/** Another replica, or another writer here, has taken the task over: this one must not write any more. */
export class LeaseLostError extends Error {
  constructor(taskId: string) {
    super(`task ${taskId} was taken over`);
    this.name = "LeaseLostError";
  }
}

export interface TaskWriter {
  /** The task as this writer knows it. */
  readonly image: TaskImage;
  /**
   * Stores what `make` makes of the image. `make` is called again when another writer was faster. Waits for a database
   * that is away as long as `signal` lets it.
   *
   * @throws LeaseLostError when the task is another's.
   */
  append(make: MakeUpdates, options: AppendOptions, signal: AbortSignal): Promise<AppendOutcome>;
  /**
   * Takes over a task that another replica has, however fast that one writes, and reads it anew. Nothing happens when the
   * task has ended.
   */
  seize(signal: AbortSignal): Promise<void>;
  /** Reads the task anew, waiting for the database as long as `signal` lets it. Throws LeaseLostError as `append` does. */
  refresh(signal: AbortSignal): Promise<void>;
}

export type MakeUpdates = (image: TaskImage) => readonly NewUpdate[];

export interface WriterDeps {
  store: TaskStore;
  hub: UpdateHub;
  runtime: Runtime;
  /** How long a chunk may wait to be written together with what follows it, in milliseconds. */
  gatherMs: number;
  /** How long a task may wait for its client, in milliseconds. */
  inputTimeoutMs: number;
  /** Who writes. It changes when this replica was declared dead and joins again: what it had is then another's. */
  replicaId: () => string;
}

/** An append that waits for its turn, or several that are written as one. */
interface Work {
  make: MakeUpdates;
  options: AppendOptions;
  signal: AbortSignal;
}

export function createTaskWriter(deps: WriterDeps, initial: TaskImage): TaskWriter {
  let image = initial;
  let { fence } = initial.header;
  const { workspaceId, taskId, agentId } = initial.header;
  // Appends of one task go one after another: each builds on the image that the one before left.
  const gatherer = createGatherer<Work, AppendOutcome>(deps.gatherMs, appendNow, joined);

  function publish(updates: readonly TaskUpdate[]): void {
    if (updates.length > 0) deps.hub.publish({ workspaceId, taskId, agentId, updates, hasPush: image.header.hasPush });
  }

  /** Reads the log anew and tells the hub what it did not know. Returns the rows that are new to this writer. */
  async function reload(): Promise<readonly TaskUpdate[]> {
    const stored = await deps.store.load(workspaceId, taskId);
    if (!stored) throw new Error(`task ${taskId} is gone from the database`);
    const news = stored.updates.slice(image.seq);
    image = foldTask(stored.header, stored.updates);
    publish(news);
    return news;
  }

  function checkLease(): void {
    if (!isTerminal(stateOf(image)) && image.header.fence !== fence) throw new LeaseLostError(taskId);
  }

  async function appendNow({ make, options, signal }: Work): Promise<AppendOutcome> {
    let made: { after: number; updates: readonly NewUpdate[] } | undefined;
    // Whether an answer was lost. The append may then be stored, or even be stored later, when it was tried again.
    let inDoubt = false;
    for (let attempt = 0; ; ) {
      signal.throwIfAborted();
      if (isTerminal(stateOf(image))) return "ended";
      if (options.take) fence = image.header.fence;
      checkLease();
      const { header } = image;
      if (options.hidden === true && header.disclosed) return "disclosed";
      if (made?.after !== image.seq) made = { after: image.seq, updates: make(image) };
      const { updates } = made;
      if (updates.length === 0 && !learns(options)) return "stored";
      // Where nobody has it, whoever writes does so under a token of its own.
      const take = options.take || (updates.length > 0 && !isLeased(image.state));
      if (!take && updates.length > 0 && header.leaseOwner !== deps.replicaId()) throw new LeaseLostError(taskId);
      try {
        const done = await deps.store.append({
          ...options,
          take,
          wakeInMs: options.wakeInMs ?? deps.inputTimeoutMs,
          workspaceId,
          taskId,
          expectedSeq: image.seq,
          fence,
          updates,
          at: deps.runtime.now(),
          disclose: !options.hidden,
          onlyIfHidden: options.hidden === true,
        });
        if (!done) {
          const news = await reload();
          if (inDoubt && holds(news, updates)) return stored(take);
          continue;
        }
        Object.assign(header, done);
        if (options.forgetUpstream) header.upstreamTaskId = undefined;
        header.upstreamTaskId = options.upstreamTaskId ?? header.upstreamTaskId;
        header.upstreamContextId = options.upstreamContextId ?? header.upstreamContextId;
        fence = done.fence;
        const numbered = updates.map((update, i) => ({ ...update, seq: image.seq + 1 + i }));
        for (const update of numbered) applyUpdate(image, update);
        publish(numbered);
        return "stored";
      } catch (error) {
        // A replica that is dead by the database can take nothing. Who asked for that is told; for others the task is lost.
        if (isExpired(error) && !options.take) throw new LeaseLostError(taskId);
        if (options.once || !isTransient(error)) throw error;
        inDoubt = true;
        await deps.runtime.wait(backoffMs(attempt++, 100, 5_000, deps.runtime.random), signal);
        const news = await reload().catch((failure: unknown) => {
          if (!isTransient(failure)) throw failure;
          return undefined;
        });
        if (news && holds(news, updates)) return stored(take);
      }
    }
  }

  /** Our rows were found in the log: they are stored, under the next token if they took the task over. */
  function stored(took: boolean): AppendOutcome {
    if (took) fence += 1;
    return "stored";
  }

  /** Whether an append without updates has something to say of the task. */
  function learns({ hidden, upstreamTaskId, upstreamContextId }: AppendOptions): boolean {
    const { header } = image;
    return (
      (upstreamTaskId !== undefined && upstreamTaskId !== header.upstreamTaskId) ||
      (upstreamContextId !== undefined && upstreamContextId !== header.upstreamContextId) ||
      (!hidden && !header.disclosed)
    );
  }

  async function seize(signal: AbortSignal): Promise<void> {
    while (!isTerminal(stateOf(image)) && image.header.leaseOwner !== deps.replicaId()) {
      signal.throwIfAborted();
      const { fence: theirs } = image.header;
      const take = {
        fence: theirs,
        expectedSeq: 0,
        whateverSeq: true,
        take: true,
        updates: [],
        at: deps.runtime.now(),
      };
      await deps.store.append({ workspaceId, taskId, ...take });
      // Ours by now, or another's who was faster: the log tells.
      await reload();
    }
    fence = image.header.fence;
  }

  return {
    get image() {
      return image;
    },
    seize: (signal) => gatherer.inTurn(() => seize(signal)),
    append: (make, options, signal) => gatherer.add({ make, options, signal }, options.gather),
    refresh: (signal) =>
      gatherer.inTurn(async () => {
        await whenDatabaseAnswers(deps.runtime, signal, reload);
        checkLease();
      }),
  };
}

/** Several appends as one. */
function joined(works: readonly Work[]): Work {
  const last = works.at(-1)!;
  if (works.length === 1) return last;
  return {
    make: (image) => works.flatMap(({ make }) => make(image)),
    options: Object.assign({}, ...works.map(({ options }) => options)),
    signal: last.signal,
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
export function isTransient(error: unknown): boolean {
  return error instanceof SignalboxError && (error.reason === "DATABASE_UNAVAILABLE" || error.reason === "QUEUE_FULL");
}

const isExpired = (error: unknown): boolean => error instanceof SignalboxError && error.reason === "REPLICA_EXPIRED";

/** Whether `stored` begins with these updates: what is stored already must not be stored twice. */
function holds(stored: readonly TaskUpdate[], updates: readonly NewUpdate[]): boolean {
  if (updates.length === 0) return false;
  return updates.every((update, i) => {
    const row = stored[i];
    if (row?.kind !== update.kind) return false;
    // A transition's body is empty. Its cause names the replica.
    if (update.kind === "transition") return row.state === update.state && row.cause === update.cause;
    return equals(StreamResponseSchema, row.body, update.body);
  });
}
