/** What each call and each new task is held against: the rates and quotas of its workspace. Who has none of them waits for nothing. */

import { SignalboxError } from "../../domain/errors.ts";
import type { Principal } from "../../domain/identity/principal.ts";
import { type LimitName, quotaExceeded, rateLimited } from "../../domain/identity/quotas.ts";
import type { QuotaRecord } from "../../store/quota-repository.ts";
import type { Reservation } from "../budget-port.ts";
import type { RequestContext } from "../request-context.ts";
import type { KnownQuotas } from "./known-quotas.ts";
import type { CloseStream, OpenStreams } from "./open-streams.ts";
import type { SlicedRates } from "./sliced-rates.ts";
import type { TaskPlaces } from "./task-places.ts";

/** The pause that is asked of whoever has stored too much, in milliseconds: what was removed is counted by then. */
const COUNTED_MS = 60_000;

/** What calls are held against, whatever they ask for. */
export interface CallLimits {
  /**
   * Counts a call of a principal. Undefined: it may go on. A promise only where the database must be asked.
   *
   * @throws SignalboxError RATE_LIMITED.
   */
  enter(principal: Pick<Principal, "id" | "workspaceId">): Promise<void> | undefined;
  /**
   * Opens a stream, and tells how to close it.
   *
   * @throws SignalboxError QUOTA_EXCEEDED.
   */
  openStream(workspaceId: string): CloseStream | Promise<CloseStream>;
}

/** What messages are held against. */
export interface TaskLimits {
  /**
   * A place for a new task, where its workspace counts them: it is given back by the task's end, or by whoever does not store it.
   *
   * @throws SignalboxError RATE_LIMITED, QUOTA_EXCEEDED.
   */
  begin(
    context: Pick<RequestContext, "workspaceId" | "signal">,
    taskId: string,
  ): Promise<Reservation | undefined> | undefined;
  /**
   * Whether one more message may be stored.
   *
   * @throws SignalboxError QUOTA_EXCEEDED.
   */
  proceed(workspaceId: string): Promise<void> | undefined;
}

export interface WorkspaceLimitsDeps {
  quotas: KnownQuotas;
  rates: SlicedRates;
  places: Pick<TaskPlaces, "take">;
  streams: Pick<OpenStreams, "open">;
  /** Calls a second of a principal, where its workspace says nothing; 0: as many as it likes. */
  principalCalls: number;
  /** Told of each call, task and stream that is refused. */
  onLimited: (limit: LimitName) => void;
}

export function createWorkspaceLimits(deps: WorkspaceLimitsDeps): CallLimits & TaskLimits {
  const { quotas, rates, places, streams } = deps;
  const principalCalls = deps.principalCalls === 0 ? undefined : deps.principalCalls;

  function counted(error: unknown): unknown {
    if (error instanceof SignalboxError && (error.reason === "QUOTA_EXCEEDED" || error.reason === "RATE_LIMITED")) {
      deps.onLimited(error.metadata.limit as LimitName);
    }
    return error;
  }

  function check(
    name: "tasks_per_second" | "principal_calls_per_second",
    max: number,
    leftMs: number | undefined,
  ): void {
    if (leftMs !== undefined) throw counted(rateLimited(name, max, leftMs));
  }

  function enter(
    { id, workspaceId }: Pick<Principal, "id" | "workspaceId">,
    { limits }: QuotaRecord,
  ): Promise<void> | undefined {
    const max = limits.principalCallsPerSecond ?? principalCalls;
    if (max === undefined) return undefined;
    const answer = rates.take(`call ${workspaceId} ${id}`, max);
    if (answer instanceof Promise) return answer.then((leftMs) => check("principal_calls_per_second", max, leftMs));
    check("principal_calls_per_second", max, answer);
    return undefined;
  }

  function checkStored({ limits: { storedBytes: max }, storedBytes: used }: QuotaRecord): void {
    if (max === undefined || used === undefined || used < max) return;
    throw counted(quotaExceeded("stored_bytes", max, used, COUNTED_MS));
  }

  async function begin(
    context: Pick<RequestContext, "workspaceId" | "signal">,
    taskId: string,
    record: QuotaRecord,
  ): Promise<Reservation | undefined> {
    checkStored(record);
    let place: Reservation | undefined;
    try {
      place = await places.take(context, taskId, record);
      const max = record.limits.tasksPerSecond;
      if (max !== undefined) {
        const leftMs = await rates.take(`task ${context.workspaceId}`, max);
        if (leftMs !== undefined) throw rateLimited("tasks_per_second", max, leftMs);
      }
      return place;
    } catch (error) {
      place?.release();
      throw counted(error);
    }
  }

  const limitsTasks = ({ limits }: QuotaRecord): boolean =>
    limits.storedBytes !== undefined || limits.tasksInFlight !== undefined || limits.tasksPerSecond !== undefined;

  return {
    enter(principal) {
      const record = quotas.of(principal.workspaceId);
      return record instanceof Promise ? record.then((known) => enter(principal, known)) : enter(principal, record);
    },

    openStream(workspaceId) {
      const record = quotas.of(workspaceId);
      const refuse = (error: unknown): never => {
        throw counted(error);
      };
      if (record instanceof Promise) return record.then((known) => streams.open(workspaceId, known)).catch(refuse);
      const opened = streams.open(workspaceId, record);
      return opened instanceof Promise ? opened.catch(refuse) : opened;
    },

    begin(context, taskId) {
      const record = quotas.of(context.workspaceId);
      if (record instanceof Promise) {
        return record.then((known) => (limitsTasks(known) ? begin(context, taskId, known) : undefined));
      }
      return limitsTasks(record) ? begin(context, taskId, record) : undefined;
    },

    proceed(workspaceId) {
      const record = quotas.of(workspaceId);
      if (record instanceof Promise) return record.then(checkStored);
      checkStored(record);
      return undefined;
    },
  };
}

/** Two reservations of one task, as one. */
export function bothOf(a: Reservation | undefined, b: Reservation | undefined): Reservation | undefined {
  if (!a || !b) return a ?? b;
  return {
    holds: [...a.holds, ...b.holds],
    drawn: a.drawn.size === 0 ? b.drawn : b.drawn.size === 0 ? a.drawn : new Set([...a.drawn, ...b.drawn]),
    release() {
      a.release();
      b.release();
    },
    keep() {
      a.keep();
      b.keep();
    },
    doubt() {
      a.doubt();
      b.doubt();
    },
  };
}
