/** Quotas of workspaces as who enforces them needs them, and what is counted of their use. Who sets them is elsewhere. */
import { NO_QUOTAS, type QuotaLimits, readQuotas } from "../domain/identity/quotas.ts";
import type { Database, Row, Statement } from "./database.ts";
import { int4Array, textArray } from "./pg-arrays.ts";
import { ENDED } from "./task-sql.ts";

/** The quotas of a workspace, and what was counted last of what they limit. */
export interface QuotaRecord {
  readonly limits: QuotaLimits;
  /** Grows with every change of them. */
  readonly revision: number;
  /** Undefined before it was counted. */
  readonly storedBytes: number | undefined;
  readonly storedBytesAt: Date | undefined;
}

export const NO_RECORD: QuotaRecord = {
  limits: NO_QUOTAS,
  revision: 0,
  storedBytes: undefined,
  storedBytesAt: undefined,
};

export interface QuotaRepository {
  /** In the order of the ids. A workspace that is not there has none. */
  read(workspaceIds: readonly string[]): Promise<QuotaRecord[]>;
  /**
   * Counts the tasks of a workspace that have not ended and hold nothing of a limit. Whoever counts at the same moment does not count
   * twice.
   */
  countUncounted(workspaceId: string, limitKey: string): Promise<number>;
  /** Tasks of a workspace that have not ended. */
  inFlight(workspaceId: string): Promise<number>;
  /** Says how many streams a replica has open, in the workspaces that are named. */
  tellStreams(replicaId: string, open: ReadonlyMap<string, number>): Promise<void>;
  /** Streams of a workspace that are open at replicas that live. */
  openStreams(workspaceId: string): Promise<number>;
}

const READ: Statement = {
  name: "quota-read-v2",
  text: `
    select w.workspace_id, w.quotas, w.quotas_revision, u.stored_bytes, u.stored_bytes_at
    from workspaces w left join workspace_usage u on u.workspace_id = w.workspace_id
    where w.workspace_id = any ($1::text[])`,
};

// What has not ended is leased, or is due at some time: each has an index. Who waits for a client that never comes back is due too.
const UNENDED = `
  from tasks where workspace_id = $1 and state not in (${ENDED}) and (lease_owner is not null or wake_at is not null)`;

const IN_FLIGHT: Statement = { name: "quota-in-flight-v1", text: `select count(*) as tasks ${UNENDED}` };

const COUNT_UNCOUNTED: Statement = {
  name: "quota-count-uncounted-v1",
  text: `
    insert into workspace_usage (workspace_id, uncounted_tasks, uncounted_revision)
    select workspace_id,
           (select count(*) ${UNENDED} and not coalesce(holds @> jsonb_build_array(jsonb_build_object('k', $2::text)), false)),
           quotas_revision
    from workspaces where workspace_id = $1
    on conflict (workspace_id) do update set
      uncounted_tasks = excluded.uncounted_tasks, uncounted_revision = excluded.uncounted_revision
    returning uncounted_tasks`,
};

const TELL_STREAMS: Statement = {
  name: "quota-tell-streams-v1",
  text: `
    with told as (select w, n from unnest($2::text[], $3::int[]) as i(w, n)), closed as (
      delete from open_streams s using told t where s.workspace_id = t.w and s.replica_id = $1 and t.n = 0
    ), dead as (
      delete from open_streams s
      where not exists (select from replicas r where r.replica_id = s.replica_id and r.died_at is null)
    )
    insert into open_streams (workspace_id, replica_id, streams)
    select w, $1, n from told where n > 0 and exists (select from replicas where replica_id = $1 and died_at is null)
    on conflict (workspace_id, replica_id) do update set streams = excluded.streams`,
};

const OPEN_STREAMS: Statement = {
  name: "quota-open-streams-v1",
  text: `
    select coalesce(sum(s.streams), 0)::bigint as streams from open_streams s
    join replicas r on r.replica_id = s.replica_id and r.died_at is null
    where s.workspace_id = $1`,
};

export function createQuotaRepository(db: Pick<Database, "query">): QuotaRepository {
  return {
    async read(workspaceIds) {
      const rows = await db.query(READ, [textArray(workspaceIds, (id) => id)]);
      const found = new Map(rows.map((row) => [row.workspace_id as string, recordOf(row)]));
      return workspaceIds.map((id) => found.get(id) ?? NO_RECORD);
    },
    async countUncounted(workspaceId, limitKey) {
      const [row] = await db.query(COUNT_UNCOUNTED, [workspaceId, limitKey]);
      return (row?.uncounted_tasks as number | undefined) ?? 0;
    },
    inFlight: async (workspaceId) => (await db.query(IN_FLIGHT, [workspaceId]))[0]!.tasks as number,
    async tellStreams(replicaId, open) {
      const entries = [...open].sort(([a], [b]) => (a < b ? -1 : 1));
      await db.query(TELL_STREAMS, [replicaId, textArray(entries, ([id]) => id), int4Array(entries, ([, n]) => n)]);
    },
    openStreams: async (workspaceId) => (await db.query(OPEN_STREAMS, [workspaceId]))[0]!.streams as number,
  };
}

const recordOf = (row: Row): QuotaRecord => ({
  limits: readQuotas(row.quotas),
  revision: row.quotas_revision as number,
  storedBytes: (row.stored_bytes as number | null) ?? undefined,
  storedBytesAt: (row.stored_bytes_at as Date | null) ?? undefined,
});
