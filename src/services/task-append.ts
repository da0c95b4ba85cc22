/**
 * What is to be appended to one task's log: a piece of work, and those that may be written together with it. What an agent
 * says in quick succession becomes one append, each update under its own number. Pure.
 */
import { equals } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { applyUpdate, type NewUpdate, stateBrought, type TaskImage, type TaskUpdate } from "../domain/task-log.ts";
import { EngineState, isFinal, isLeased } from "../domain/task-state.ts";
import type { Reroute } from "../store/append-batch.ts";
import type { Settlement } from "../store/approval-sql.ts";
import type { Bill, Budgets } from "./budget-port.ts";

/**
 * How a piece of work may be written together with its neighbours; left out, it is written alone.
 * - `chunk`: its updates depend on nothing that others change, and it may wait a little for more of its kind.
 * - `status`: its updates depend on the statuses before it.
 * - `task`: its updates depend on all of the task, so it joins nothing; what follows may join it.
 */
export type Gather = "chunk" | "status" | "task";

/** A caller, in whose name rows are written. */
export interface ByPrincipal {
  readonly principal: string;
  /** Who acts for it, as `Principal.actors`. */
  readonly actors?: readonly string[] | undefined;
}

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
  /** For a state in which nobody has the task: when a replica should claim it, in milliseconds from now, or "at-agent": as of Append. */
  wakeInMs?: number | "at-agent";
  upstreamTaskId?: string;
  upstreamContextId?: string;
  /** Forgets what the agent calls the task, because it will be asked anew. */
  forgetUpstream?: boolean;
  /** Gives the task to another agent. With `forgetUpstream` alone: what it is called there, it says itself. */
  reroute?: Reroute;
  /** Whose doing it is, where that is not the router's: of what its agent says, or of a caller. */
  by?: "agent" | ByPrincipal;
  /** Settles the approval that the task waits for. */
  settles?: Settlement;
  /** What its agent has said and must not leave. What it cost is charged all the same. */
  withheld?: readonly NewUpdate[];
  /** Not with `hidden`, `once`, `take`, `wakeInMs`, `forgetUpstream`, `reroute` and `settles`: they are for work that is written alone. */
  gather?: Gather;
}

/**
 * - `stored`: the updates are durable, or there were none to store.
 * - `ended`: the task has ended; nothing was stored.
 * - `disclosed`: the append wanted the task hidden, and it no longer is.
 */
export type AppendOutcome = "stored" | "ended" | "disclosed";

export type MakeUpdates = (image: TaskImage) => readonly NewUpdate[];

/** What is asked of budgets. */
export type Billing = Pick<Budgets, "billOf" | "isOverspent" | "fullBillOf">;

/** A piece of work that waits for its turn. */
export interface AppendWork {
  readonly make: MakeUpdates;
  readonly options: AppendOptions;
  readonly signal: AbortSignal;
  readonly resolve: (outcome: AppendOutcome) => void;
  readonly reject: (error: unknown) => void;
}

/** What waits for its turn: an append, or something else that is done in turn and settles by itself. */
export type Turn = AppendWork | (() => Promise<void>);

/** Pieces of work that are written as one at most. */
export const MOST_JOINED = 256;

/** One append in the making: what joins it joins before it is closed, and then it stays the same, however often it is tried. */
export class AppendDraft {
  /** The number of the last row that it was made to follow. */
  readonly after: number;
  readonly works: AppendWork[];
  readonly options: AppendOptions;
  readonly updates: NewUpdate[];
  isClosed = false;
  #bill: Bill | undefined;
  #state: EngineState;
  /** The task as the updates so far leave its statuses, for those that depend on them. */
  #ahead: TaskImage | undefined;

  constructor(image: TaskImage, head: AppendWork) {
    this.after = image.seq;
    this.works = [head];
    this.options = { ...head.options };
    this.updates = [...head.make(image)];
    this.#state = image.state;
    for (const update of this.updates) this.#state = stateBrought(update) ?? this.#state;
  }

