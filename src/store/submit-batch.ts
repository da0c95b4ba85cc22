/** The first of the two hot writes of the task tables: tasks that begin. Each batch is one statement and one commit. */
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { routerActor } from "../domain/audit/actor.ts";
import type { AuditEvent } from "../domain/audit/entry.ts";
import { type Acceptance, approvalAsked, eventsOfNewTask, type LoggedRow } from "../domain/audit/task-events.ts";
import { type NewUpdate, PRIORITIES, stateBrought, type TaskHeader } from "../domain/task-log.ts";
import { EngineState, INITIAL_STATES, mayGo } from "../domain/task-state.ts";
import { ASKED, askedJson, type NewApproval } from "./approval-sql.ts";
import { chained, entriesText } from "./audit-sql.ts";
import { chainId } from "./audit-trail.ts";
import type { Row, Statement } from "./database.ts";
import { isClosedSlice, replicaExpired } from "./database-errors.ts";
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
import { statementForms } from "./statement-forms.ts";
import { changedBy, NO_STATE } from "./task-changes.ts";
import { encodeBody, encodeCause, encodeDelivery, encodeHolds, encodeStatus, kindNumber } from "./task-codec.ts";
import { AT_DEADLINE, ENDED, LEASED, UNLEASED, WAKE_AT } from "./task-sql.ts";

/**
 * A task to be stored, with the first rows of its log; the last that brings a state brings its own. In ASSIGNED it is born leased
 * to the replica that stores it; in QUEUED or SCHEDULED it has no owner, and waits `wakeInMs`, or "at-agent": until its agent has
 * room for it, and to its deadline at most; it may also have ended already. With an approval it is born in INPUT_REQUIRED, and
 * `wakeInMs` says when that expires.
 */
export interface NewTask {
  header: TaskHeader;
  updates: readonly NewUpdate[];
  wakeInMs?: number | "at-agent";
  /** How its agent was chosen, as bytes; `readDecision` gives them back. */
  decision?: Uint8Array;
  /** The replica that has reserved its key: only that one may store it. Undefined: whichever does. */
  reservedBy?: string;
  /** Who has it accepted, for the audit log. Left out: this replica, by itself. */
  accepted?: Acceptance;
  /** Those of its holds that come of its parent's, by their keys; the others were reserved for it. */
  drawn?: ReadonlySet<string>;
  /** What it waits for first. */
  approval?: NewApproval;
}

/** The states that a task may be born in which clients see as they are. */
const SEEN_WITH_APPROVALS = `${ENDED}, ${EngineState.INPUT_REQUIRED}`;

const SUBMIT = statementForms(
  "task-submit-v10",
  ({ isAudited, approves }) => `
    with input as (
      select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[], $7::boolean[],
                           $8::boolean[], $9::text[], $10::smallint[], $11::smallint[], $12::float8[], $13::timestamptz[],
                           $14::bytea[], $15::integer[], $16::text[], $17::bytea[], $18::bytea[], $27::text[],
                           $28::text[], $29::text[], $30::text[], $31::smallint[], $32::text[])
      as i(workspace_id, task_id, context_id, agent_id, at, last_seq, disclosed, has_push, upstream_context_id,
           state, priority, wake_ms, deadline_at, delivery, attempt, capability_id, route_decision, status,
           given_capability_id, holds, parent_task_id, parent_agent_id, delegation_depth, principal_id)
    ), writer as (
      select replica_id from replicas where replica_id = $19 and died_at is null
    ), stored as (
      insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status, status_at, last_seq,
                         disclosed, has_push, upstream_context_id, created_at, priority, deadline_at, delivery, attempt,
                         capability_id, given_capability_id, earlier_agent_ids, route_decision, lease_owner, wake_at,
                         holds, parent_task_id, parent_agent_id, delegation_depth, principal_id)
      select i.workspace_id, i.task_id, i.context_id, i.agent_id, i.state,
             case when i.state in (${approves ? SEEN_WITH_APPROVALS : ENDED}) and i.last_seq > 1 then i.state
                  else ${TaskState.SUBMITTED} end, i.status, i.at,
             i.last_seq, i.disclosed, i.has_push, i.upstream_context_id, i.at, i.priority, i.deadline_at, i.delivery,
             i.attempt, i.capability_id, i.given_capability_id,
             case when i.given_capability_id is not null then '{}'::text[] end, i.route_decision,
             case when i.state in (${LEASED}) then w.replica_id end,
             case when i.state in (${UNLEASED})
               then case when i.wake_ms is null then ${AT_DEADLINE("i.deadline_at")} else least(${WAKE_AT}, i.deadline_at) end end,
             i.holds::jsonb, i.parent_task_id, i.parent_agent_id, i.delegation_depth, i.principal_id
      from input i cross join writer w
      on conflict do nothing
      returning workspace_id, task_id, created_at, attempt, fence, holds${approves ? ", wake_at" : ""}
    ), begun as (
      select r.*, s.created_at, s.fence, s.attempt
      from unnest($20::text[], $21::text[], $22::bigint[], $23::smallint[], $24::bytea[], $25::text[], $26::smallint[]
                  ${isAudited ? ", $33::text[]" : ""}) with ordinality
        as r(workspace_id, task_id, seq, kind, body, cause, state, ${isAudited ? "entries, " : ""}ord)
      join stored s on s.workspace_id = r.workspace_id and s.task_id = r.task_id
    ), logged as (
      insert into task_updates (workspace_id, task_id, seq, kind, body, cause, state, created_at, fence, attempt, written_by)
      select workspace_id, task_id, seq, kind, body, cause, state, created_at, fence, attempt, $19 from begun
    ), reserved as (
      insert into budget_reservations as b (workspace_id, limit_key, replica_id, units)
      select h.workspace_id, h.limit_key, h.replica_id, sum(h.units)::bigint
      from (
        select alike.workspace_id, each.k as limit_key, each.r as replica_id, each.u * alike.tasks as units
        -- Most tasks of a batch hold the same, which is read once.
        from (select workspace_id, holds, count(*) as tasks from stored where holds is not null group by workspace_id, holds) alike
        cross join lateral jsonb_to_recordset(alike.holds) as each(k text, r text, u bigint, p boolean)
        where each.u > 0 and each.p is null
      ) h
      group by h.workspace_id, h.limit_key, h.replica_id order by h.workspace_id, h.limit_key, h.replica_id
      on conflict (workspace_id, limit_key, replica_id) do update set units = b.units + excluded.units
    )${isAudited ? `, ${chained("$34", "select workspace_id, task_id, created_at as at, entries, ord from begun")}` : ""}
    ${approves ? ASKED(isAudited ? "$35" : "$33") : ""}
    select 1 from writer${isAudited ? " cross join chained" : ""}`,
);

