/** The second of the two hot writes of the task tables: rows that are added to logs. Each batch is one statement and one commit. */
import { routerActor } from "../domain/audit/actor.ts";
import type { AuditEvent } from "../domain/audit/entry.ts";
import {
  type Authorship,
  approvalSettled,
  eventsOfRows,
  type LoggedRow,
  rerouted,
} from "../domain/audit/task-events.ts";
import type { SignalboxError } from "../domain/errors.ts";
import { type NewUpdate, stateBrought } from "../domain/task-log.ts";
import { EngineState } from "../domain/task-state.ts";
import { SETTLED, type Settlement, settledJson } from "./approval-sql.ts";
import { chained, entriesText } from "./audit-sql.ts";
import { chainId } from "./audit-trail.ts";
import type { Database, Row } from "./database.ts";
import { replicaExpired } from "./database-errors.ts";
import { byteaArray, float8Array, int2Array, int4Array, int8Array, textArray, timestamptzArray } from "./pg-arrays.ts";
import { statementForms } from "./statement-forms.ts";
import { changedBy, statesBefore, wakeByDefault } from "./task-changes.ts";
import { encodeBody, encodeCause, encodeStatus, kindNumber } from "./task-codec.ts";
import type { TaskKey } from "./task-reads.ts";
import { AT_AGENT, AT_DEADLINE, ENDED, LEASED, UNLEASED, WAKE_AT } from "./task-sql.ts";

/** Rows to be added to a task's log, and what they change about the task. All or nothing. */
export interface Append {
  workspaceId: string;
  taskId: string;
  /** The last number that the writer knows. The append is refused when the log has moved on: there is one writer. */
  expectedSeq: number;
  /** The fencing token under which the writer writes. The append is refused when another has taken the task over. */
  fence: number;
  updates: readonly NewUpdate[];
  /** When it happened; the time of the status when a status is among the updates. */
  at: Date;
  /**
   * Takes the task over: it is this replica's from here, under the next token. A task that nobody has is also taken by an
   * append that brings it into a state in which somebody must have it.
   */
  take?: boolean;
  /**
   * Lets the append pass whatever the log's last number is. For a takeover without rows, which stops an owner that writes
   * so fast that nobody else's number is ever the last.
   */
  whateverSeq?: boolean;
  /**
   * For a state in which nobody has the task: when a replica should claim it. "at-agent", for QUEUED: when its agent has room.
   * Left out: at once in QUEUED and SCHEDULED; in INPUT_REQUIRED at its deadline, or never.
   */
  wakeInMs?: number | "at-agent";
  /** Makes the task visible to Get and List. */
  disclose?: boolean;
  /** Refuses the append when the task was disclosed meanwhile. */
  onlyIfHidden?: boolean;
  upstreamTaskId?: string;
  upstreamContextId?: string;
  /** Forgets what the agent calls the task: another attempt begins without a name. */
  forgetUpstream?: boolean;
  /**
   * Gives the task to another agent. Refused without `forgetUpstream` and without rows, and for a task that waits for its
   * client or ends: no agent ever has a task under the name that another gave it.
   */
  reroute?: Reroute;
  /** Whose the rows are, for the audit log. Left out: this replica's, of which nothing else is said. */
  author?: Author;
  /** What is charged to the budgets that the task holds of, if this ends it. Left out: what was declared. */
  cost?: AppendCost | undefined;
  /** Settles the approval that the task waits for. */
  settles?: Settlement;
}

/** Who writes rows, and what it knows of their task. */
export interface Author extends Authorship {
  /** Who has the task before the append. */
  readonly agentId: string;
}

/** What a task has cost, as its agent says. */
export interface AppendCost {
  /** In millionths of the currency. */
  micros: number;
  /** What that is beyond what the task has held at first, for each window of which it holds. */
  beyond: readonly BeyondHold[];
}

/** Of a window of a budget. Both are in millionths. */
export interface BeyondHold {
  key: string;
  /** The replica of whose slice the extra units were taken. */
  replicaId: string;
  /** Units that were taken of the slice. */
  extra: number;
  /** Units that were not to be had. */
  overrun: number;
}

/** The agent that has a task from now on, and what is known of it there. */
export interface Reroute {
  agentId: string;
  /** The capability for which it has it. */
  capabilityId: string | undefined;
  /** How it was chosen, as bytes, in place of how the agent before it was. */
  decision: Uint8Array;
  /** What it calls the task, if it has it already, and the task's context. */
  upstreamTaskId?: string | undefined;
  upstreamContextId?: string | undefined;
}

