/**
 * The writer of a task whose output the policy looks at before it leaves. What the agent says is stored apart, where no reader of
 * the log finds it, until the agent ends or rests; then the verdict releases all of it, or none. Whoever takes the task over takes
 * up what is held.
 */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { StreamResponseSchema, type TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { encode } from "../domain/encode.ts";
import { SignalboxError } from "../domain/errors.ts";
import {
  HeldView,
  partsOf,
  released,
  type SplitUpdates,
  splitHeld,
  withheldUpdate,
  wordsOf,
} from "../domain/guarded-output.ts";
import type { Facts } from "../domain/policy/facts.ts";
import { ruleText, type Verdict } from "../domain/policy/verdict.ts";
import { type NewUpdate, stateOf, type TaskHeader, type TaskImage } from "../domain/task-log.ts";
import { isInterrupted, isTerminal, stateName } from "../domain/task-state.ts";
import type { HeldUpdates } from "../store/held-updates.ts";
import { whenDatabaseAnswers } from "./database-away.ts";
import { bytesOf, modesOf } from "./policy-facts.ts";
import { backoffMs, type Runtime } from "./runtime.ts";
import type { AppendOptions, AppendOutcome, MakeUpdates } from "./task-append.ts";
import { LeaseLostError, type TaskWriter } from "./task-writer.ts";

/** What the policy says of results. */
export interface ResultPolicy {
  /** Sees to it that the others know what holds by now; undefined where they do. */
  load(workspaceId: string): Promise<void> | undefined;
  /** Whether what is said of a task is held back until the verdict. */
  guards(task: TaskHeader): boolean;
  /** What is known of a task, apart from its output. */
  factsOf(task: TaskHeader): Promise<Facts>;
  decide(workspaceId: string, facts: Facts): Verdict;
}

export interface GuardPorts {
  readonly results: ResultPolicy;
  readonly held: HeldUpdates;
  /** Bytes that are held of one task at most. */
  readonly maxBytes: number;
}

interface GuardDeps {
  guard: GuardPorts;
  runtime: Runtime;
  replicaId: () => string;
  /** Told when it has ended the task because of what must not leave, and the agent is at work still. */
  onWithheld: () => void;
}

export const createGuardedWriter = (deps: GuardDeps, inner: TaskWriter): TaskWriter => new GuardedWriter(deps, inner);

class GuardedWriter implements TaskWriter {
  readonly #deps: GuardDeps;
  readonly #inner: TaskWriter;
  /** Undefined until it is known; false: everything is written as it comes. */
  #isGuarded: boolean | undefined;
  /** Whether it was so of an agent that had the task before: what that one said is not told later either. */
  #hasHeldBack = false;
  readonly #held: NewUpdate[] = [];
  #bytes = 0;
  #view: HeldView | undefined;
  #facts: Facts | undefined;
  /** Appends go one after another: what is held must be known to the next. Undefined before the first of them. */
  #turn: Promise<unknown> | undefined;

  constructor(deps: GuardDeps, inner: TaskWriter) {
    this.#deps = deps;
    this.#inner = inner;
  }

  get image(): TaskImage {
    return this.#inner.image;
  }

  get holdsBack(): boolean {
    return this.#hasHeldBack || (this.#isGuarded ?? this.#deps.guard.results.guards(this.image.header));
  }

  append(make: MakeUpdates, options: AppendOptions, signal: AbortSignal): Promise<AppendOutcome> {
    if (this.#isGuarded === undefined && !this.#turn) this.#lookAtOnce();
    // What waits for its turn still is not overtaken.
    if (this.#isGuarded === false && !this.#turn && !options.reroute) return this.#inner.append(make, options, signal);
    const before = this.#turn ?? Promise.resolve();
    const { promise: turn, resolve: pass } = Promise.withResolvers<void>();
    const done = before.then(async () => {
      const { agentId } = this.image.header;
      try {
        if (this.#isGuarded === undefined) await this.#look(signal);
        if (this.#isGuarded) return await this.#append(make, options, signal);
        const written = this.#inner.append(make, options, signal);
        // It has its place there: the next may join it, unless another agent says it.
        if (!options.reroute) pass();
        return await written;
      } finally {
        if (this.image.header.agentId !== agentId) this.#beginAnew();
        pass();
      }
    });
    this.#turn = turn;
    void turn.then(() => {
      if (this.#turn === turn) this.#turn = undefined;
    });
    return done;
  }

  seize(signal: AbortSignal): Promise<void> {
    return this.#inner.seize(signal);
  }

  refresh(signal: AbortSignal): Promise<void> {
    return this.#inner.refresh(signal);
  }

  /** Most tasks are known to be open without any waiting. */
  #lookAtOnce(): void {
    const { results } = this.#deps.guard;
    const { header } = this.image;
    if (mayHaveHeld(header)) return;
    const loading = results.load(header.workspaceId);
    // Whoever waits for it meets its failure.
    if (loading) loading.catch(() => {});
    else this.#isGuarded = results.guards(header);
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { guard, runtime } = this.#deps;
    const { workspaceId, taskId } = this.image.header;
    await this.#load(signal);
    if (mayHaveHeld(this.image.header)) {
      const found = await whenDatabaseAnswers(runtime, signal, () => guard.held.read(workspaceId, taskId));
      this.#keep(found);
    }
    this.#isGuarded = this.#held.length > 0 || guard.results.guards(this.image.header);
  }

  /**
   * Waits until it is known what holds. A policy that this server cannot read is waited for like a database that is away: until
   * somebody puts another one, or another replica takes the task over.
   */
  async #load(signal: AbortSignal): Promise<void> {
    const { guard, runtime } = this.#deps;
    const { workspaceId } = this.image.header;
    for (let attempt = 0; ; attempt++) {
      try {
        return await whenDatabaseAnswers(runtime, signal, async () => guard.results.load(workspaceId));
      } catch (error) {
        if (!isUnreadable(error)) throw error;
        await runtime.wait(backoffMs(attempt, UNREADABLE_MIN_MS, UNREADABLE_MAX_MS, runtime.random), signal);
      }
    }
  }

  async #append(make: MakeUpdates, options: AppendOptions, signal: AbortSignal): Promise<AppendOutcome> {
    const { gather: _, ...alone } = options;
    if (typeof options.by === "object") return this.#passOn(make, alone, signal);
    const updates = make(this.#withHeld(this.image));
    const split = splitHeld(this.image, updates);
    // While it rests nothing is held: each word has its own verdict.
    const isAtRest = isInterrupted(stateOf(this.image)) && split.held.length > 0;
    if (split.rests !== undefined || isAtRest) return this.#judge(make, split, alone, signal);
    if (split.held.length > 0) {
      const isTooMuch = this.#bytes + weigh(split.held) > this.#deps.guard.maxBytes;
      if (isTooMuch) return this.#withhold(TOO_MUCH, { updates: [...this.#held, ...updates] }, alone, signal);
      await this.#hold(split, signal);
    }
    const { upstreamTaskId } = this.image.header;
    // What passes is made once: what the agent said is known by now, and would not be made again. What is not the agent's is.
    const again =
      split.held.length > 0 ? () => split.passing : (image: TaskImage) => splitHeld(image, make(image)).passing;
    // If this ends the task, its agent cancels it: what is held never leaves.
    const outcome = await this.#inner.append(again, { ...alone, withheld: this.#held }, signal);
    // It begins anew.
    if (upstreamTaskId !== undefined && this.image.header.upstreamTaskId !== upstreamTaskId) this.#forget();
    return outcome;
  }

  /** What a client does needs no verdict, and if it ends the task, nothing of its output leaves. */
  async #passOn(make: MakeUpdates, options: AppendOptions, signal: AbortSignal): Promise<AppendOutcome> {
    const outcome = await this.#inner.append(make, { ...options, withheld: this.#held }, signal);
    if (isTerminal(stateOf(this.image))) this.#forget();
    return outcome;
  }

  async #hold({ held }: SplitUpdates, signal: AbortSignal): Promise<void> {
    const { guard, runtime, replicaId } = this.#deps;
    const { workspaceId, taskId, fence } = this.image.header;
    const holder = { workspaceId, taskId, fence, replicaId: replicaId() };
    const isHeld = await whenDatabaseAnswers(runtime, signal, () =>
      guard.held.hold(holder, this.#held.length + 1, held),
    );
    if (isHeld) return this.#keep(held);
    await this.#inner.refresh(signal);
    // It has ended, or is another's; `refresh` throws where it is another's by its token.
    throw new LeaseLostError(taskId);
  }

  #keep(updates: readonly NewUpdate[]): void {
    this.#held.push(...updates);
    this.#bytes += weigh(updates);
  }

  /** The agent ends or rests: everything leaves in one append, or nothing. */
  async #judge(
    make: MakeUpdates,
    { rests }: SplitUpdates,
    options: AppendOptions,
    signal: AbortSignal,
  ): Promise<AppendOutcome> {
    const { guard, runtime } = this.#deps;
    const { header } = this.image;
    const { workspaceId } = header;
    await this.#load(signal);
    this.#facts ??= await whenDatabaseAnswers(runtime, signal, () => guard.results.factsOf(header));
    const facts = { ...this.#facts, now: runtime.now().getTime() };
    let why: string | undefined;
    let updates: readonly NewUpdate[] = [];
    const verdict = (image: TaskImage) => {
      updates = [...released(this.#held), ...make(this.#withHeld(image))];
      const { effect, rules } = guard.results.decide(workspaceId, { ...facts, ...outputFacts(image, updates) });
      why = effect === "ALLOW" ? undefined : rules[0] ? ruleText(rules[0]) : "by default";
      return why === undefined ? updates : [];
    };
    const outcome = await this.#inner.append(verdict, options, signal);
    if (outcome !== "stored") return outcome;
    if (why !== undefined) return this.#withhold(why, { updates, rests }, options, signal);
    this.#forget();
    return outcome;
  }

  async #withhold(
    why: string,
    { updates: withheld, rests }: { updates: readonly NewUpdate[]; rests?: TaskState | undefined },
    options: AppendOptions,
    signal: AbortSignal,
  ): Promise<AppendOutcome> {
    const { runtime } = this.#deps;
    const ends = (image: TaskImage) => [withheldUpdate(image, runtime.newId(), why, timestampFromDate(runtime.now()))];
    // The policy's doing, whoever said what is withheld.
    const { by: _, ...others } = options;
    const outcome = await this.#inner.append(ends, { ...others, hidden: false, withheld }, signal);
    if (outcome === "stored" && (rests === undefined || !isTerminal(rests))) this.#deps.onWithheld();
    this.#forget();
    return outcome;
  }

  /** The task as its agent knows it. */
  #withHeld(image: TaskImage): TaskImage {
    if (this.#held.length === 0) return image;
    if (!this.#view?.isOf(image)) this.#view = new HeldView(image);
    return this.#view.with(this.#held);
  }

  /** Another agent has the task: other rules may hold of it, and what is held is not its own, though it may call the task the same. */
  #beginAnew(): void {
    this.#hasHeldBack ||= this.#isGuarded === true;
    this.#isGuarded = undefined;
    this.#facts = undefined;
    this.#forget();
  }

  #forget(): void {
    this.#held.length = 0;
    this.#bytes = 0;
    this.#view = undefined;
  }
}

/** Why an output is withheld of which more was said than is kept until the verdict. */
const TOO_MUCH = "it is larger than what may be held back (limits.held-bytes)";

/** Bounds of the pause before a policy is looked at again that this server could not read, in milliseconds. */
const UNREADABLE_MIN_MS = 100;
const UNREADABLE_MAX_MS = 5_000;

const isUnreadable = (error: unknown): boolean =>
  error instanceof SignalboxError && error.reason === "POLICY_UNREADABLE";

/** Whether an agent may have said something of a task before this writer began. */
const mayHaveHeld = ({ upstreamTaskId, attempt }: TaskHeader): boolean => upstreamTaskId !== undefined || attempt > 1;

/** About what updates weigh, in bytes. */
const weigh = (updates: readonly NewUpdate[]): number =>
  updates.reduce((sum, { body }) => sum + UPDATE_BYTES + encode(StreamResponseSchema, body).length, 0);

/** What an update weighs besides what it says. */
const UPDATE_BYTES = 256;

function outputFacts(image: TaskImage, updates: readonly NewUpdate[]): Facts {
  const { groups, artifacts } = partsOf(updates);
  const parts = groups.flat();
  const { rests } = splitHeld(image, updates);
  return {
    output_state: rests && stateName(rests),
    output_bytes: bytesOf(parts),
    output_artifacts: artifacts,
    output_modes: modesOf(parts),
    output_text: wordsOf(updates),
  };
}
