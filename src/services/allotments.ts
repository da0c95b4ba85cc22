/**
 * This replica's slices of limits that hold across replicas. Units are taken and given back in memory as long as the slice
 * has any; only when it is used up, or others want of it, the database is asked, for all slices that have something to say at
 * that moment in one transaction. What a unit is, a task at once or a millionth of a budget, is the business of whoever takes it.
 */
import type { Logger } from "pino";
import type { AllotmentRepository, LimitKey } from "../store/allotment-repository.ts";
import { createGroupCommit } from "../store/group-commit.ts";
import { type Alarm, createAlarm } from "./background/alarm.ts";
import { type Book, LimitSlice, type Slice } from "./limit-slice.ts";
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
  limitOf: (limit: LimitKey) => number | undefined | Promise<number | undefined>;
  /**
   * Whether a slice that nobody has asked for so long, in milliseconds, is of no more use: its units are forgotten with it. Left out,
   * none ever is.
   */
  isPast?: (limit: LimitKey, unusedMs: number) => boolean;
  /** The limits of which other replicas want something. Left out, it may be any. */
  wanted?: () => Promise<readonly LimitKey[]>;
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
  /** The same, where this replica has one. */
  find(key: LimitKey): Slice | undefined;
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
    const wanted = deps.wanted && new Set((await deps.wanted()).map(nameOf));
    await Promise.all(
      [...slices].map(async ([name, slice]) => {
        await slice.lookAfter(await deps.limitOf(slice.limitKey), hasSurplus, wanted?.has(name));
        const isOver = slice.isAtRest && deps.isPast?.(slice.limitKey, now - slice.askedMs);
        if (isOver) slice.leave();
        if ((isOver || slice.isEmpty) && slices.get(name) === slice) slices.delete(name);
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
      const name = nameOf(key);
      let slice = slices.get(name);
      if (!slice) {
        slice = new LimitSlice(key, limit, book);
        slices.set(name, slice);
      } else slice.setLimit(limit);
      slice.askedMs = runtime.elapsedMs();
      return slice;
    },
    find: (key) => slices.get(nameOf(key)),
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

/** The names of those that are asked for again and again: a name that was looked up before is found faster than one that is made anew. */
const names = new WeakMap<LimitKey, string>();

function nameOf(limit: LimitKey): string {
  let name = names.get(limit);
  if (name === undefined) {
    name = `${limit.workspaceId} ${limit.key}`;
    names.set(limit, name);
  }
  return name;
}
