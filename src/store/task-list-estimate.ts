/**
 * How many tasks there are about on a list that is longer than is counted. It is told by the workspace's own rows alone: the planner's
 * idea of a filter would mix in what other workspaces have, and so tell of it.
 */
import { type Kysely, type RawBuilder, type SqlBool, sql } from "kysely";
import type { Schema } from "./schema.ts";

/** As many tasks are counted. */
export const EXACT_TOTAL = 10_000;

/** Of so many of the workspace's latest tasks it is looked at how many match. */
const LATEST = 2_000;
const MOST = 2 ** 31 - 1;

/**
 * The workspace's tasks, as the planner knows their number since the last ANALYZE, times the share of those that match among its latest; with
 * `from`, times the part of all the time since the first that lies after it. 10,001 to 2,147,483,647.
 */
export async function estimateTotal(
  kysely: Kysely<Schema>,
  workspaceId: string,
  matching: RawBuilder<SqlBool>,
  from: Date | undefined,
): Promise<number> {
  const all = await plannedRows(kysely, workspaceId);
  const { rows } = await sql<{ latest: number; matched: number; first_at: Date; last_at: Date }>`
    select count(*) as latest, count(*) filter (where ${matching}) as matched, max(status_at) as last_at,
           (select status_at from tasks where workspace_id = ${workspaceId} and disclosed
            order by status_at, task_id limit 1) as first_at
    from (
      select * from tasks where workspace_id = ${workspaceId} and disclosed
      order by status_at desc, task_id desc limit ${sql.lit(LATEST)}
    ) latest`.execute(kysely);
  const { latest, matched, first_at, last_at } = rows[0]!;
  const share = latest === 0 ? 0 : matched / latest;
  const total = Math.round(all * share * (from ? partAfter(from, first_at, last_at) : 1));
  return Math.min(MOST, Math.max(EXACT_TOTAL + 1, total));
}

function partAfter(from: Date, first: Date, last: Date): number {
  const part = (last.getTime() - from.getTime()) / (last.getTime() - first.getTime());
  return Number.isFinite(part) ? Math.min(1, Math.max(0, part)) : 1;
}

/** Nothing is read: the planner says how many rows it expects to find. */
async function plannedRows(kysely: Kysely<Schema>, workspaceId: string): Promise<number> {
  const { rows } = await sql<{ "QUERY PLAN": { Plan: { "Plan Rows": number } }[] }>`
    explain (format json) select from tasks where workspace_id = ${workspaceId}`.execute(kysely);
  return rows[0]!["QUERY PLAN"][0]!.Plan["Plan Rows"];
}
