/**
 * Lists of tasks. A page costs the same wherever it begins and however many tasks there are, because each kind of list has an index in
 * its order, or one that finds few.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { type Expression, type RawBuilder, type SqlBool, sql } from "kysely";
import { type Task, TaskSchema, TaskState, type TaskStatus } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ANONYMOUS } from "../domain/identity/principal.ts";
import type { Viewer } from "../domain/identity/visibility.ts";
import type { TaskHeader } from "../domain/task-log.ts";
import { EngineState } from "../domain/task-state.ts";
import type { Database, Reader, Row } from "./database.ts";
import { decodeHeader, decodeStatus } from "./task-codec.ts";
import { EXACT_TOTAL, estimateTotal } from "./task-list-estimate.ts";
import { HEADER_COLUMNS } from "./task-reads.ts";
import { BY_PRINCIPAL, BY_ROLE } from "./task-sql.ts";

export interface TaskFilter {
  contextId?: string;
  agentId?: string;
  capabilityId?: string;
  state?: TaskState;
  engineState?: EngineState;
  /** Tasks whose status is of this time or later. */
  statusFrom?: Date;
}

/** Where a page begins: after this task, in the order of the list. */
export interface TaskCursor {
  statusAt: Date;
  taskId: string;
}

export interface ListedTask {
  header: TaskHeader;
  state: EngineState;
  status: TaskStatus;
  statusAt: Date;
  metadata: Task["metadata"];
}

/** A page of a list. `viewer`: who sees what is its own or shared with it; undefined sees all. */
export interface ListPage {
  after?: TaskCursor;
  limit: number;
  viewer: Viewer | undefined;
}

export interface TaskList {
  tasks: ListedTask[];
  /** How many there are on all pages: exactly up to 10,000, beyond that an estimate of 10,001 or more. */
  total: number;
}

/** Disclosed tasks that the viewer sees, newest status first, and how many there are in all. */
export const listTasks = (
  db: Pick<Database, "reading">,
  workspaceId: string,
  filter: TaskFilter,
  page: ListPage,
): Promise<TaskList> => db.reading(workspaceId, (reader) => listWith(reader, workspaceId, filter, page));

async function listWith(
  { kysely }: Pick<Reader, "kysely">,
  workspaceId: string,
  filter: TaskFilter,
  { after, limit, viewer }: ListPage,
): Promise<TaskList> {
  const matching = kysely
    .selectFrom("tasks")
    .where("workspace_id", "=", workspaceId)
    // A constant, so that the planner sees that the indexes for lists have them all.
    .where(sql<SqlBool>`disclosed`)
    .where(and(filtersOf(filter)));
  const [first, ...others] = partsOf(workspaceId, filter, viewer);

  const page = (part: Expression<SqlBool>) =>
    matching
      .where(() => part)
      .select(["workspace_id", "task_id", "state", "a2a_state", "status", "status_at", "metadata", ...HEADER_COLUMNS])
      .$if(after !== undefined, (q) => q.where(() => beyond(after!)))
      .orderBy("status_at", "desc")
      .orderBy("task_id", "desc")
      .limit(limit);
  const listed = others.reduce(
    (pages, part) => pages.unionAll(kysely.selectFrom(page(part).as("p")).selectAll()),
    kysely.selectFrom(page(first).as("p")).selectAll(),
  );
  const rows = await listed.orderBy("status_at", "desc").orderBy("task_id", "desc").limit(limit).execute();
  // In the order of the list, by the index of the list: how the rows lie in the table says nothing about where those are that match.
  const each = (part: Expression<SqlBool>) =>
    kysely
      .selectFrom(
        matching
          .where(() => part)
          .select("status_at")
          .orderBy("status_at", "desc")
          .limit(EXACT_TOTAL + 1)
          .as("p"),
      )
      .selectAll();
  // The limit holds for all parts together: they are read one after the other, and no further than it takes.
  const counted = others.reduce((counts, part) => counts.unionAll(each(part)), each(first)).limit(EXACT_TOTAL + 1);
  const { n } = await kysely
    .selectFrom(counted.as("c"))
    .select((eb) => eb.fn.countAll<number>().as("n"))
    .executeTakeFirstOrThrow();
  return {
    total:
      n <= EXACT_TOTAL
        ? n
        : await estimateTotal(kysely, workspaceId, matchingOf(workspaceId, filter, viewer), filter.statusFrom),
    tasks: rows.map((row) => ({
      header: decodeHeader(row as unknown as Row),
      state: row.state as EngineState,
      status: decodeStatus(row as unknown as Row),
      statusAt: row.status_at,
      metadata: row.metadata ? fromBinary(TaskSchema, row.metadata).metadata : undefined,
    })),
  };
}

type Condition = RawBuilder<SqlBool>;

const and = (conditions: readonly Condition[]): Condition =>
  conditions.length === 0 ? sql`true` : sql`(${sql.join(conditions, sql` and `)})`;
const or = (conditions: readonly Condition[]): Condition => sql`(${sql.join(conditions, sql` or `)})`;

