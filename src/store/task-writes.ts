/** The two hot writes of the task tables: submit and append. Each batch is one statement and one commit. */
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { SignalboxError } from "../domain/errors.ts";
import { type NewUpdate, PRIORITIES, stateBrought, type TaskHeader } from "../domain/task-log.ts";
import { EngineState, INITIAL_STATES, mayGo } from "../domain/task-state.ts";
import type { Database, Row } from "./database.ts";
import {
  boolArray,
  byteaArray,
  float8Array,
  int2Array,
  int4Array,
  int8Array,
  textArray,
  timestamptzArray,
} from "./pg-arrays.ts";
import { changedBy, statesBefore, wakeByDefault } from "./task-changes.ts";
import { encodeBody, encodeCause, encodeDelivery, encodeStatus, kindNumber } from "./task-codec.ts";
import type { TaskKey } from "./task-reads.ts";

/**
 * A task to be stored, with the first rows of its log; the last that brings a state brings its own. In ASSIGNED it is born leased
 * to the replica that stores it; in QUEUED or SCHEDULED it has no owner, and waits `wakeInMs`, or "at-agent": until its agent has
 * room for it, and to its deadline at most; it may also have ended already.
 */
export interface NewTask {
  header: TaskHeader;
  updates: readonly NewUpdate[];
  wakeInMs?: number | "at-agent";
  /** How its agent was chosen, as bytes; `readDecision` gives them back. */
  decision?: Uint8Array;
}

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
   * For a state in which nobody has the task: when a replica should claim it. Left out: at once in QUEUED and SCHEDULED; in
   * INPUT_REQUIRED at its deadline, or never.
   */
  wakeInMs?: number;
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

const { COMPLETED, FAILED, CANCELED, REJECTED, QUEUED, SCHEDULED, INPUT_REQUIRED, ASSIGNED, WORKING, AUTH_REQUIRED } =
  EngineState;
const ENDED = [COMPLETED, FAILED, CANCELED, REJECTED].join(", ");
const LEASED = [ASSIGNED, WORKING, AUTH_REQUIRED].join(", ");
/** States in which an agent may get a task that another had. */
const AT_AGENT = [ASSIGNED, WORKING, SCHEDULED].join(", ");
/** Waiting states, in which `wake_at` counts. */
const UNLEASED = [QUEUED, SCHEDULED, INPUT_REQUIRED].join(", ");
/**
 * Counted from one moment for all of a batch: who asked for the shorter wait is due first. Truncated, because the column
 * would round it up: what waits for nothing must be due at once.
 */
const WAKE_AT = `date_trunc('milliseconds', statement_timestamp() + i.wake_ms * interval '1 millisecond')`;

/** `wake_at` of a task that waits for room at its agent: anybody may claim it then, to end it. The index of those knows them by it. */
export const AT_DEADLINE = (deadline: string): string => `coalesce(${deadline}, timestamptz '9999-12-31 00:00:00Z')`;

const SUBMIT = {
  name: "task-submit-v5",
  text: `
    with input as (
      select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[], $7::boolean[],
                           $8::boolean[], $9::text[], $10::smallint[], $11::smallint[], $12::float8[], $13::timestamptz[],
                           $14::bytea[], $15::integer[], $16::text[], $17::bytea[], $18::bytea[])
      as i(workspace_id, task_id, context_id, agent_id, at, last_seq, disclosed, has_push, upstream_context_id,
           state, priority, wake_ms, deadline_at, delivery, attempt, capability_id, route_decision, status)
    ), writer as (
      select replica_id from replicas where replica_id = $19 and died_at is null
    ), stored as (
      insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status, status_at, last_seq,
                         disclosed, has_push, upstream_context_id, created_at, priority, deadline_at, delivery, attempt,
                         capability_id, route_decision, lease_owner, wake_at)
      select i.workspace_id, i.task_id, i.context_id, i.agent_id, i.state,
             case when i.state in (${ENDED}) and i.last_seq > 1 then i.state else ${TaskState.SUBMITTED} end, i.status, i.at,
             i.last_seq, i.disclosed, i.has_push, i.upstream_context_id, i.at, i.priority, i.deadline_at, i.delivery,
             i.attempt, i.capability_id, i.route_decision,
             case when i.state in (${LEASED}) then w.replica_id end,
             case when i.state in (${UNLEASED})
               then case when i.wake_ms is null then ${AT_DEADLINE("i.deadline_at")} else least(${WAKE_AT}, i.deadline_at) end end
      from input i cross join writer w
      on conflict do nothing
      returning workspace_id, task_id, created_at, attempt, fence
    ), logged as (
      insert into task_updates (workspace_id, task_id, seq, kind, body, cause, state, created_at, fence, attempt, written_by)
      select s.workspace_id, s.task_id, r.seq, r.kind, r.body, r.cause, r.state, s.created_at, s.fence, s.attempt, $19
      from unnest($20::text[], $21::text[], $22::bigint[], $23::smallint[], $24::bytea[], $25::text[], $26::smallint[])
        as r(workspace_id, task_id, seq, kind, body, cause, state)
      join stored s on s.workspace_id = r.workspace_id and s.task_id = r.task_id
    )
    select 1 from writer`,
};

