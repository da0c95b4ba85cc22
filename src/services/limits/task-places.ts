/**
 * Tasks of a workspace that have not ended, over all replicas, where its quota says how many there may be. A task holds a unit of the quota
 * as it holds of budgets: the statement that stores it takes the unit of its replica's slice, and the one that ends it, whoever that is,
 * gives it back. So no crash loses one, and none is counted twice. See docs/decisions/0013-limits-of-workspaces.md.
 */
import type { Logger } from "pino";
import type { BudgetHold } from "../../domain/budget/hold.ts";
import { quotaExceeded } from "../../domain/identity/quotas.ts";
import type { TaskHeader } from "../../domain/task-log.ts";
import type { LimitKey } from "../../store/allotment-repository.ts";
import type { BudgetRepository } from "../../store/budget-repository.ts";
import type { BudgetUsageReads } from "../../store/budget-usage-reads.ts";
import { replicaExpired } from "../../store/database-errors.ts";
import type { QuotaRecord, QuotaRepository } from "../../store/quota-repository.ts";
import type { TaskStore } from "../../store/task-store.ts";
import { createAllotments } from "../allotments.ts";
import { createBudgetDoubts, type TakenUnits } from "../budget-doubts.ts";
import type { Reservation } from "../budget-port.ts";
import type { Slice } from "../limit-slice.ts";
import type { RequestContext } from "../request-context.ts";
import type { Runtime } from "../runtime.ts";
import type { KnownQuotas } from "./known-quotas.ts";

/** Names the limit in slices and in what tasks hold. No budget's id begins so. */
export const IN_FLIGHT_KEY = "#quota/0/tasks_in_flight";
/** It has no end. */
export const IN_FLIGHT_END = new Date("9999-12-31T00:00:00Z");
/** How long it is waited for what other replicas do not need, in milliseconds. */
const WAIT_MS = 1_500;
/** What was found of a quota that is used up holds so long, and the pause that whoever is refused is asked for, in milliseconds. */
const KNOWN_MS = 500;
const RETRY_MS = 1_000;
const SWEEP_MS = 2_000;
/** So long after a change of a quota, other replicas may have begun tasks that do not hold of it, in milliseconds. */
const UNSETTLED_MS = 5_000;
const NOTHING: ReadonlySet<string> = new Set();

export interface TaskPlacesDeps {
  quotas: KnownQuotas;
  repository: BudgetRepository;
  counts: Pick<QuotaRepository, "countUncounted">;
  reads: Pick<BudgetUsageReads, "standing">;
  store: Pick<TaskStore, "lastNumbers">;
  replicaId: () => string;
  /** Tells other replicas that they may find something that was not there, or are asked for something. */
  announce: () => void;
  runtime: Runtime;
  log: Logger;
}

export interface TaskPlaces {
  /**
   * A place for a new task, by the quotas of its workspace; undefined where they do not say how many it may have.
   *
   * @throws SignalboxError QUOTA_EXCEEDED; DATABASE_UNAVAILABLE where more would have to be asked for.
   */
  take(
    context: Pick<RequestContext, "workspaceId" | "signal">,
    taskId: string,
    record: QuotaRecord,
  ): Promise<Reservation> | undefined;
  /** The end of a task is stored: its place may be asked for. */
  settled(task: TaskHeader): void;
  heed(): void;
  /** Forgets all slices: this replica was declared dead. */
  reset(): void;
  start(): void;
  stop(): Promise<void>;
}

/** How many tasks older than a quota were found, and when it is to be looked again. */
interface Elders {
  revision: number;
  tasks: number;
  sinceMs: number;
  countedMs: number;
  counting: Promise<void> | undefined;
}