export interface Appended {
  disclosed: boolean;
  hasPush: boolean;
  /** The token from here on. */
  fence: number;
  attempt: number;
  leaseOwner: string | undefined;
}

/** What an append wants besides its rows, as bits of one number. */
const DISCLOSE = 1;
const ONLY_IF_HIDDEN = 2;
const TAKE = 4;
const FORGET = 8;
const WHATEVER_SEQ = 16;

const wants = (flag: number): string => `(i.flags & ${flag} <> 0)`;

/** Whether an append makes its writer the owner. */
const TAKES = `(${wants(TAKE)} or (t.lease_owner is null and coalesce(i.state, 0) in (${LEASED})))`;

const APPEND = statementForms(
  "task-append-v10",
  ({ isAudited, approves }) => `
    with input as (
      select * from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::int[], $6::int[], $7::timestamptz[],
                           $8::int[], $9::smallint[], $10::smallint[], $11::bytea[], $12::float8[], $13::bytea[],
                           $14::text[], $15::text[], $16::text[], $17::text[], $18::bytea[], $26::bigint[]
                           ${isAudited ? ", $32::text[]" : ""})
      with ordinality
      as i(workspace_id, task_id, expected, fence, added, flags, at, from_states, state, a2a_state, status, wake_ms,
           metadata, upstream_task_id, upstream_context_id, agent_id, capability_id, route_decision, cost,
           ${isAudited ? "entries, " : ""}ord)
    ), writer as (
      select exists (select from replicas where replica_id = $19 and died_at is null) as alive
    ), changed as (
      update tasks t set
        last_seq = t.last_seq + i.added,
        state = case when (i.from_states >> t.state) & 1 = 1 then coalesce(i.state, t.state) else 0 end,
        a2a_state = coalesce(i.a2a_state, t.a2a_state),
        status = case when i.a2a_state is null then t.status else i.status end,
        status_at = case when i.a2a_state is null then t.status_at else i.at end,
        disclosed = t.disclosed or ${wants(DISCLOSE)},
        metadata = coalesce(i.metadata, t.metadata),
        upstream_task_id = coalesce(i.upstream_task_id, case when not ${wants(FORGET)} then t.upstream_task_id end),
        upstream_context_id = coalesce(i.upstream_context_id, case when i.agent_id is null then t.upstream_context_id end),
        agent_id = coalesce(i.agent_id, t.agent_id),
        capability_id = case when i.agent_id is null then t.capability_id else i.capability_id end,
        route_decision = coalesce(i.route_decision, t.route_decision),
        earlier_agent_ids = case when i.agent_id is null then t.earlier_agent_ids else t.earlier_agent_ids || t.agent_id end,
        given_capability_id = case when i.agent_id is null or t.earlier_agent_ids is not null then t.given_capability_id
                                   else t.capability_id end,
        fence = t.fence + ${TAKES}::int,
        lease_owner = case when coalesce(i.state, t.state) not in (${LEASED}) and (i.state is not null or ${TAKES}) then null
                           when ${TAKES} then $19 else t.lease_owner end,
        wake_at = case when i.state is null and t.state in (${UNLEASED}) and ${TAKES}
                         -- Whoever had claimed it, because it was due, has lost it.
                         then coalesce(t.wake_at, date_trunc('milliseconds', clock_timestamp()))
                       when i.state is null then t.wake_at
                       when i.state = ${EngineState.QUEUED} and i.wake_ms is null then ${AT_DEADLINE("t.deadline_at")}
                       when i.state in (${UNLEASED})
                         then least(${WAKE_AT}, t.deadline_at) end
      from input i cross join writer w
      where t.workspace_id = i.workspace_id and t.task_id = i.task_id and (t.last_seq = i.expected or ${wants(WHATEVER_SEQ)})
        and t.fence = i.fence and t.state not in (${ENDED})
        and (i.added = 0 or t.lease_owner is null or t.lease_owner = $19 or ${TAKES})
        and not (${wants(ONLY_IF_HIDDEN)} and t.disclosed) and (w.alive or not ${TAKES})
        and (i.agent_id is null
             or (${wants(FORGET)} and i.added > 0 and coalesce(i.state, t.state) in (${AT_AGENT})))
      returning i.ord, i.expected, least(i.added, 1) as some, i.at, i.cost, t.workspace_id, t.task_id, t.disclosed,
                t.has_push, t.fence, t.attempt, t.lease_owner, t.state, t.holds${isAudited ? ", i.entries" : ""}
    ), logged as (
      insert into task_updates (workspace_id, task_id, seq, kind, body, cause, state, created_at, fence, attempt, written_by)
      select c.workspace_id, c.task_id, c.expected + r.position, r.kind, r.body, r.cause, r.state, c.at, c.fence,
             c.attempt, $19
      -- One row for each, of which the planner expects a thousand. Of an update it expects one, and would therefore go through
      -- the rows of all tasks for each of them.
      from (select c.* from changed c cross join lateral generate_series(1, c.some) offset 0) c
      join unnest($20::bigint[], $21::bigint[], $22::smallint[], $23::bytea[], $24::text[], $25::smallint[])
        as r(ord, position, kind, body, cause, state) on r.ord = c.ord
    ), spent as (
      -- What chargeOf reckons, of the holds as they are now: tasks on its behalf may have drawn on them since they were read.
      select alike.workspace_id, h.k as limit_key, h.r as replica_id, h.u * alike.tasks as units,
             alike.tasks * case when h.t = 'Q' then 0
                                when h.t = 'T' then case when alike.is_charged or h.f then h.u else 0 end
                                else least(h.u, greatest(0, coalesce(alike.cost, case when alike.is_charged or h.f then h.d else 0 end)
                                                            - coalesce(h.w, 0))) end as charged
      -- Most tasks of a batch held the same and ended alike, which is reckoned once.
      from (
        select workspace_id, state = ${EngineState.COMPLETED} as is_charged, cost, holds, count(*) as tasks
        from changed where state in (${ENDED}) and holds is not null group by 1, 2, 3, 4
      ) alike
      cross join lateral jsonb_to_recordset(alike.holds) as h(k text, t text, u bigint, r text, d bigint, w bigint, f boolean)
    ), settled as (
      insert into budget_settlements as b (workspace_id, limit_key, replica_id, written_by, released, charged, extra, overrun)
      select workspace_id, limit_key, replica_id, $19, sum(released)::bigint, sum(charged)::bigint, sum(extra)::bigint,
             sum(overrun)::bigint
      from (
        select workspace_id, limit_key, replica_id, units - charged as released, charged, 0 as extra, 0 as overrun from spent
        union all
        select c.workspace_id, x.limit_key, x.replica_id, 0, 0, x.extra, x.overrun
        from unnest($27::bigint[], $28::text[], $29::text[], $30::bigint[], $31::bigint[])
          as x(ord, limit_key, replica_id, extra, overrun)
        join changed c on c.ord = x.ord where c.state in (${ENDED})
      ) outcomes
      group by workspace_id, limit_key, replica_id order by workspace_id, limit_key, replica_id
      on conflict (workspace_id, limit_key, replica_id, written_by) do update set
        released = b.released + excluded.released, charged = b.charged + excluded.charged,
        -- The slice of a replica that is dead by now has no more than its tasks hold.
        extra = b.extra + case when b.is_closed then 0 else excluded.extra end,
        overrun = b.overrun + excluded.overrun + case when b.is_closed then excluded.extra else 0 end
    )${isAudited ? `, ${chained("$33", "select workspace_id, task_id, at, entries, ord from changed")}` : ""}
    ${approves ? SETTLED(isAudited ? "$34" : "$32") : ""}
    select w.alive, c.ord, c.disclosed, c.has_push, c.fence, c.attempt, c.lease_owner
    from writer w ${isAudited ? "cross join chained " : ""}left join changed c on true`,
);

