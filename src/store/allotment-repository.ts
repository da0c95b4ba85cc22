/** The slices that replicas have of limits, over all workspaces. All times are the database's. */
import { type Kysely, sql } from "kysely";
import { type OtherSlices, type SliceAsk, sliceAfter } from "../domain/allotment.ts";
import type { Database, Statement } from "./database.ts";
import { replicaExpired } from "./database-errors.ts";
import type { Schema } from "./schema.ts";

/** A limit. */
export interface LimitKey {
  readonly workspaceId: string;
  /** Names it within the workspace, as `agent/x`. */
  readonly key: string;
}

/** The slice of a replica as it is from now on, and what the others have. */
export interface Allotted {
  granted: number;
  others: OtherSlices;
  /** Units of the slice that were given back past its replica, in all. Left out, as the next, where units are not used up. */
  returned?: number;
  /** Units of it that count, as the database knows: held or used. */
  standing?: number;
}

export interface AllotmentRepository {
  /**
   * Sets a replica's slices of some limits, none of them named twice, to what it asks for as far as the others leave it; see
   * `sliceAfter`. Answers in the order of the asks. Asking again after an answer was lost does no harm.
   *
   * @throws SignalboxError REPLICA_EXPIRED when the replica was declared dead: nothing was changed.
   */
  settle(replicaId: string, asks: readonly (LimitKey & SliceAsk)[]): Promise<Allotted[]>;
  /**
   * Lets slices of dead replicas expire `graceMs` from now, where no task is leased to the replica any more: by then whoever has
   * rescued its tasks has had them counted. Forgets those that have expired.
   */
  sweep(graceMs: number): Promise<void>;
}

// What another replica is sweeping is left to it.
const SWEEP: Statement = {
  name: "allotment-sweep-v1",
  text: `
    with dead as materialized (
      select * from allotments a
      where not exists (select from replicas r where r.replica_id = a.replica_id and r.died_at is null)
      for update skip locked
    ), expiring as (
      update allotments a set expires_at = clock_timestamp() + $1::float8 * interval '1 millisecond'
      from dead d
      where a.workspace_id = d.workspace_id and a.limit_key = d.limit_key and a.replica_id = d.replica_id
        and d.expires_at is null
        and (select t.task_id from tasks t where t.lease_owner = d.replica_id order by t.created_at limit 1) is null
    )
    delete from allotments a using dead d
    where a.workspace_id = d.workspace_id and a.limit_key = d.limit_key and a.replica_id = d.replica_id
      and d.expires_at < clock_timestamp()`,
};

export function createAllotmentRepository(db: Database): AllotmentRepository {
  return {
    settle(replicaId, asks) {
      const workspaces = asks.map(({ workspaceId }) => workspaceId);
      const keys = asks.map(({ key }) => key);
      return db.kysely.transaction().execute(async (tx) => {
        await lock(tx, workspaces, keys);
        // A statement of its own: it must see what was committed while the lock was waited for.
        const others = await othersOf(tx, replicaId, workspaces, keys);
        const answers = asks.map((ask, i) => ({ granted: sliceAfter(ask, others[i]!), others: others[i]! }));
        await write(
          tx,
          replicaId,
          asks.map((ask, i) => ({ ...ask, granted: answers[i]!.granted })),
        );
        return answers;
      });
    },
    sweep: async (graceMs) => void (await db.query(SWEEP, [graceMs])),
  };
}

/** Lets one replica at a time share out a limit, until the transaction ends. In one order on all replicas. */
async function lock(tx: Kysely<Schema>, workspaces: readonly string[], keys: readonly string[]): Promise<void> {
  await sql`
    select pg_advisory_xact_lock(name) from (
      select distinct hashtextextended(i.workspace_id || ' ' || i.limit_key, 0) as name
      from unnest(${workspaces}::text[], ${keys}::text[]) as i(workspace_id, limit_key) order by name
    ) names`.execute(tx);
}

async function othersOf(
  tx: Kysely<Schema>,
  replicaId: string,
  workspaces: readonly string[],
  keys: readonly string[],
): Promise<OtherSlices[]> {
  const { rows } = await sql<OtherSlices & { alive: boolean }>`
    select coalesce(sum(a.granted), 0)::bigint as granted, coalesce(sum(a.wanted), 0)::bigint as wanted,
           exists (select from replicas where replica_id = ${replicaId} and died_at is null) as alive
    from unnest(${workspaces}::text[], ${keys}::text[]) with ordinality as i(workspace_id, limit_key, ord)
    left join allotments a on a.workspace_id = i.workspace_id and a.limit_key = i.limit_key
      and a.replica_id <> ${replicaId} and (a.expires_at is null or a.expires_at > clock_timestamp())
    group by i.ord order by i.ord`.execute(tx);
  if (!rows.every(({ alive }) => alive)) throw replicaExpired();
  return rows.map(({ granted, wanted }) => ({ granted, wanted }));
}

async function write(
  tx: Kysely<Schema>,
  replicaId: string,
  slices: readonly (LimitKey & SliceAsk & { granted: number })[],
): Promise<void> {
  await sql`
    with slices as (
      select * from unnest(${slices.map(({ workspaceId }) => workspaceId)}::text[], ${slices.map(({ key }) => key)}::text[],
                           ${slices.map(({ granted }) => granted)}::bigint[],
                           ${slices.map(({ need, granted }) => Math.max(0, need - granted))}::bigint[])
        as s(workspace_id, limit_key, granted, wanted)
    ), empty as (
      delete from allotments a using slices s
      where a.workspace_id = s.workspace_id and a.limit_key = s.limit_key and a.replica_id = ${replicaId}
        and s.granted = 0 and s.wanted = 0
    )
    insert into allotments (workspace_id, limit_key, replica_id, granted, wanted)
    select workspace_id, limit_key, ${replicaId}, granted, wanted from slices where granted > 0 or wanted > 0
    on conflict (workspace_id, limit_key, replica_id)
      do update set granted = excluded.granted, wanted = excluded.wanted`.execute(tx);
}
