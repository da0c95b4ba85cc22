/** What statements say of the states that tasks are in, and of when they are due. */
import { ANONYMOUS } from "../domain/identity/principal.ts";
import { EngineState } from "../domain/task-state.ts";

const { COMPLETED, FAILED, CANCELED, REJECTED, QUEUED, SCHEDULED, INPUT_REQUIRED, ASSIGNED, WORKING, AUTH_REQUIRED } =
  EngineState;
/** States that end a task. */
export const ENDED = [COMPLETED, FAILED, CANCELED, REJECTED].join(", ");
/** States in which a replica has a task. */
export const LEASED = [ASSIGNED, WORKING, AUTH_REQUIRED].join(", ");
/** States in which an agent may get a task that another had. */
export const AT_AGENT = [ASSIGNED, WORKING, SCHEDULED].join(", ");
/** Waiting states, in which `wake_at` counts. */
export const UNLEASED = [QUEUED, SCHEDULED, INPUT_REQUIRED].join(", ");
/**
 * Counted from one moment for all of a batch: who asked for the shorter wait is due first. Truncated, because the column
 * would round it up: what waits for nothing must be due at once.
 */
export const WAKE_AT = `date_trunc('milliseconds', statement_timestamp() + i.wake_ms * interval '1 millisecond')`;

/** The capability that a task's client gave it to, by the row of the task. */
export const GIVEN_CAPABILITY = "case when earlier_agent_ids is null then capability_id else given_capability_id end";

/**
 * What a viewer may do with the task of a row: 1 read, 2 change, null nothing, as `accessTo` of domain/identity/visibility.ts. `viewer` and
 * `roles` are expressions: an id, null for who sees all, and an array of text.
 */
export const ACCESS = (task: string, viewer: string, roles: string): string => `
  case when ${viewer} is null or coalesce(${task}.principal_id, '${ANONYMOUS}') = ${viewer} then 2 else (
    select max(1 + s.can_write::int) from context_shares s
    where s.workspace_id = ${task}.workspace_id and s.owner_id = ${task}.principal_id and s.context_id = ${task}.context_id
      and ((s.subject_kind = ${BY_PRINCIPAL} and s.subject = ${viewer}) or (s.subject_kind = ${BY_ROLE} and s.subject = any(${roles})))
  ) end`;

/** Numbers of `context_shares.subject_kind`. */
export const BY_PRINCIPAL = 1;
export const BY_ROLE = 2;

/** `wake_at` of a task that waits for room at its agent: anybody may claim it then, to end it. The index of those knows them by it. */
export const AT_DEADLINE = (deadline: string): string => `coalesce(${deadline}, timestamptz '9999-12-31 00:00:00Z')`;