/**
 * Stores a batch of tasks. A task that is stored already stays as it is, so that a submit whose answer was lost can be
 * made again. Returns the replica that stored them, and has those that are born leased.
 *
 * @throws SignalboxError REPLICA_EXPIRED when this replica was declared dead: nothing was stored.
 */
export async function submitBatch(db: Database, replicaId: string, tasks: readonly NewTask[]): Promise<string> {
  const rows = tasks.flatMap(({ header, updates }) => updates.map((update, i) => ({ header, update, seq: i + 1 })));
  const writer = await db.query(SUBMIT, [
    textArray(tasks, (t) => t.header.workspaceId),
    textArray(tasks, (t) => t.header.taskId),
    textArray(tasks, (t) => t.header.contextId),
    textArray(tasks, (t) => t.header.agentId),
    timestamptzArray(tasks, (t) => t.header.createdAt),
    int8Array(tasks, (t) => t.updates.length),
    boolArray(tasks, (t) => t.header.disclosed),
    boolArray(tasks, (t) => t.header.hasPush),
    textArray(tasks, (t) => t.header.upstreamContextId),
    int2Array(tasks, bornState),
    int2Array(tasks, (t) => PRIORITIES.indexOf(t.header.priority)),
    float8Array(tasks, ({ wakeInMs = 0 }) => (wakeInMs === "at-agent" ? undefined : wakeInMs)),
    timestamptzArray(tasks, (t) => t.header.deadlineAt),
    byteaArray(tasks, (t) => encodeDelivery(t.header.delivery)),
    int4Array(tasks, (t) => t.header.attempt),
    textArray(tasks, (t) => t.header.capabilityId),
    byteaArray(tasks, (t) => t.decision),
    byteaArray(tasks, bornStatus),
    replicaId,
    textArray(rows, (r) => r.header.workspaceId),
    textArray(rows, (r) => r.header.taskId),
    int8Array(rows, (r) => r.seq),
    int2Array(rows, (r) => kindNumber(r.update.kind)),
    byteaArray(rows, (r) => encodeBody(r.update)),
    textArray(rows, (r) => encodeCause(r.update)),
    int2Array(rows, (r) => stateBrought(r.update)),
  ]);
  if (writer.length === 0) throw replicaExpired();
  return replicaId;
}

/** The state that follows from a task's first rows; one that no task has where these do not follow each other. */
function bornState({ updates }: NewTask): EngineState | typeof NO_STATE {
  const first = (updates[0] && stateBrought(updates[0])) ?? QUEUED;
  let state: EngineState = first;
  for (let i = 1; i < updates.length; i++) {
    const next = stateBrought(updates[i]!) ?? state;
    if (next !== state && !mayGo(state, next)) return NO_STATE;
    state = next;
  }
  return state === first || INITIAL_STATES.includes(first) ? state : NO_STATE;
}

const NO_STATE = 0;

/** What the task's own row says of its status, for one that has more than begun. */
function bornStatus({ updates, header }: NewTask): Uint8Array | null {
  const status = updates.length > 1 ? changedBy(updates).status : undefined;
  return status ? encodeStatus(status, header.createdAt) : null;
}

/** This replica was silent for so long that the others took its tasks over. It registers anew within moments. */
export const replicaExpired = (): SignalboxError =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "REPLICA_EXPIRED",
    message:
      "This server was out of touch with its database for too long and is joining again. Nothing was stored; try again.",
    retryAfterMs: 1000,
  });