export function createTaskPlaces(deps: TaskPlacesDeps): TaskPlaces {
  const { quotas, repository, reads, replicaId, runtime, log } = deps;
  const doubts = createBudgetDoubts(deps);
  const elders = new Map<string, Elders>();
  const full = new Map<string, { used: number; atMs: number }>();
  /** What each task of a replica holds is one array: it is written down once. */
  const holdsOf = new Map<string, readonly BudgetHold[]>();
  let waiters = Promise.withResolvers<void>();
  let sweptMs = Number.NEGATIVE_INFINITY;

  const allotments = createAllotments({
    repository: {
      settle: repository.settle,
      async sweep(graceMs) {
        if (runtime.elapsedMs() - sweptMs < SWEEP_MS) return;
        sweptMs = runtime.elapsedMs();
        await doubts.resolve();
        await repository.sweep(graceMs);
      },
    },
    replicaId,
    async limitOf({ workspaceId }) {
      const record = await quotas.of(workspaceId);
      return record.limits.tasksInFlight === undefined ? undefined : limitOf(workspaceId, record);
    },
    wanted: () => repository.wanted(replicaId()),
    announce: deps.announce,
    onRoom() {
      waiters.resolve();
      waiters = Promise.withResolvers();
    },
    runtime,
    log,
  });

  /** What is left of a quota for tasks that hold of it. */
  async function limitOf(workspaceId: string, record: QuotaRecord): Promise<number> {
    const known = elders.get(workspaceId);
    const now = runtime.elapsedMs();
    let current = known;
    if (current?.revision !== record.revision) {
      const { revision } = record;
      current = { revision, tasks: 0, sinceMs: now, countedMs: Number.NEGATIVE_INFINITY, counting: undefined };
      elders.set(workspaceId, current);
    }
    const isUnsettled = now - current.sinceMs < UNSETTLED_MS || current.tasks > 0;
    if (isUnsettled && now - current.countedMs >= 1_000) current.counting ??= count(workspaceId, current);
    await current.counting;
    return Math.max(0, (record.limits.tasksInFlight ?? 0) - current.tasks);
  }

  async function count(workspaceId: string, into: Elders): Promise<void> {
    try {
      into.tasks = await deps.counts.countUncounted(workspaceId, IN_FLIGHT_KEY);
      into.countedMs = runtime.elapsedMs();
    } finally {
      into.counting = undefined;
    }
  }

  function heldBy(owner: string): readonly BudgetHold[] {
    let holds = holdsOf.get(owner);
    if (!holds) {
      holds = [
        {
          key: IN_FLIGHT_KEY,
          unit: "IN_FLIGHT",
          units: 1,
          replicaId: owner,
          declared: 0,
          drawn: 0,
          chargesFailure: false,
        },
      ];
      // One replica has one id at a time.
      holdsOf.clear();
      holdsOf.set(owner, holds);
    }
    return holds;
  }

  async function obtain(limitKey: LimitKey, slice: Slice, max: number, signal: AbortSignal): Promise<void> {
    if (slice.take(1)) return;
    const { workspaceId } = limitKey;
    const last = full.get(workspaceId);
    if (slice.isExhausted && last && runtime.elapsedMs() - last.atMs < KNOWN_MS) throw refused(max, last.used);
    const until = runtime.elapsedMs() + WAIT_MS;
    for (let asked = 0; ; asked++) {
      signal.throwIfAborted();
      const room = waiters.promise;
      if (await slice.ask(1)) return;
      const { reserved, elsewhere } = await reads.standing(limitKey, replicaId());
      const leftMs = until - runtime.elapsedMs();
      if ((slice.limit - reserved < 1 && slice.idle + elsewhere < 1) || leftMs <= 0) {
        const used = reserved + Math.max(0, max - slice.limit);
        full.set(workspaceId, { used, atMs: runtime.elapsedMs() });
        throw refused(max, used);
      }
      // Tasks may have given back since the database was asked. What other replicas do not need they give back, now that they hear
      // that it is wanted.
      slice.hope();
      if (asked > 0) await roomWithin(leftMs, room, signal);
    }
  }

  async function roomWithin(ms: number, room: Promise<void>, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const time = runtime.wait(ms, AbortSignal.any([over.signal, signal])).catch(() => {});
    await Promise.race([room, time]).finally(() => over.abort());
  }

  async function take(
    { workspaceId, signal }: Pick<RequestContext, "workspaceId" | "signal">,
    taskId: string,
    record: QuotaRecord,
    max: number,
  ): Promise<Reservation> {
    const owner = replicaId();
    const limitKey = { workspaceId, key: IN_FLIGHT_KEY };
    const limit = await limitOf(workspaceId, record);
    const slice = allotments.slice(limitKey, limit);
    await obtain(limitKey, slice, max, signal);
    const taken: TakenUnits[] = [{ slice, units: 1 }];
    const giveBack = () => {
      for (const { units } of taken.splice(0)) slice.giveBack(units);
    };
    if (replicaId() !== owner) {
      giveBack();
      throw replicaExpired();
    }
    return {
      holds: heldBy(owner),
      drawn: NOTHING,
      release: giveBack,
      keep: () => void taken.splice(0),
      doubt() {
        const mine = taken.splice(0);
        if (mine.length > 0) doubts.add({ workspaceId, taskId, taken: mine });
      },
    };
  }

  return {
    take(context, taskId, record) {
      const max = record.limits.tasksInFlight;
      return max === undefined ? undefined : take(context, taskId, record, max);
    },
    settled({ workspaceId, holds = [] }) {
      if (!holds.some(({ unit }) => unit === "IN_FLIGHT")) return;
      full.delete(workspaceId);
      allotments.find({ workspaceId, key: IN_FLIGHT_KEY })?.hope();
    },
    heed: allotments.heed,
    reset() {
      doubts.reset();
      allotments.reset();
    },
    start: allotments.start,
    stop: allotments.stop,
  };
}

const refused = (max: number, used: number) => quotaExceeded("tasks_in_flight", max, used, RETRY_MS);