/**
 * Appends a batch. An entry is undefined where the task was not as its writer believed, and REPLICA_EXPIRED where a replica
 * that was declared dead would have taken it; its neighbours are stored.
 */
export async function appendBatch(
  db: Database,
  replicaId: string,
  appends: readonly Append[],
  isAudited = true,
): Promise<(Appended | SignalboxError | undefined)[]> {
  // In one order on all replicas, so that none waits for a row of another which waits for it.
  const order = appends.map((_, i) => i).sort((a, b) => compareKeys(appends[a]!, appends[b]!));
  const sorted = order.map((i) => appends[i]!);
  const after = sorted.map((append) => changedBy(append.updates));
  const logs = sorted.map(({ updates, expectedSeq }, i) =>
    updates.map((update, p) => {
      const position = p + 1;
      return { update, seq: expectedSeq + position, body: encodeBody(update), ord: i + 1, position };
    }),
  );
  const rows = logs.flat();
  // What was taken under the id of before, when this replica was declared dead, is lost with that slice.
  const beyond = sorted.flatMap(
    ({ cost }, i) =>
      cost?.beyond.map(({ extra, overrun, ...of }) =>
        of.replicaId === replicaId
          ? { ...of, extra, overrun, ord: i + 1 }
          : { ...of, extra: 0, overrun: overrun + extra, ord: i + 1 },
      ) ?? [],
  );
  const approves = sorted.some(({ settles }) => settles);
  const stored = await db.query(APPEND({ isAudited, approves }), [
    textArray(sorted, (a) => a.workspaceId),
    textArray(sorted, (a) => a.taskId),
    int8Array(sorted, (a) => a.expectedSeq),
    int8Array(sorted, (a) => a.fence),
    int4Array(sorted, (a) => a.updates.length),
    int4Array(sorted, flagsOf),
    timestamptzArray(sorted, (a) => a.at),
    int4Array(after, (a) => statesBefore(a.states)),
    int2Array(after, (a) => a.states.at(-1)),
    int2Array(after, (a) => a.status?.state),
    byteaArray(after, ({ status }, i) => status && encodeStatus(status, sorted[i]!.at)),
    float8Array(sorted, (a, i) => wakeMs(a, after[i]!.states.at(-1))),
    byteaArray(after, (a) => a.metadata),
    textArray(sorted, ({ reroute, upstreamTaskId }) => (reroute ? reroute.upstreamTaskId : upstreamTaskId)),
    textArray(sorted, ({ reroute, upstreamContextId }) => (reroute ? reroute.upstreamContextId : upstreamContextId)),
    textArray(sorted, (a) => a.reroute?.agentId),
    textArray(sorted, (a) => a.reroute?.capabilityId),
    byteaArray(sorted, (a) => a.reroute?.decision),
    replicaId,
    int8Array(rows, (r) => r.ord),
    int8Array(rows, (r) => r.position),
    int2Array(rows, (r) => kindNumber(r.update.kind)),
    byteaArray(rows, (r) => r.body),
    textArray(rows, (r) => encodeCause(r.update)),
    int2Array(rows, (r) => stateBrought(r.update)),
    int8Array(sorted, (a) => a.cost?.micros),
    int8Array(beyond, (b) => b.ord),
    textArray(beyond, (b) => b.key),
    textArray(beyond, (b) => b.replicaId),
    int8Array(beyond, (b) => b.extra),
    int8Array(beyond, (b) => b.overrun),
    ...(isAudited
      ? [textArray(sorted, (a, i) => entriesText(eventsOf(a, logs[i]!, replicaId))), chainId(replicaId, "a")]
      : []),
    ...(approves ? [settledJson(sorted)] : []),
  ]);
  const alive = stored[0]?.alive === true;
  const answers: (Appended | SignalboxError | undefined)[] = appends.map(({ take }) =>
    take && !alive ? replicaExpired() : undefined,
  );
  for (const row of stored) if (row.ord !== null) answers[order[(row.ord as number) - 1]!] = appended(row);
  return answers;
}

