/**
 * What happens to a workspace's tasks, as it happens, whichever replica does it. Each watcher reads the logs for itself, in
 * the outbox's order: nothing gathers for one that is slow, and its place in that order is its cursor, good at any replica.
 */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  EngineState,
  type TaskEvent,
  TaskEventSchema,
  type WatchTasksRequest,
  type WatchTasksResponse,
  WatchTasksResponseSchema,
} from "../../gen/signalbox/v1/task_pb.ts";
import { invalidArgument, SignalboxError } from "../domain/errors.ts";
import type { Principal } from "../domain/identity/principal.ts";
import { viewerOf } from "../domain/identity/visibility.ts";
import { idViolations, MAX_ID_LENGTH } from "../domain/message-rules.ts";
import { refuse } from "../domain/refusal.ts";
import { stateBrought } from "../domain/task-log.ts";
import { isEngineState } from "../domain/task-state.ts";
import type { EventFilter, EventPosition, EventRow, TaskEventReads } from "../store/task-event-reads.ts";
import { createAlarm } from "./background/alarm.ts";
import { whenDatabaseAnswers } from "./database-away.ts";
import type { RequestContext } from "./request-context.ts";
import type { Runtime } from "./runtime.ts";
import { shownCause, UPDATE_KIND } from "./task-executions.ts";
import type { UpdateHub } from "./update-hub.ts";

/** Watchers of one replica at once: each reads by itself. */
const MOST_WATCHERS = 64;
/** Of one principal. */
const MOST_OF_ONE = 16;
/** How often a watcher looks although nothing was heard, in milliseconds. */
const POLL_MS = 1_000;
/** Shortest pause between two looks, unless there is more: what is committed meanwhile is read together. */
const REST_MS = 50;
/** How long a cursor that moves without events is kept from its reader, in milliseconds. */
const SILENCE_MS = 30_000;
const PAGE = { rows: 500, bytes: 1024 * 1024 };

export interface TaskEvents {
  /** Events and cursors, until the call ends. `cursor` is where to go on; empty: now. */
  watch(context: RequestContext, request: WatchTasksRequest, cursor: string): AsyncIterable<WatchTasksResponse>;
}

export interface TaskEventsDeps {
  reads: TaskEventReads;
  hub: Pick<UpdateHub, "onCommit" | "onHint">;
  runtime: Runtime;
}

export function createTaskEvents({ reads, hub, runtime }: TaskEventsDeps): TaskEvents {
  let watchers = 0;
  /** By workspace and principal, of those who have any. */
  const byPrincipal = new Map<string, number>();

  /** Takes a place, and returns what gives it back. */
  function takePlace({ workspaceId, principal }: RequestContext): () => void {
    const who = `${workspaceId} ${principal.id}`;
    const own = byPrincipal.get(who) ?? 0;
    if (own >= MOST_OF_ONE) throw tooManyWatchers(MOST_OF_ONE, "of this principal ");
    if (watchers >= MOST_WATCHERS) throw tooManyWatchers(MOST_WATCHERS, "");
    watchers += 1;
    byPrincipal.set(who, own + 1);
    return () => {
      watchers -= 1;
      const left = byPrincipal.get(who)! - 1;
      if (left > 0) byPrincipal.set(who, left);
      else byPrincipal.delete(who);
    };
  }

  async function* read(context: RequestContext, filter: EventFilter, from: string) {
    const { workspaceId, principal, signal } = context;
    const query = <T>(work: () => Promise<T>): Promise<T> => whenDatabaseAnswers(runtime, signal, work);
    const alarm = createAlarm();
    const leave = [hub.onCommit(alarm.ring), hub.onHint(alarm.ring)];
    try {
      let after = from === "" ? await query(() => reads.present(workspaceId)) : readCursor(from);
      if (from !== "" && !(await query(() => reads.hasBegun(workspaceId, after.xid)))) throw noCursor();
      yield item(after);
      let toldAtMs = runtime.elapsedMs();
      /** Looks in a row that found only what a running transaction holds back. */
      for (let vain = 0; ; ) {
        const { rows, position, more, held } = await query(() => reads.read(workspaceId, after, filter, PAGE));
        for (const row of rows) yield item(row.position, eventOf(row, principal));
        const now = runtime.elapsedMs();
        if (rows.length > 0) toldAtMs = now;
        if (position !== after && now - toldAtMs >= SILENCE_MS) {
          yield item(position);
          toldAtMs = now;
        }
        vain = held && position === after ? vain + 1 : 0;
        after = position;
        if (more) continue;
        await runtime.wait(REST_MS, signal);
        await alarm.sleep(held ? Math.min(POLL_MS, REST_MS * 2 ** vain) : POLL_MS, signal);
      }
    } finally {
      for (const stop of leave) stop();
    }
  }

  return {
    async *watch(context, request, cursor) {
      const viewer = viewerOf(context.principal);
      const filter = { ...filterOf(request), ...(viewer && { viewer }) };
      const leave = takePlace(context);
      try {
        yield* read(context, filter, cursor);
      } finally {
        leave();
      }
    },
  };
}

