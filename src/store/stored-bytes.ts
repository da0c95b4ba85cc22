/**
 * What workspaces have stored, counted where a quota asks for it. A pass goes through all tables of tasks, a bounded page a transaction,
 * by whichever replica comes; how far it is stands in the workspace's row, which one replica has at a time.
 */
import { sql, type Transaction } from "kysely";
import type { Database, Statement } from "./database.ts";
import type { Schema } from "./schema.ts";

export interface StoredBytes {
  /** Begins to count where there is a quota of bytes, and forgets what no quota asks for. */
  enlist(): Promise<void>;
  /**
   * Counts one page of the workspace that is due first; a pass that ends is due again after `everyMs`. False when none is due, or others
   * have those that are.
   */
  countPage(everyMs: number): Promise<boolean>;
}

/** Rows in one page. */
const PAGE = 2_000;

/** What counts: texts and bytes, each table by the columns of its key after the workspace. */
const COUNTED = [
  { table: "task_updates", key: ["task_id", "seq"], sizes: ["body", "cause"] },
  { table: "held_updates", key: ["task_id", "n"], sizes: ["body", "cause"] },
  { table: "tasks", key: ["task_id"], sizes: ["status", "metadata", "delivery", "route_decision"] },
  { table: "exchange_messages", key: ["correlation_id", "owner_id", "seq"], sizes: ["body"] },
] as const;

const ENLIST: Statement = {
  name: "stored-bytes-enlist-v1",
  text: `
    with wanted as materialized (
      select workspace_id from workspaces where quotas ? 'storedBytes' or quotas ? 'stored_bytes'
    ), added as (
      insert into workspace_usage (workspace_id, due_at) select workspace_id, clock_timestamp() from wanted order by workspace_id
      on conflict (workspace_id) do update set due_at = excluded.due_at where workspace_usage.due_at = '-infinity'
    )
    update workspace_usage u set due_at = '-infinity', stored_bytes = null, stored_bytes_at = null, pass_table = 0,
                                 pass_after = null, pass_bytes = 0
    where due_at <> '-infinity' and not exists (select from wanted w where w.workspace_id = u.workspace_id)`,
};

export function createStoredBytes(db: Database): StoredBytes {
  const postpone = (workspaceId: string, everyMs: number) =>
    sql`
      update workspace_usage set due_at = clock_timestamp() + ${everyMs}::float8 * interval '1 millisecond'
      where workspace_id = ${workspaceId} and due_at > '-infinity'`.execute(db.kysely);
  return {
    enlist: async () => void (await db.query(ENLIST, [])),
    async countPage(everyMs) {
      let counting: string | undefined;
      const onPlace = (workspaceId: string) => {
        counting = workspaceId;
      };
      try {
        return await db.kysely.transaction().execute((tx) => countDue(tx, everyMs, onPlace));
      } catch (error) {
        // It does not stand before all others until it can be counted.
        if (counting !== undefined) await postpone(counting, everyMs).catch(() => {});
        throw error;
      }
    },
  };
}

/** Counts one page of the workspace that is due first, and tells which one that is. False when none is due. */
async function countDue(
  tx: Transaction<Schema>,
  everyMs: number,
  onPlace: (workspaceId: string) => void,
): Promise<boolean> {
  const due = await sql<{ workspace_id: string; pass_table: number; pass_after: string[] | null }>`
  select workspace_id, pass_table, pass_after from workspace_usage
  where due_at > '-infinity' and due_at <= clock_timestamp() order by due_at limit 1 for update skip locked`.execute(
    tx,
  );
  const [place] = due.rows;
  if (!place) return false;
  onPlace(place.workspace_id);
  const { table, key, sizes } = COUNTED[place.pass_table]!;
  const columns = sql.join(key.map((name) => sql.ref(name)));
  const after = place.pass_after;
  const beyond = after ? sql`and (${columns}) > (${sql.join(keyValues(after))})` : sql``;
  const size = sql.join(
    sizes.map((name) => sql`coalesce(octet_length(${sql.ref(name)}), 0)`),
    sql` + `,
  );
  const backwards = sql.join(key.map((name) => sql`${sql.ref(name)} desc`));
  const last = sql.join(key.map((name) => sql`(array_agg(${sql.ref(name)}::text order by ${backwards}))[1]`));
  const page = await sql<{ bytes: number; rows: number; last: string[] }>`
  select coalesce(sum(${size}), 0)::bigint as bytes, count(*)::bigint as rows, array[${last}] as last
  from (
    select * from ${sql.table(table)} where workspace_id = ${place.workspace_id} ${beyond}
    order by ${columns} limit ${sql.lit(PAGE)}
  ) page`.execute(tx);
  const { bytes, rows, last: lastKey } = page.rows[0]!;
  const isWhole = rows < PAGE;
  const isOver = isWhole && place.pass_table === COUNTED.length - 1;
  await (isOver
    ? sql`
    update workspace_usage set stored_bytes = pass_bytes + ${bytes}::bigint, stored_bytes_at = clock_timestamp(),
      due_at = clock_timestamp() + ${everyMs}::float8 * interval '1 millisecond', pass_table = 0, pass_after = null,
      pass_bytes = 0
    where workspace_id = ${place.workspace_id}`
    : sql`
    update workspace_usage set pass_bytes = pass_bytes + ${bytes}::bigint,
      pass_table = ${place.pass_table + (isWhole ? 1 : 0)}::smallint,
      pass_after = ${isWhole ? null : lastKey}::text[]
    where workspace_id = ${place.workspace_id}`
  ).execute(tx);
  return true;
}

/** The key of a row: ids, and a number behind them where there is more than one part. */
const keyValues = (parts: readonly string[]) =>
  parts.map((part, i) => (i > 0 && i === parts.length - 1 ? sql`${part}::bigint` : sql`${part}`));
