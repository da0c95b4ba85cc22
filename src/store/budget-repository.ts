/**
 * What replicas have of the windows of budgets, over all workspaces. All times are the database's.
 *
 * Of a slice, tasks have reserved so much, in all; released so much of it; been charged so much of it; and used so much beyond it.
 * Each of these only grows, and is written by the statement that stores or ends the tasks. What counts against the budget is
 * reserved - released + extra; of that, charged + extra is used, and the rest is held by tasks that have not ended.
 */
import { type Kysely, sql } from "kysely";
import { type OtherSlices, type SliceAsk, sliceAfter } from "../domain/allotment.ts";
import type { AllotmentRepository, Allotted, LimitKey } from "./allotment-repository.ts";
import type { Database, Statement } from "./database.ts";
import { replicaExpired } from "./database-errors.ts";
import type { Schema } from "./schema.ts";

/** Tells when the window of a budget ends, by its key. */
export type EndOfWindow = (limit: LimitKey) => Date;

export interface BudgetRepository extends AllotmentRepository {
  /** Windows of which other replicas want something. */
  wanted(replicaId: string): Promise<LimitKey[]>;
}

type Asked = LimitKey & SliceAsk;

// --- dead replicas

/** All replicas that have slices of which `condition`, each found by one step in the index of those slices. */
const ownersOf = (condition: string): string => `
    owners (replica_id) as (
      (select replica_id from budget_slices where ${condition} order by replica_id limit 1)
      union all
      select (select replica_id from budget_slices where ${condition} and replica_id > o.replica_id order by replica_id limit 1)
      from owners o where o.replica_id is not null
    )`;

// A slice of a dead replica is closed first: a statement of that one which is on its way still waits for the row, or finds it
// closed. What is counted after that is final but for what tasks give back.
const CLOSE: Statement = {
  name: "budget-close-v2",
  text: `
    with recursive ${ownersOf("state = 0")}, dead as materialized (
      select workspace_id, limit_key, replica_id from budget_slices s
      where state = 0 and replica_id = any (array(
        select replica_id from owners o
        where not exists (select from replicas r where r.replica_id = o.replica_id and r.died_at is null)
      ))
      order by workspace_id, limit_key, replica_id limit $1 for update skip locked
    ), reservations as (
      insert into budget_reservations as r (workspace_id, limit_key, replica_id, units, closed_units)
      select workspace_id, limit_key, replica_id, 0, 0 from dead
      on conflict (workspace_id, limit_key, replica_id) do update set closed_units = r.units
    ), settlements as (
      insert into budget_settlements (workspace_id, limit_key, replica_id, written_by, is_closed)
      select workspace_id, limit_key, replica_id, replica_id, true from dead
      on conflict (workspace_id, limit_key, replica_id, written_by) do update set is_closed = true
    )
    update budget_slices s set state = 1, wanted = 0 from dead d
    where s.workspace_id = d.workspace_id and s.limit_key = d.limit_key and s.replica_id = d.replica_id`,
};

// Keeps what its tasks have used and hold. Those are looked at whose keys come after the last that was.
const SHRINK: Statement = {
  name: "budget-shrink-v2",
  text: `
    with closed as materialized (
      select workspace_id, limit_key, replica_id from budget_slices
      where state = 1 and (workspace_id, limit_key, replica_id) > ($2, $3, $4)
      order by workspace_id, limit_key, replica_id limit $1 for update skip locked
    ), counted as materialized (
      select s.workspace_id, s.limit_key, s.replica_id, r.units - t.released + t.extra as counts,
             r.units = t.released + t.charged as is_done
      from closed s
      join budget_reservations r
        on r.workspace_id = s.workspace_id and r.limit_key = s.limit_key and r.replica_id = s.replica_id
      cross join lateral (
        select sum(released) as released, sum(charged) as charged, sum(extra) as extra from budget_settlements t
        where t.workspace_id = s.workspace_id and t.limit_key = s.limit_key and t.replica_id = s.replica_id
      ) t
    ), shrunk as (
      update budget_slices s set granted = c.counts, state = case when c.is_done then 2 else 1 end from counted c
      where s.workspace_id = c.workspace_id and s.limit_key = c.limit_key and s.replica_id = c.replica_id
        and (s.granted <> c.counts or c.is_done)
    )
    select workspace_id, limit_key, replica_id, count(*) over () as looked from closed
    order by workspace_id desc, limit_key desc, replica_id desc limit 1`,
};