function eventsOf(append: Append, log: readonly LoggedRow[], replicaId: string): AuditEvent[] {
  const { reroute, author = { by: routerActor(replicaId), from: undefined, attempt: undefined, agentId: undefined } } =
    append;
  const { settles } = append;
  const events = [...(settles ? [approvalSettled(append, author, settles)] : []), ...eventsOfRows(append, log, author)];
  if (!reroute) return events;
  const { agentId: to, decision } = reroute;
  return [rerouted(append, author.by, { from: author.agentId, to, decision }), ...events];
}

/** Null for QUEUED: it waits at its agent. */
const wakeMs = ({ wakeInMs }: Append, state: EngineState | undefined): number | null =>
  wakeInMs === "at-agent" ? null : (wakeInMs ?? wakeByDefault(state));

const flagsOf = ({ disclose, onlyIfHidden, take, forgetUpstream, whateverSeq }: Append): number =>
  (disclose ? DISCLOSE : 0) |
  (onlyIfHidden ? ONLY_IF_HIDDEN : 0) |
  (take ? TAKE : 0) |
  (forgetUpstream ? FORGET : 0) |
  (whateverSeq ? WHATEVER_SEQ : 0);

const appended = (row: Row): Appended => ({
  disclosed: row.disclosed as boolean,
  hasPush: row.has_push as boolean,
  fence: row.fence as number,
  attempt: row.attempt as number,
  leaseOwner: (row.lease_owner as string | null) ?? undefined,
});

/** The order in which rows of tasks are locked. */
export const compareKeys = (a: TaskKey, b: TaskKey): number =>
  compare(a.workspaceId, b.workspaceId) || compare(a.taskId, b.taskId);

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
