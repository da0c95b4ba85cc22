/**
 * The one writer of one task in this process: it knows the task as it stands, appends to its log under its fencing token and
 * tells the hub. Pieces of work go one after another; what may be written together with the one whose turn it is joins it
 * until the database takes it.
 */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { awaitedApproval } from "../domain/approval.ts";
import { agentActor, routerActor } from "../domain/audit/actor.ts";
import { SignalboxError, taskNotFound } from "../domain/errors.ts";
import {
  agentsOf,
  applyUpdate,
  foldTask,
  givenCapabilityId,
  stateOf,
  type TaskHeader,
  type TaskImage,
  type TaskUpdate,
} from "../domain/task-log.ts";
import { isFinal, isLeased, isTerminal } from "../domain/task-state.ts";
import type { Append, Appended, Author, Reroute } from "../store/append-batch.ts";
import { isOutcomeUnknown } from "../store/database-errors.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { Budgets } from "./budget-port.ts";
import { isTransient, whenDatabaseAnswers } from "./database-away.ts";
import { backoffMs, type Runtime } from "./runtime.ts";
import {
  AppendDraft,
  type AppendOptions,
  type AppendOutcome,
  type AppendWork,
  type Billing,
  beginsWith,
  type MakeUpdates,
  statusTime,
} from "./task-append.ts";
import type { UpdateHub } from "./update-hub.ts";
import { WriterTurns } from "./writer-turns.ts";

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
  /** Whether what the agent says may be held back: then nothing else may tell it either. */
  readonly holdsBack: boolean;
  /**
   * Stores what `make` makes of the image. `make` is called again when another writer was faster. Waits for a database
   * that is away as long as `signal` lets it.
   *
   * @throws LeaseLostError when the task is another's.
   */
  append(make: MakeUpdates, options: AppendOptions, signal: AbortSignal): Promise<AppendOutcome>;
  /**
   * Takes over a task that another replica has, however fast that one writes, and reads it anew. Nothing happens when nobody has
   * it, because it has come to rest or has ended.
   */
  seize(signal: AbortSignal): Promise<void>;
  /** Reads the task anew, waiting for the database as long as `signal` lets it. Throws LeaseLostError as `append` does. */
  refresh(signal: AbortSignal): Promise<void>;
}

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
  /** Told of the ends of tasks that hold of budgets. Left out, nothing is limited. */
  budgets?: Billing & Pick<Budgets, "settled">;
  /** Told of tasks that end while they wait for their approval, and nobody has decided. */
  approvals?: { onOutcome(outcome: "withdrawn"): void };
}

export const createTaskWriter = (deps: WriterDeps, image: TaskImage): TaskWriter => new LogWriter(deps, image);

class LogWriter implements TaskWriter {
  image: TaskImage;
  readonly holdsBack = false;
  readonly #deps: WriterDeps;
  #fence: number;
  readonly #turns: WriterTurns;

  constructor(deps: WriterDeps, image: TaskImage) {
    this.#deps = deps;
    this.image = image;
    this.#fence = image.header.fence;
    this.#turns = new WriterTurns(deps.gatherMs, (head) => this.#write(head));
  }

  append(make: MakeUpdates, options: AppendOptions, signal: AbortSignal): Promise<AppendOutcome> {
    return this.#turns.append(make, options, signal);
  }

  seize(signal: AbortSignal): Promise<void> {
    return this.#turns.take(() => this.#seize(signal));
  }