/** The conditions of a filter, but for who it was given to. States are constants, for the planner to know which indexes have them. */
function filtersOf({ contextId, state, engineState, statusFrom }: TaskFilter): Condition[] {
  return [
    ...(contextId === undefined ? [] : [sql<SqlBool>`context_id = ${contextId}`]),
    ...(state === undefined ? [] : [sql<SqlBool>`a2a_state = ${sql.lit(state)}`]),
    ...(engineState === undefined ? [] : [sql<SqlBool>`state = ${sql.lit(engineState)} and ${seenAs(engineState)}`]),
    ...(statusFrom === undefined ? [] : [sql<SqlBool>`status_at >= ${statusFrom}`]),
  ];
}

/** What clients see of a task in a state of the engine: what the check `tasks_seen` of the table says. */
function seenAs(state: EngineState): Condition {
  const isOwn = state !== EngineState.QUEUED && state !== EngineState.ASSIGNED && state !== EngineState.SCHEDULED;
  if (isOwn) return sql`a2a_state = ${sql.lit(state)}`;
  return sql`a2a_state in (${sql.lit(TaskState.SUBMITTED)}, ${sql.lit(TaskState.WORKING)})`;
}

/** A condition that some of the tasks meet. */
interface Part {
  condition: Condition;
  /** Whether an index has those of them that rest, in order. */
  isRestIndexed: boolean;
}

/** Conditions that hold of no task at once, and together of all that are listed: each is read by an index of its own. */
function partsOf(workspaceId: string, filter: TaskFilter, viewer: Viewer | undefined): [Condition, ...Condition[]] {
  const ofState = (filter.state ?? filter.engineState ?? COMPLETED) !== COMPLETED;
  const parts = seenBy(workspaceId, viewer).flatMap((seen) =>
    givenTo(filter).flatMap((given) => {
      const condition = and([seen.condition, given.condition]);
      // Tasks of one context are found by it.
      if (filter.contextId !== undefined || !(seen.isRestIndexed || given.isRestIndexed || ofState)) return [condition];
      // What runs is little, and known by its lease; so the indexes of what rests are written once a task, when it comes to rest, and
      // not whenever its status changes.
      return [and([condition, sql`lease_owner is null`]), and([condition, sql`lease_owner is not null`])];
    }),
  );
  return parts as [Condition, ...Condition[]];
}

/** Tasks of this state have no index of their own: where a workspace has many tasks, most of them are completed. */
const COMPLETED: number = EngineState.COMPLETED;

/** The same as one condition of a single task. */
function matchingOf(workspaceId: string, filter: TaskFilter, viewer: Viewer | undefined): Condition {
  const any = (parts: readonly Part[]) => or(parts.map(({ condition }) => condition));
  return and([any(seenBy(workspaceId, viewer)), any(givenTo(filter)), ...filtersOf(filter)]);
}

/** Tasks that the agent has, or had before others, and that were given to the capability. Those that had one agent only are most. */
function givenTo({ agentId, capabilityId }: TaskFilter): Part[] {
  if (agentId === undefined && capabilityId === undefined) return [{ condition: sql`true`, isRestIndexed: false }];
  const once = [
    sql<SqlBool>`earlier_agent_ids is null`,
    ...(agentId === undefined ? [] : [sql<SqlBool>`agent_id = ${agentId}`]),
    ...(capabilityId === undefined ? [] : [sql<SqlBool>`capability_id = ${capabilityId}`]),
  ];
  const again = [
    sql<SqlBool>`earlier_agent_ids is not null`,
    ...(agentId === undefined ? [] : [sql<SqlBool>`(agent_id = ${agentId} or ${agentId} = any(earlier_agent_ids))`]),
    ...(capabilityId === undefined ? [] : [sql<SqlBool>`given_capability_id = ${capabilityId}`]),
  ];
  return [
    { condition: and(once), isRestIndexed: true },
    { condition: and(again), isRestIndexed: false },
  ];
}

/** What a viewer sees: what belongs to it, and the contexts that others share. As one condition it would be asked of every task of the workspace. */
function seenBy(workspaceId: string, viewer: Viewer | undefined): Part[] {
  if (!viewer) return [{ condition: sql`true`, isRestIndexed: false }];
  const { id, roles } = viewer;
  const own = { condition: sql<SqlBool>`principal_id = ${id}`, isRestIndexed: true };
  const unowned = { condition: sql<SqlBool>`principal_id is null`, isRestIndexed: true };
  const condition = sql<SqlBool>`(principal_id, context_id) in (
    select owner_id, context_id from context_shares
    where workspace_id = ${workspaceId} and owner_id <> ${id}
      and ((subject_kind = ${sql.raw(String(BY_PRINCIPAL))} and subject = ${id})
           or (subject_kind = ${sql.raw(String(BY_ROLE))} and subject = any(${roles}::text[])))
  )`;
  const shared = { condition, isRestIndexed: false };
  return id === ANONYMOUS ? [own, unowned, shared] : [own, shared];
}

const beyond = (cursor: TaskCursor): Condition =>
  sql<SqlBool>`(status_at, task_id) < (${cursor.statusAt}::timestamptz, ${cursor.taskId}::text)`;