function filterOf({ agentId, capabilityId, contextId, states }: WatchTasksRequest): EventFilter {
  const known = states.filter((state) => isEngineState(state));
  refuse([
    ...idViolations("agentId", agentId),
    ...idViolations("capabilityId", capabilityId),
    ...idViolations("contextId", contextId),
    ...(known.length === states.length ? [] : [{ field: "states", description: "must all be states of a task" }]),
  ]);
  return {
    ...(agentId !== "" && { agentId }),
    ...(capabilityId !== "" && { capabilityId }),
    ...(contextId !== "" && { contextId }),
    ...(states.length > 0 && { states: [...new Set(known)] }),
  };
}

const item = (position: EventPosition, event?: TaskEvent): WatchTasksResponse =>
  create(WatchTasksResponseSchema, { cursor: writeCursor(position), ...(event && { event }) });

function eventOf(
  { position, contextId, agentId, capabilityId, at, attempt, update }: EventRow,
  reader: Principal,
): TaskEvent {
  const isSeen = update.kind === "status" || update.kind === "artifact";
  return create(TaskEventSchema, {
    taskId: position.taskId,
    contextId,
    agentId,
    capabilityId: capabilityId ?? "",
    sequence: BigInt(update.seq),
    time: timestampFromDate(at),
    kind: UPDATE_KIND[update.kind],
    state: stateBrought(update) ?? EngineState.UNSPECIFIED,
    attempt,
    cause: shownCause(update.cause ?? "", reader),
    ...(isSeen && { update: update.body }),
  });
}

// A cursor is opaque to clients: a transaction, and a row of it.

const writeCursor = ({ xid, taskId, seq }: EventPosition): string =>
  Buffer.from(`${xid}.${seq}.${taskId}`).toString("base64url");

function readCursor(cursor: string): EventPosition {
  const text = Buffer.from(cursor.slice(0, 512), "base64url").toString();
  const [, xid, seq, taskId] = /^(\d{1,20})\.(\d{1,15})\.([\x20-\x7e]*)$/.exec(text) ?? [];
  if (xid === undefined || BigInt(xid) >= 2n ** 64n || taskId!.length > MAX_ID_LENGTH) throw noCursor();
  return { xid, taskId: taskId!, seq: Number(seq) };
}

const noCursor = () =>
  invalidArgument([
    {
      field: "cursor",
      description: "is not of this database's WatchTasks: send the cursor of an item, or none to begin now",
    },
  ]);

const tooManyWatchers = (most: number, whose: string) =>
  new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "TOO_MANY_WATCHERS",
    message: `${most} streams of all tasks ${whose}are open at this server, which is the most. Close one, or ask another server.`,
    metadata: { limit: String(most) },
    retryAfterMs: 5_000,
  });