  refresh(signal: AbortSignal): Promise<void> {
    return this.#turns.take(async () => {
      await whenDatabaseAnswers(this.#deps.runtime, signal, () => this.#reload());
      this.#checkLease();
    });
  }

  // --- appends

  /** Writes a piece of work, and what joins it. Settles them all, whatever comes. */
  async #write(head: AppendWork): Promise<void> {
    const { store, runtime } = this.#deps;
    const { options, signal } = head;
    let draft: AppendDraft | undefined;
    // Whether an answer was lost. The append may then be stored, or even be stored later, when it was tried again.
    let inDoubt = false;
    try {
      for (let failures = 0; ; ) {
        signal.throwIfAborted();
        if (draft && draft.after !== this.image.seq) {
          // Somebody else has written: each piece is made anew, in its turn.
          this.#turns.putBack(draft.works.splice(1));
          draft.cancelBill();
          draft = undefined;
        }
        const outcome = this.#foregone(options);
        if (outcome) {
          draft?.cancelBill();
          return settle(draft?.works ?? [head], outcome);
        }
        draft ??= new AppendDraft(this.image, head);
        if (draft.updates.length === 0 && !this.#learns(draft.options)) return settle(draft.works, "stored");
        const takes = this.#takes(draft);
        const billing = draft.prepareBill(this.image, this.#deps.budgets, signal);
        if (billing) await billing;
        let news: readonly TaskUpdate[] | undefined;
        try {
          const done = await store.append(this.#late(draft, takes));
          if (done) return this.#stored(draft, done);
          news = await this.#reload();
        } catch (error) {
          // A replica that is dead by the database can take nothing. Who asked for that is told; for others the task is lost.
          if (isExpired(error) && !options.take) throw this.#leaseLost();
          if (options.once || !isTransient(error)) throw error;
          inDoubt = true;
          await runtime.wait(backoffMs(failures++, 100, 5_000, runtime.random), signal);
          news = await this.#reload().catch(exceptTransient);
        }
        if (inDoubt && news && beginsWith(news, draft.updates)) {
          // They are stored, under the next token if they took the task over.
          if (takes) this.#fence += 1;
          draft.closeBill();
          return settle(draft.works, "stored");
        }
      }
    } catch (error) {
      if (!inDoubt && !isOutcomeUnknown(error)) draft?.cancelBill();
      for (const { reject } of draft?.works ?? [head]) reject(error);
    }
  }

  /** What comes of an append whatever it says, as far as that is known without the database. */
  #foregone({ take, hidden }: AppendOptions): AppendOutcome | undefined {
    if (isTerminal(stateOf(this.image))) return "ended";
    const { header } = this.image;
    if (take) this.#fence = header.fence;
    this.#checkLease();
    return hidden === true && header.disclosed ? "disclosed" : undefined;
  }

  /** Whether an append takes the task: where nobody has it, whoever writes does so under a token of its own. */
  #takes({ updates, options }: AppendDraft): boolean {
    const writes = updates.length > 0;
    if (options.take || (writes && !isLeased(this.image.state))) return true;
    if (writes && this.image.header.leaseOwner !== this.#deps.replicaId()) throw this.#leaseLost();
    return false;
  }

  /** The append as the store asks for it, when it begins with the batch: what has gathered until then goes with it. */
  #late(draft: AppendDraft, take: boolean): () => Append {
    let bound: Append | undefined;
    return () => {
      if (bound) return bound;
      draft.close(this.#turns.waiting, this.image, this.#deps.budgets);
      this.#turns.rest();
      const { updates } = draft;
      const { by, withheld: _, ...options } = draft.options;
      const { workspaceId, taskId } = this.image.header;
      const time = statusTime(updates);
      bound = {
        ...options,
        take,
        wakeInMs: options.wakeInMs ?? this.#deps.inputTimeoutMs,
        workspaceId,
        taskId,
        expectedSeq: draft.after,
        fence: this.#fence,
        cost: draft.bill(this.image, this.#deps.budgets),
        updates,
        at: time ? timestampDate(time) : this.#deps.runtime.now(),
        disclose: !options.hidden,
        onlyIfHidden: options.hidden === true,
        author: this.#author(by),
      };
      return bound;
    };
  }

  #author(by: AppendOptions["by"]): Author {
    const { state, header } = this.image;
    const { agentId, attempt } = header;
    const actor = by === "agent" ? agentActor(agentId) : (by?.principal ?? routerActor(this.#deps.replicaId()));
    const actors = typeof by === "object" ? by.actors : undefined;
    return { by: actor, actors, from: state, attempt, agentId };
  }

  #stored(draft: AppendDraft, done: Appended): void {
    const { works, updates, options } = draft;
    const { image } = this;
    const { header } = image;
    Object.assign(header, done);
    if (options.forgetUpstream) header.upstreamTaskId = undefined;
    header.upstreamTaskId = options.upstreamTaskId ?? header.upstreamTaskId;
    header.upstreamContextId = options.upstreamContextId ?? header.upstreamContextId;
    if (options.reroute) moveTo(header, options.reroute);
    this.#fence = done.fence;
    const isUndecided = !options.settles && awaitedApproval(image) !== undefined;
    const numbered = updates.map((update, i) => ({ ...update, seq: image.seq + 1 + i }));
    for (const update of numbered) applyUpdate(image, update);
    draft.closeBill();
    if (header.holds && isFinal(image.state)) this.#deps.budgets?.settled(header);
    if (isUndecided && isFinal(image.state)) this.#deps.approvals?.onOutcome("withdrawn");
    this.#publish(numbered);
    settle(works, "stored");
  }

  /** Whether an append without updates has something to say of the task. */
  #learns({ hidden, upstreamTaskId, upstreamContextId }: AppendOptions): boolean {
    const { header } = this.image;
    return (
      (upstreamTaskId !== undefined && upstreamTaskId !== header.upstreamTaskId) ||
      (upstreamContextId !== undefined && upstreamContextId !== header.upstreamContextId) ||
      (!hidden && !header.disclosed)
    );
  }

  // --- the log, and whose it is

  /** Reads the log anew and tells the hub what it did not know. Returns the rows that are new to this writer. */
  async #reload(): Promise<readonly TaskUpdate[]> {
    const { workspaceId, taskId } = this.image.header;
    const stored = await this.#deps.store.load(workspaceId, taskId);
    // It ended, and was removed.
    if (!stored) throw taskNotFound(taskId);
    const news = stored.updates.slice(this.image.seq);
    this.image = foldTask(stored.header, stored.updates);
    this.#publish(news);
    return news;
  }

  #publish(updates: readonly TaskUpdate[]): void {
    const { workspaceId, taskId, agentId, hasPush } = this.image.header;
    if (updates.length > 0) this.#deps.hub.publish({ workspaceId, taskId, agentId, updates, hasPush });
  }

  #checkLease(): void {
    if (!isTerminal(stateOf(this.image)) && this.image.header.fence !== this.#fence) throw this.#leaseLost();
  }

  #leaseLost(): LeaseLostError {
    return new LeaseLostError(this.image.header.taskId);
  }

  async #seize(signal: AbortSignal): Promise<void> {
    const { store, runtime, replicaId } = this.#deps;
    // What rests has no owner, however often it is taken.
    while (isLeased(this.image.state) && this.image.header.leaseOwner !== replicaId()) {
      signal.throwIfAborted();
      const { workspaceId, taskId, fence } = this.image.header;
      const take = { fence, expectedSeq: 0, whateverSeq: true, take: true, updates: [], at: runtime.now() };
      await store.append({ workspaceId, taskId, ...take });
      // Ours by now, or another's who was faster: the log tells.
      await this.#reload();
    }
    this.#fence = this.image.header.fence;
  }
}

/** What the store has made of a task that went to another agent. */
function moveTo(header: TaskHeader, to: Reroute): void {
  header.origin = { agentIds: agentsOf(header), capabilityId: givenCapabilityId(header) };
  header.agentId = to.agentId;
  header.capabilityId = to.capabilityId;
  header.upstreamTaskId = to.upstreamTaskId;
  header.upstreamContextId = to.upstreamContextId;
}

function settle(works: readonly AppendWork[], outcome: AppendOutcome): void {
  for (const { resolve } of works) resolve(outcome);
}

function exceptTransient(error: unknown): undefined {
  if (!isTransient(error)) throw error;
}

const isExpired = (error: unknown): boolean => error instanceof SignalboxError && error.reason === "REPLICA_EXPIRED";