// Replicas come and go; what those used that are forgotten becomes one row. '' is no replica.
const FOLD: Statement = {
  name: "budget-fold-v2",
  text: `
    with recursive ${ownersOf("state = 2 and replica_id <> ''")}, old as materialized (
      select workspace_id, limit_key, replica_id, granted, limit_units, ends_at from budget_slices s
      where state = 2 and replica_id <> '' and replica_id = any (array(
        select replica_id from owners o where not exists (select from replicas r where r.replica_id = o.replica_id)
      ))
      order by workspace_id, limit_key, replica_id limit $1 for update skip locked
    ), slices as (
      delete from budget_slices s using old o
      where s.workspace_id = o.workspace_id and s.limit_key = o.limit_key and s.replica_id = o.replica_id
    ), reservations as (
      delete from budget_reservations r using old o
      where r.workspace_id = o.workspace_id and r.limit_key = o.limit_key and r.replica_id = o.replica_id
    ), settlements as (
      delete from budget_settlements t using old o
      where t.workspace_id = o.workspace_id and t.limit_key = o.limit_key and t.replica_id = o.replica_id
      returning t.workspace_id, t.limit_key, t.charged, t.extra, t.overrun
    ), sums as (
      select workspace_id, limit_key, sum(charged)::bigint as charged, sum(extra)::bigint as extra,
             sum(overrun)::bigint as overrun
      from settlements group by workspace_id, limit_key
    ), reserved as (
      insert into budget_reservations as r (workspace_id, limit_key, replica_id, units)
      select workspace_id, limit_key, '', charged from sums order by workspace_id, limit_key
      on conflict (workspace_id, limit_key, replica_id) do update set units = r.units + excluded.units
    ), settled as (
      insert into budget_settlements as t (workspace_id, limit_key, replica_id, written_by, charged, extra, overrun)
      select workspace_id, limit_key, '', '', charged, extra, overrun from sums order by workspace_id, limit_key
      on conflict (workspace_id, limit_key, replica_id, written_by) do update set
        charged = t.charged + excluded.charged, extra = t.extra + excluded.extra, overrun = t.overrun + excluded.overrun
    )
    insert into budget_slices as s (workspace_id, limit_key, replica_id, granted, limit_units, ends_at, state)
    select workspace_id, limit_key, '', sum(granted)::bigint, max(limit_units), max(ends_at), 2 from old
    group by workspace_id, limit_key order by workspace_id, limit_key
    on conflict (workspace_id, limit_key, replica_id) do update set
      granted = s.granted + excluded.granted, limit_units = greatest(s.limit_units, excluded.limit_units)`,
};

/** Slices that one statement of a sweep looks at, at most. */
const SWEEP_BATCH = 1_000;

const WANTED: Statement = {
  name: "budget-wanted-v1",
  text: `
    select distinct workspace_id, limit_key from budget_slices where wanted > 0 and replica_id <> $1
    order by workspace_id, limit_key limit ${SWEEP_BATCH}`,
};

/** Before all slices. */
const FIRST: readonly string[] = ["", "", ""];

/**
 * Slices are shared out as those of any limit; what other replicas gave back of this one's is told with each answer. Each statement of
 * a sweep looks at `sweepBatch` slices at most.
 */
export function createBudgetRepository(
  db: Database,
  endOfWindow: EndOfWindow,
  sweepBatch = SWEEP_BATCH,
): BudgetRepository {
  let shrunk = FIRST;
  return {
    settle: (replicaId, asks) =>
      db.kysely.transaction().execute(async (tx) => {
        await lock(tx, asks);
        // A statement of its own: it must see what was committed while the lock was waited for.
        const known = await slicesOf(tx, replicaId, asks);
        const answers = asks.map((ask, i): Allotted => {
          const { others, returned, standing } = known[i]!;
          const back = backOf(ask, returned, standing);
          const granted = sliceAfter({ ...ask, held: ask.held - back, need: ask.need - back }, others);
          return { granted, others, returned, standing };
        });
        await write(tx, replicaId, endOfWindow, asks, answers);
        return answers;
      }),
    async sweep() {
      await db.query(CLOSE, [sweepBatch]);
      const [last] = await db.query(SHRINK, [sweepBatch, ...shrunk]);
      const goesOn = last !== undefined && (last.looked as number) >= sweepBatch;
      shrunk = goesOn ? [last.workspace_id, last.limit_key, last.replica_id].map(String) : FIRST;
      await db.query(FOLD, [sweepBatch]);
    },
    async wanted(replicaId) {
      const rows = await db.query(WANTED, [replicaId]);
      return rows.map((row) => ({ workspaceId: row.workspace_id as string, key: row.limit_key as string }));
    },
  };
}