/** Runs a statement: on its own, or within a transaction. */
export type RunStatement = (statement: Statement, values: readonly unknown[]) => Promise<Row[]>;

/**
 * Stores a batch of tasks. A task that is stored already stays as it is, so that a submit whose answer was lost can be
 * made again. Returns the replica that stored them, and has those that are born leased.
 *
 * @throws SignalboxError REPLICA_EXPIRED when this replica was declared dead: nothing was stored.
 */
export async function submitBatch(
  db: { readonly query: RunStatement },
  replicaId: string,
  tasks: readonly NewTask[],
  isAudited = true,
): Promise<string> {
  const logs = tasks.map(({ updates }) =>
    updates.map((update, i) => ({ update, seq: i + 1, body: encodeBody(update) })),
  );
  const rows = tasks.flatMap((task, i) => logs[i]!.map((row) => ({ ...row, task, log: logs[i]! })));
  const approves = tasks.some(({ approval }) => approval);
  const values = [
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
    textArray(rows, (r) => r.task.header.workspaceId),
    textArray(rows, (r) => r.task.header.taskId),
    int8Array(rows, (r) => r.seq),
    int2Array(rows, (r) => kindNumber(r.update.kind)),
    byteaArray(rows, (r) => r.body),
    textArray(rows, (r) => encodeCause(r.update)),
    int2Array(rows, (r) => stateBrought(r.update)),
    textArray(tasks, (t) => t.header.origin?.capabilityId),
    textArray(tasks, (t) => encodeHolds(t.header.holds, t.drawn)),
    textArray(tasks, (t) => t.header.parent?.taskId),
    textArray(tasks, (t) => t.header.parent?.agentId),
    int2Array(tasks, (t) => t.header.parent?.depth),
    textArray(tasks, (t) => t.header.owner),
    // With the first row of each.
    ...(isAudited
      ? [
          textArray(rows, ({ task, log, seq }) => (seq === 1 ? entriesText(eventsOf(task, log, replicaId)) : null)),
          chainId(replicaId, "s"),
        ]
      : []),
    ...(approves ? [askedJson(tasks)] : []),
  ];
  const writer = await db.query(SUBMIT({ isAudited, approves }), values).catch((error: unknown) => {
    // Another replica knew that this one is dead before it did.
    throw isClosedSlice(error) ? replicaExpired() : error;
  });
  if (writer.length === 0) throw replicaExpired();
  return replicaId;
}

function eventsOf(task: NewTask, log: readonly LoggedRow[], replicaId: string): AuditEvent[] {
  const { header, decision, accepted, approval } = task;
  const router = routerActor(replicaId);
  const events = eventsOfNewTask(header, log, accepted ?? { by: router }, decision, router);
  const { workspaceId, taskId, createdAt: at } = header;
  return approval ? [...events, approvalAsked({ workspaceId, taskId, at }, router, approval)] : events;
}

/** The state that follows from a task's first rows; one that no task has where these do not follow each other. */
function bornState({ updates }: NewTask): EngineState | typeof NO_STATE {
  const first = (updates[0] && stateBrought(updates[0])) ?? EngineState.QUEUED;
  let state: EngineState = first;
  for (let i = 1; i < updates.length; i++) {
    const next = stateBrought(updates[i]!) ?? state;
    if (next !== state && !mayGo(state, next)) return NO_STATE;
    state = next;
  }
  return state === first || INITIAL_STATES.includes(first) ? state : NO_STATE;
}

/** What the task's own row says of its status, for one that has more than begun. */
function bornStatus({ updates, header }: NewTask): Uint8Array | null {
  const status = updates.length > 1 ? changedBy(updates).status : undefined;
  return status ? encodeStatus(status, header.createdAt) : null;
}