/** What an append wants besides its rows, as bits of one number. */
const DISCLOSE = 1;
const ONLY_IF_HIDDEN = 2;
const TAKE = 4;
const FORGET = 8;
const WHATEVER_SEQ = 16;

const wants = (flag: number): string => `(i.flags & ${flag} <> 0)`;

/** Whether an append makes its writer the owner. */
const TAKES = `(${wants(TAKE)} or (t.lease_owner is null and coalesce(i.state, 0) in (${LEASED})))`;

const APPEND = {
  name: "task-append-v5",
  text: `
    with input as (
      select * from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::int[], $6::int[], $7::timestamptz[],
                           $8::int[], $9::smallint[], $10::smallint[], $11::bytea[], $12::float8[], $13::bytea[],
                           $14::text[], $15::text[], $16::text[], $17::text[], $18::bytea[])
      with ordinality
      as i(workspace_id, task_id, expected, fence, added, flags, at, from_states, state, a2a_state, status, wake_ms,
           metadata, upstream_task_id, upstream_context_id, agent_id, capability_id, route_decision, ord)
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
                       when i.state in (${UNLEASED})
                         then least(${WAKE_AT}, t.deadline_at) end
      from input i cross join writer w
      where t.workspace_id = i.workspace_id and t.task_id = i.task_id and (t.last_seq = i.expected or ${wants(WHATEVER_SEQ)})
        and t.fence = i.fence and t.state not in (${ENDED})
        and (i.added = 0 or t.lease_owner is null or t.lease_owner = $19 or ${TAKES})
        and not (${wants(ONLY_IF_HIDDEN)} and t.disclosed) and (w.alive or not ${TAKES})
        and (i.agent_id is null
             or (${wants(FORGET)} and i.added > 0 and coalesce(i.state, t.state) in (${AT_AGENT})))
      returning i.ord, i.expected, i.at, t.workspace_id, t.task_id, t.disclosed, t.has_push, t.fence, t.attempt,
                t.lease_owner
    ), logged as (
      insert into task_updates (workspace_id, task_id, seq, kind, body, cause, state, created_at, fence, attempt, written_by)
      select c.workspace_id, c.task_id, c.expected + r.position, r.kind, r.body, r.cause, r.state, c.at, c.fence,
             c.attempt, $19
      from unnest($20::bigint[], $21::bigint[], $22::smallint[], $23::bytea[], $24::text[], $25::smallint[])
        as r(ord, position, kind, body, cause, state)
      join changed c on c.ord = r.ord
    )
    select w.alive, c.ord, c.disclosed, c.has_push, c.fence, c.attempt, c.lease_owner
    from writer w left join changed c on true`,
};

/**
 * Appends a batch. An entry is undefined where the task was not as its writer believed, and REPLICA_EXPIRED where a replica
 * that was declared dead would have taken it; its neighbours are stored.
 */
export async function appendBatch(
  db: Database,
  replicaId: string,
  appends: readonly Append[],
): Promise<(Appended | SignalboxError | undefined)[]> {
  // In one order on all replicas, so that none waits for a row of another which waits for it.
  const order = appends.map((_, i) => i).sort((a, b) => compareKeys(appends[a]!, appends[b]!));
  const sorted = order.map((i) => appends[i]!);
  const after = sorted.map((append) => changedBy(append.updates));
  const rows = sorted.flatMap(({ updates }, i) =>
    updates.map((update, p) => ({ update, ord: i + 1, position: p + 1 })),
  );
  const stored = await db.query(APPEND, [
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
    float8Array(sorted, (a, i) => a.wakeInMs ?? wakeByDefault(after[i]!.states.at(-1))),
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
    byteaArray(rows, (r) => encodeBody(r.update)),
    textArray(rows, (r) => encodeCause(r.update)),
    int2Array(rows, (r) => stateBrought(r.update)),
  ]);
  const alive = stored[0]?.alive === true;
  const answers: (Appended | SignalboxError | undefined)[] = appends.map(({ take }) =>
    take && !alive ? replicaExpired() : undefined,
  );
  for (const row of stored) if (row.ord !== null) answers[order[(row.ord as number) - 1]!] = appended(row);
  return answers;
}

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