/**
 * Units that the replica counts as held and that were given back since it was told. One that asks for the first time does not
 * know what it has used.
 */
const backOf = (ask: Asked, returned: number, standing: number): number =>
  ask.returned === undefined ? -standing : returned - ask.returned;

/** Lets one replica at a time share out a window, until the transaction ends. In one order on all replicas. */
async function lock(tx: Kysely<Schema>, asks: readonly Asked[]): Promise<void> {
  await sql`
    select pg_advisory_xact_lock(name) from (
      select distinct hashtextextended('budget ' || i.workspace_id || ' ' || i.limit_key, 0) as name
      from unnest(${asks.map((a) => a.workspaceId)}::text[], ${asks.map((a) => a.key)}::text[])
        as i(workspace_id, limit_key) order by name
    ) names`.execute(tx);
}

async function slicesOf(
  tx: Kysely<Schema>,
  replicaId: string,
  asks: readonly Asked[],
): Promise<{ others: OtherSlices; returned: number; standing: number }[]> {
  const { rows } = await sql<OtherSlices & { returned: number; standing: number; alive: boolean }>`
    select s.granted, s.wanted, t.returned, coalesce(r.units, 0) - t.returned + t.extra as standing,
           exists (select from replicas where replica_id = ${replicaId} and died_at is null) as alive
    from unnest(${asks.map((a) => a.workspaceId)}::text[], ${asks.map((a) => a.key)}::text[])
      with ordinality as i(workspace_id, limit_key, ord)
    cross join lateral (
      select coalesce(sum(granted), 0)::bigint as granted, coalesce(sum(wanted), 0)::bigint as wanted from budget_slices
      where workspace_id = i.workspace_id and limit_key = i.limit_key and replica_id <> ${replicaId}
    ) s
    cross join lateral (
      select coalesce(sum(released), 0)::bigint as returned, coalesce(sum(extra), 0)::bigint as extra from budget_settlements
      where workspace_id = i.workspace_id and limit_key = i.limit_key and replica_id = ${replicaId}
    ) t
    left join budget_reservations r
      on r.workspace_id = i.workspace_id and r.limit_key = i.limit_key and r.replica_id = ${replicaId}
    order by i.ord`.execute(tx);
  if (!rows.every(({ alive }) => alive)) throw replicaExpired();
  return rows.map(({ granted, wanted, returned, standing }) => ({ others: { granted, wanted }, returned, standing }));
}

async function write(
  tx: Kysely<Schema>,
  replicaId: string,
  endOfWindow: EndOfWindow,
  asks: readonly Asked[],
  answers: readonly Allotted[],
): Promise<void> {
  const wanted = asks.map((ask, i) => {
    const { granted, returned = 0, standing = 0 } = answers[i]!;
    return Math.max(0, ask.need - backOf(ask, returned, standing) - granted);
  });
  await sql`
    insert into budget_slices (workspace_id, limit_key, replica_id, granted, wanted, limit_units, ends_at)
    select workspace_id, limit_key, ${replicaId}, granted, wanted, limit_units, ends_at
    from unnest(${asks.map((a) => a.workspaceId)}::text[], ${asks.map((a) => a.key)}::text[],
                ${answers.map((a) => a.granted)}::bigint[], ${wanted}::bigint[],
                ${asks.map((a) => a.limit)}::bigint[], ${asks.map(endOfWindow)}::timestamptz[])
      as s(workspace_id, limit_key, granted, wanted, limit_units, ends_at)
    on conflict (workspace_id, limit_key, replica_id) do update set
      granted = excluded.granted, wanted = excluded.wanted, limit_units = excluded.limit_units`.execute(tx);
}
