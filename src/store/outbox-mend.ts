/**
 * A database that was restored from a dump into another cluster brings transaction numbers along that are greater than any
 * the new cluster has given out. New rows would then get lower numbers than the outbox's cursors have, and would never be
 * read. So those that come from a future are brought down to the present, before anybody writes.
 */
import { sql } from "kysely";
import type { Logger } from "pino";
import type { Database, Statement } from "./database.ts";

// Of what a snapshot sees, everything was written below its upper bound; a cursor may stand at the bound itself.
const FROM_THE_FUTURE: Statement = {
  name: "outbox-future-v1",
  text: `
    select (select xid from task_updates order by xid desc limit 1) >= pg_snapshot_xmax(pg_current_snapshot())
        or exists (select from outbox_cursors where xid > pg_snapshot_xmax(pg_current_snapshot())) as found`,
};

/**
 * Gives rows and cursors of another cluster numbers of this one, if there are such. Nothing is skipped by any duty, and the
 * rows of each task keep their order; a duty that was ahead of others gets some rows once more. For the start of a server,
 * while nobody writes; several servers may start at once.
 */
export async function mendTransactionNumbers(db: Database, log: Logger): Promise<void> {
  const [row] = await db.query(FROM_THE_FUTURE, []);
  if (!row?.found) return;
  const mended = await db.maintain((kysely) =>
    kysely.transaction().execute(async (tx) => {
      await sql`lock table task_updates, outbox_cursors in share row exclusive mode`.execute(tx);
      // What all duties have passed goes right below this transaction's number, and what some have not, to it: that keeps
      // the one before the other, and leaves the cursors a place between the two.
      const rows = await sql`
        with own as materialized (
          select pg_current_xact_id() as xid, (pg_current_xact_id()::text::numeric - 1)::text::xid8 as before
        ), slowest as materialized (
          select xid, workspace_id, task_id, seq from outbox_cursors order by xid, workspace_id, task_id, seq limit 1
        )
        update task_updates u set
          xid = case when (u.xid, u.workspace_id, u.task_id, u.seq) <= (s.xid, s.workspace_id, s.task_id, s.seq)
                     then own.before else own.xid end
        from own left join slowest s on true
        where u.xid >= own.xid`.execute(tx);
      const cursors = await sql`
        update outbox_cursors set xid = pg_current_xact_id(), workspace_id = '', task_id = '', seq = 0
        where xid >= pg_current_xact_id()`.execute(tx);
      return { rows: Number(rows.numAffectedRows), cursors: Number(cursors.numAffectedRows) };
    }),
  );
  log.warn(mended, "the database was restored from another cluster; its transaction numbers were mended");
}
