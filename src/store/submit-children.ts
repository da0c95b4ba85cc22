/**
 * Tasks that draw on what their parents hold of budgets. They are stored in the transaction in which the units change hands: of
 * a parent, no more is drawn than it has, whoever draws at the same moment, and nothing is in between.
 */
import { CompiledQuery, type Kysely, sql } from "kysely";
import { parentEnded, parentExceeded } from "../domain/budget/budget-errors.ts";
import { parseBudgetKey } from "../domain/budget/budget-key.ts";
import { type BudgetHold, drawFrom } from "../domain/budget/hold.ts";
import { taskNotFound } from "../domain/errors.ts";
import type { Database } from "./database.ts";
import type { Schema } from "./schema.ts";
import { type NewTask, type RunStatement, submitBatch } from "./submit-batch.ts";
import { decodeHolds, encodeHolds } from "./task-codec.ts";
import type { TaskKey } from "./task-reads.ts";
import { ENDED } from "./task-sql.ts";

export const drawsOnParent = ({ drawn }: NewTask): boolean => drawn !== undefined && drawn.size > 0;

/** Stores a batch in which some draw. Answers in its order: the replica that stored the task, or why it is not stored. */
export function submitWithDraws(
  db: Database,
  replicaId: string,
  tasks: readonly NewTask[],
  isAudited: boolean,
): Promise<(string | Error)[]> {
  return db.kysely.transaction().execute(async (tx) => {
    const refused = await draw(tx, tasks);
    const run: RunStatement = async ({ text }, values) =>
      (await tx.executeQuery<Record<string, unknown>>(CompiledQuery.raw(text, [...values]))).rows;
    const allowed = tasks.filter((task) => !refused.has(task));
    if (allowed.length > 0) await submitBatch({ query: run }, replicaId, allowed, isAudited);
    return tasks.map((task) => refused.get(task) ?? replicaId);
  });
}

/** Moves what is drawn. Returns those tasks that are refused, with the reason. */
async function draw(tx: Kysely<Schema>, tasks: readonly NewTask[]): Promise<Map<NewTask, Error>> {
  const children = tasks.filter(drawsOnParent);
  const parents = await lockParents(tx, children.map(parentKey));
  // A submit that is made again draws nothing again.
  const known = await stored(
    tx,
    children.map(({ header }) => header),
  );
  const refused = new Map<NewTask, Error>();
  const changed = new Map<string, BudgetHold[]>();
  for (const child of children) {
    const parentId = child.header.parent!.taskId;
    if (known.has(nameOf(child.header))) continue;
    const name = nameOf(parentKey(child));
    const parent = parents.get(name);
    if (!parent) refused.set(child, taskNotFound(parentId));
    else if (parent.hasEnded) refused.set(child, parentEnded(parentId));
    else {
      const left = drawAll(changed.get(name) ?? parent.holds, child, parentId);
      if (left instanceof Error) refused.set(child, left);
      else changed.set(name, left);
    }
  }
  await write(tx, changed);
  return refused;
}

/** What a parent holds once a child has drawn; the reason where it holds too little. */
function drawAll(holds: readonly BudgetHold[], { header, drawn }: NewTask, parentId: string): BudgetHold[] | Error {
  const left = [...holds];
  for (const { key, units } of header.holds ?? []) {
    if (!drawn!.has(key)) continue;
    const at = left.findIndex((hold) => hold.key === key);
    const rest = at < 0 ? undefined : drawFrom(left[at]!, units);
    if (!rest) return parentExceeded(parseBudgetKey(key)?.budgetId ?? key, parentId, left[at]?.units ?? 0, units);
    left[at] = rest;
  }
  return left;
}

async function lockParents(tx: Kysely<Schema>, keys: readonly TaskKey[]) {
  const { rows } = await sql<{ workspace_id: string; task_id: string; has_ended: boolean; holds: unknown }>`
    select workspace_id, task_id, state in (${sql.raw(ENDED)}) as has_ended, holds from tasks
    where (workspace_id, task_id) in (select * from unnest(${workspaces(keys)}::text[], ${ids(keys)}::text[]))
    order by workspace_id, task_id for update`.execute(tx);
  return new Map(
    rows.map(({ workspace_id: workspaceId, task_id: taskId, has_ended: hasEnded, holds }) => [
      nameOf({ workspaceId, taskId }),
      { hasEnded, holds: holds === null ? [] : decodeHolds(holds) },
    ]),
  );
}

async function stored(tx: Kysely<Schema>, keys: readonly TaskKey[]): Promise<Set<string>> {
  const { rows } = await sql<{ workspace_id: string; task_id: string }>`
    select workspace_id, task_id from tasks
    where (workspace_id, task_id) in (select * from unnest(${workspaces(keys)}::text[], ${ids(keys)}::text[]))`.execute(
    tx,
  );
  return new Set(rows.map((row) => nameOf({ workspaceId: row.workspace_id, taskId: row.task_id })));
}

async function write(tx: Kysely<Schema>, changed: ReadonlyMap<string, readonly BudgetHold[]>): Promise<void> {
  if (changed.size === 0) return;
  const keys = [...changed.keys()].map((name) => name.split(" "));
  await sql`
    update tasks t set holds = i.holds::jsonb
    from unnest(${keys.map(([workspaceId]) => workspaceId)}::text[], ${keys.map(([, taskId]) => taskId)}::text[],
                ${[...changed.values()].map((holds) => encodeHolds(holds))}::text[]) as i(workspace_id, task_id, holds)
    where t.workspace_id = i.workspace_id and t.task_id = i.task_id`.execute(tx);
}

const parentKey = ({ header }: NewTask): TaskKey => ({
  workspaceId: header.workspaceId,
  taskId: header.parent!.taskId,
});
const workspaces = (keys: readonly TaskKey[]) => keys.map(({ workspaceId }) => workspaceId);
const ids = (keys: readonly TaskKey[]) => keys.map(({ taskId }) => taskId);

// Neither id holds a space: workspaces are DNS labels, and the ids of tasks are ours.
const nameOf = ({ workspaceId, taskId }: TaskKey): string => `${workspaceId} ${taskId}`;