  /** What the task has cost, where this ends it. It is asked once, however often the append is tried. */
  bill(image: TaskImage, budgets: Billing | undefined): Bill | undefined {
    if (image.header.holds && isFinal(this.#state)) this.#bill ??= budgets?.billOf(image, this.#said());
    return this.#bill;
  }

  /** To be waited for before that: what the task has cost beyond what it held is looked for. Undefined where there is nothing to wait for. */
  prepareBill(image: TaskImage, budgets: Billing | undefined, signal: AbortSignal): Promise<void> | undefined {
    if (!image.header.holds || this.#bill || !isFinal(this.#state)) return undefined;
    if (!budgets?.isOverspent(image, this.#said())) return undefined;
    return budgets.fullBillOf(image, this.#said(), signal).then((bill) => {
      this.#bill = bill;
    });
  }

  /** What its agent has said, be it stored or withheld. */
  #said(): readonly NewUpdate[] {
    const { withheld } = this.options;
    return withheld ? [...withheld, ...this.updates] : this.updates;
  }

  /** The append is stored. */
  closeBill(): void {
    this.#bill?.stored();
  }

  /** The append was refused: nothing of it is stored. */
  cancelBill(): void {
    this.#bill?.cancel();
    this.#bill = undefined;
  }

  /** Takes what waits, from its front, as long as it may be written together with this; then it is closed. */
  close(waiting: Turn[], image: TaskImage, budgets: Billing | undefined): void {
    if (this.isClosed) return;
    this.isClosed = true;
    let taken = 0;
    while (taken < waiting.length && this.#join(waiting[taken]!, image, budgets)) taken += 1;
    if (taken > 0) waiting.splice(0, taken);
  }

  #join(turn: Turn, image: TaskImage, budgets: Billing | undefined): boolean {
    if (typeof turn === "function") return false;
    const { make, options, signal, reject } = turn;
    const { gather, upstreamTaskId, upstreamContextId } = options;
    const joins = this.options.gather !== undefined && (gather === "chunk" || gather === "status");
    // What comes after the end, or after a rest, is looked at when that is stored.
    if (!joins || !isLeased(this.#state) || this.works.length >= MOST_JOINED) return false;
    let updates: readonly NewUpdate[];
    try {
      signal.throwIfAborted();
      updates = make(gather === "status" ? this.#foresee(image) : image);
    } catch (error) {
      reject(error);
      return true;
    }
    // Its bill takes a moment, for which the batch does not wait: it is written alone.
    if (endsIn(updates) && image.header.holds && budgets?.isOverspent(image, [...this.updates, ...updates]))
      return false;
    this.works.push(turn);
    if (upstreamTaskId !== undefined) this.options.upstreamTaskId = upstreamTaskId;
    if (upstreamContextId !== undefined) this.options.upstreamContextId = upstreamContextId;
    for (const update of updates) {
      this.updates.push(update);
      this.#state = stateBrought(update) ?? this.#state;
      if (this.#ahead) follow(this.#ahead, update);
    }
    return true;
  }

  #foresee(image: TaskImage): TaskImage {
    if (!this.#ahead) {
      const { task } = image;
      this.#ahead = { ...image, task: { ...task, history: [...task.history] } };
      for (const update of this.updates) follow(this.#ahead, update);
    }
    return this.#ahead;
  }
}

/** Artifacts, which may be many, are shared with the task as it stands: no status depends on them. */
function follow(image: TaskImage, update: NewUpdate): void {
  if (update.kind === "artifact") image.seq += 1;
  else applyUpdate(image, { ...update, seq: image.seq + 1 });
}

const endsIn = (updates: readonly NewUpdate[]): boolean =>
  updates.some((update) => isFinal(stateBrought(update) ?? EngineState.WORKING));

/** The time of the last status among some updates. */
export function statusTime(updates: readonly NewUpdate[]): Timestamp | undefined {
  for (let i = updates.length - 1; i >= 0; i--) {
    const { payload } = updates[i]!.body;
    if (payload.case === "statusUpdate") return payload.value.status?.timestamp;
  }
  return undefined;
}

/** Whether `stored` begins with these updates: what is stored already must not be stored twice. */
export function beginsWith(stored: readonly TaskUpdate[], updates: readonly NewUpdate[]): boolean {
  if (updates.length === 0) return false;
  return updates.every((update, i) => {
    const row = stored[i];
    if (row?.kind !== update.kind) return false;
    // A transition's body is empty. Its cause names the replica.
    if (update.kind === "transition") return row.state === update.state && row.cause === update.cause;
    return equals(StreamResponseSchema, row.body, update.body);
  });
}
