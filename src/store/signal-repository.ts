/**
 * What replicas tell each other of agents, over all workspaces: one row for each agent and replica, which only that replica
 * writes. Times are told as milliseconds before or after the row was written, and that by the database's clock.
 */
import type { Signals } from "../domain/routing/agent-signals.ts";
import { LATENCY_BUCKETS } from "../domain/routing/latency-histogram.ts";
import type { AgentKey } from "./agent-health-repository.ts";
import type { Database, Row, Statement } from "./database.ts";

/** What a replica knows of an agent. Times are of that clock by which `nowMs` was given. */
export interface SharedSignals extends AgentKey {
  inFlight: number;
  signals: Signals;
  /** Until when its circuit is open; undefined when it is closed. */
  openUntilMs: number | undefined;
  openings: number;
}

export interface HeardSignals extends SharedSignals {
  replicaId: string;
}

export interface Heard {
  /** Replicas that live: what others told counts no more. */
  living: ReadonlySet<string>;
  rows: HeardSignals[];
  /** For the next `hear`: what was told until then is known. */
  cursor: Date | undefined;
}

export interface SignalRepository {
  /** Tells the others. An agent has one entry at most. `nowMs` is the moment at which the entries are true. */
  tell(replicaId: string, entries: readonly SharedSignals[], nowMs: number): Promise<void>;
  /**
   * What living replicas other than `replicaId` have told since the cursor, at most `limit` rows, the oldest first. Not what was
   * told of an agent that has gone, or before it was registered anew.
   */
  hear(replicaId: string, cursor: Date | undefined, limit: number, nowMs: () => number): Promise<Heard>;
  /** Deletes what replicas have told that are dead, and what is older than `olderMs`. */
  sweep(olderMs: number): Promise<void>;
}

/** Transactions end in another order than they begin: so much is read again, in milliseconds. */
const OVERLAP_MS = 2_000;

const VALUES = `in_flight, succeeded, failed, latency_ms, weight, failed_weight, seen_ms_ago, latencies, latencies_ms_ago,
  open_ms_left, openings`;

const TELL: Statement = {
  name: "signals-tell-v1",
  text: `
    insert into agent_signals (workspace_id, agent_id, ${VALUES}, replica_id, updated_at)
    select t.*, $14, clock_timestamp()
    from unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::float8[], $7::float8[], $8::float8[],
                $9::float8[], $10::bytea[], $11::float8[], $12::float8[], $13::int[]) as t(workspace_id, agent_id, ${VALUES})
    on conflict (workspace_id, agent_id, replica_id) do update set
      (${VALUES}, updated_at) = (${VALUES.split(",")
        .map((column) => `excluded.${column.trim()}`)
        .join(", ")}, excluded.updated_at)`,
};

const HEAR: Statement = {
  name: "signals-hear-v2",
  text: `
    with living as (select replica_id from replicas where died_at is null)
    select l.ids as living, s.*, (extract(epoch from clock_timestamp() - s.updated_at) * 1000)::float8 as ms_ago
    from (select array_agg(replica_id) as ids from living) l left join lateral (
      select * from agent_signals
      where replica_id <> $1 and replica_id in (select replica_id from living)
        and exists (
          select from agents a
          where a.workspace_id = agent_signals.workspace_id and a.agent_id = agent_signals.agent_id
            and a.created_at <= agent_signals.updated_at
        )
        and ($2::timestamptz is null or updated_at > $2::timestamptz - interval '${OVERLAP_MS} milliseconds')
      order by updated_at limit $3
    ) s on true`,
};

const SWEEP: Statement = {
  name: "signals-sweep-v1",
  text: `
    delete from agent_signals
    where updated_at < clock_timestamp() - $1::float8 * interval '1 millisecond'
       or replica_id not in (select replica_id from replicas where died_at is null)`,
};

export function createSignalRepository(db: Database): SignalRepository {
  return {
    async tell(replicaId, entries, nowMs) {
      const column = <T>(pick: (entry: SharedSignals) => T) => entries.map(pick);
      await db.query(TELL, [
        column(({ workspaceId }) => workspaceId),
        column(({ agentId }) => agentId),
        column(({ inFlight }) => inFlight),
        column(({ signals }) => signals.succeeded),
        column(({ signals }) => signals.failed),
        column(({ signals }) => signals.latencyMs),
        column(({ signals }) => signals.weight),
        column(({ signals }) => signals.failedWeight),
        column(({ signals }) => nowMs - signals.seenAtMs),
        column(({ signals: { latencies } }) => latencies && bytesOf(latencies.weights)),
        column(({ signals: { latencies } }) => latencies && nowMs - latencies.landmarkMs),
        column(({ openUntilMs }) => (openUntilMs === undefined ? undefined : openUntilMs - nowMs)),
        column(({ openings }) => openings),
        replicaId,
      ]);
    },
    async hear(replicaId, cursor, limit, nowMs) {
      const rows = await db.query(HEAR, [replicaId, cursor ?? null, limit]);
      const at = nowMs();
      const told = rows.filter((row) => row.replica_id !== null);
      const last = told.at(-1)?.updated_at as Date | undefined;
      // Where there is more than is read at once, what was read is not read again: else the rest would never be.
      const skipMs = told.length === limit ? OVERLAP_MS : 0;
      return {
        living: new Set((rows[0]?.living as string[] | null) ?? []),
        rows: told.map((row) => heard(row, at)),
        cursor: last ? new Date(last.getTime() + skipMs) : cursor,
      };
    },
    sweep: async (olderMs) => void (await db.query(SWEEP, [olderMs])),
  };
}

function heard(row: Row, nowMs: number): HeardSignals {
  const writtenMs = nowMs - Math.max(0, row.ms_ago as number);
  const latencies = row.latencies as Uint8Array | null;
  const openLeftMs = row.open_ms_left as number | null;
  return {
    workspaceId: row.workspace_id as string,
    agentId: row.agent_id as string,
    replicaId: row.replica_id as string,
    inFlight: row.in_flight as number,
    signals: {
      succeeded: row.succeeded as number,
      failed: row.failed as number,
      latencyMs: row.latency_ms as number,
      weight: row.weight as number,
      failedWeight: row.failed_weight as number,
      seenAtMs: writtenMs - (row.seen_ms_ago as number),
      latencies: latencies
        ? { weights: weightsOf(latencies), landmarkMs: writtenMs - (row.latencies_ms_ago as number) }
        : undefined,
    },
    openUntilMs: openLeftMs === null ? undefined : writtenMs + openLeftMs,
    openings: row.openings as number,
  };
}

/** Weights as 32-bit floating-point numbers: seven digits are more than they are worth. */
function bytesOf(weights: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * LATENCY_BUCKETS);
  for (let i = 0; i < LATENCY_BUCKETS; i++) bytes.writeFloatLE(weights[i]!, 4 * i);
  return bytes;
}

function weightsOf(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: LATENCY_BUCKETS }, (_, i) => view.getFloat32(4 * i, true));
}
