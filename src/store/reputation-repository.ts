/** How agents stand. Whoever changes a standing has its workspace's to itself meanwhile, so that changes come one after another. */
import { type Kysely, sql } from "kysely";
import type { AgentStandings, BriefStanding } from "../domain/reputation/agent-standings.ts";
import type { Standing } from "../domain/reputation/standing.ts";
import type { Recording } from "./audit-trail.ts";
import type { Database, Row, Statement } from "./database.ts";
import { type EndingKey, readEndings, type TaskEnding } from "./ending-reads.ts";
import type { OutboxPosition } from "./outbox-repository.ts";
import type { Schema } from "./schema.ts";
import { decodeWindows, encodeWindows } from "./window-codec.ts";

export interface ReputationKey {
  readonly agentId: string;
  /** Empty for the agent as a whole. */
  readonly capabilityId: string;
}

/** What routing asks of a standing. */
export interface BriefReputation extends ReputationKey {
  readonly standing: BriefStanding;
}

export interface ReputationRecord extends ReputationKey {
  readonly standing: Standing;
}

/** Where a duty of the outbox has come to, and its right to say so. */
export interface CursorMove {
  readonly duty: string;
  readonly fence: number;
  readonly from: OutboxPosition;
  readonly position: OutboxPosition;
}

/** Standings that are about to change. */
export interface ChangingAgent {
  readonly workspaceId: string;
  readonly agentId: string;
  /** Those that are wanted; left out, all that the agent has. The one of the agent as a whole is always among them. */
  readonly capabilityIds?: readonly string[];
}

/** Changes the standings of an agent in place, and says of which capabilities. */
export type ChangeStandings = (agent: ChangingAgent, standings: AgentStandings) => Iterable<string>;

/** The same, where it matters what time it is: by the database's clock, in milliseconds. */
export type ChangeStandingsNow = (agent: ChangingAgent, standings: AgentStandings, nowMs: number) => Iterable<string>;

export interface ReputationRepository {
  /** What has changed in a workspace since a cursor, which was given with an earlier answer; all, without one. */
  load(workspaceId: string, since: string | undefined): Promise<{ rows: BriefReputation[]; cursor: string }>;
  /** Those of one agent, the one of the agent as a whole first. */
  ofAgent(workspaceId: string, agentId: string): Promise<ReputationRecord[]>;
  /** At most `limit` after a key, by agent and then by capability. */
  list(
    workspaceId: string,
    page: { limit: number; after?: ReputationKey | undefined; agentId?: string | undefined },
  ): Promise<ReputationRecord[]>;
  /** See `readEndings`. */
  endings(rows: readonly EndingKey[]): Promise<TaskEnding[]>;
  /**
   * Changes standings and moves the cursor of the duty that does so, both or neither. False, and nothing is changed, when another
   * has taken the cursor, or it does not stand where it is thought to. No agent is named twice.
   */
  fold(move: CursorMove, agents: readonly ChangingAgent[], change: ChangeStandings): Promise<boolean>;
  /**
   * Changes the standings of one agent. False, and nothing is changed, where a report of this id was taken in before.
   */
  change(
    agent: ChangingAgent,
    change: ChangeStandingsNow,
    report?: { id: string; at: Date },
    record?: Recording,
  ): Promise<boolean>;
}

// A transaction that was under way when the cursor was taken may commit after it: its number is not below the cursor.
const LOAD: Statement = {
  name: "reputation-load-v1",
  text: `
    select s.cursor, r.agent_id, r.capability_id, r.trust, r.weight, r.good_weight, r.at
    from (select pg_snapshot_xmin(pg_current_snapshot()) as cursor) s
    left join reputations r on r.workspace_id = $1 and r.xid >= coalesce($2::xid8, '0'::xid8)`,
};

/** Not flushed to disk before it is answered. */
const QUICKLY = sql`set local synchronous_commit = off`;

export function createReputationRepository(db: Database): ReputationRepository {
  const { kysely } = db;

  return {
    async load(workspaceId, since) {
      const rows = await db.query(LOAD, [workspaceId, since ?? null]);
      const found = rows.filter((row) => row.agent_id !== null);
      return {
        rows: found.map((row) => ({ ...keyOf(row), standing: briefOf(row) })),
        cursor: rows[0]!.cursor as string,
      };
    },

    async ofAgent(workspaceId, agentId) {
      const rows = await kysely
        .selectFrom("reputations")
        .selectAll()
        .where("workspace_id", "=", workspaceId)
        .where("agent_id", "=", agentId)
        .orderBy("capability_id")
        .execute();
      return rows.map(recordOf);
    },

    async list(workspaceId, { limit, after, agentId }) {
      return db.reading(workspaceId, async (reader) => {
        let query = reader.kysely.selectFrom("reputations").selectAll().where("workspace_id", "=", workspaceId);
        if (agentId !== undefined) query = query.where("agent_id", "=", agentId);
        if (after)
          query = query.where(sql<boolean>`(agent_id, capability_id) > (${after.agentId}, ${after.capabilityId})`);
        const rows = await query.orderBy("agent_id").orderBy("capability_id").limit(limit).execute();
        return rows.map(recordOf);
      });
    },

    endings: (rows) => readEndings(db, rows),

    fold({ duty, fence, from, position }, agents, change) {
      return kysely.transaction().execute(async (tx) => {
        // Both fall back together after a crash of the database, and are done again.
        await QUICKLY.execute(tx);
        await lock(tx, agents);
        const { numUpdatedRows } = await tx
          .updateTable("outbox_cursors")
          .set({
            xid: position.xid,
            workspace_id: position.workspaceId,
            task_id: position.taskId,
            seq: position.seq,
          })
          .where("name", "=", duty)
          .where("fence", "=", fence)
          .where("xid", "=", from.xid)
          .where("workspace_id", "=", from.workspaceId)
          .where("task_id", "=", from.taskId)
          .where("seq", "=", from.seq)
          .executeTakeFirst();
        if (numUpdatedRows === 0n) return false;
        await changeAll(tx, agents, change);
        return true;
      });
    },

    change(agent, change, report, record) {
      return kysely.transaction().execute(async (tx) => {
        await lock(tx, [agent]);
        if (report) {
          const { numInsertedOrUpdatedRows = 0n } = await tx
            .insertInto("reputation_reports")
            .values({
              workspace_id: agent.workspaceId,
              report_id: report.id,
              created_at: sql`least(${report.at}::timestamptz, clock_timestamp())`,
            })
            .onConflict((conflict) => conflict.doNothing())
            .executeTakeFirst();
          if (numInsertedOrUpdatedRows === 0n) return false;
        }
        const { rows } = await sql<{ now: Date }>`select clock_timestamp() as now`.execute(tx);
        const nowMs = rows[0]!.now.getTime();
        await changeAll(tx, [agent], (one, standings) => change(one, standings, nowMs));
        await record?.(tx);
        return true;
      });
    },
  };
}

/** Lets one change of a workspace's standings go at a time, until the transaction ends. In one order on all replicas. */
async function lock(tx: Kysely<Schema>, agents: readonly ChangingAgent[]): Promise<void> {
  const workspaces = [...new Set(agents.map(({ workspaceId }) => workspaceId))];
  await sql`
    select pg_advisory_xact_lock(name) from (
      select hashtextextended('reputation ' || i.workspace_id, 0) as name
      from unnest(${workspaces}::text[]) as i(workspace_id) order by name
    ) names`.execute(tx);
}

/** A statement of its own reads them: it must see what was committed while the lock was waited for. */
async function changeAll(tx: Kysely<Schema>, agents: readonly ChangingAgent[], change: ChangeStandings): Promise<void> {
  if (agents.length === 0) return;
  const { rows } = await sql<Row>`
    select r.* from unnest(${agents.map(({ workspaceId }) => workspaceId)}::text[],
                           ${agents.map(({ agentId }) => agentId)}::text[],
                           ${agents.map(({ capabilityIds }) => capabilityIds?.join(" ") ?? null)}::text[])
      as i(workspace_id, agent_id, capability_ids)
    join reputations r on r.workspace_id = i.workspace_id and r.agent_id = i.agent_id
      and (i.capability_ids is null or r.capability_id = '' or r.capability_id = any (string_to_array(i.capability_ids, ' ')))
    `.execute(tx);
  const known = Map.groupBy(rows, (row) => `${row.workspace_id} ${row.agent_id}`);
  const changed = agents.flatMap((agent) => {
    const { workspaceId, agentId } = agent;
    const standings: AgentStandings = new Map(
      (known.get(`${workspaceId} ${agentId}`) ?? []).map((row) => [row.capability_id as string, standingOf(row)]),
    );
    return [...change(agent, standings)].map((capabilityId) => ({
      workspaceId,
      agentId,
      capabilityId,
      standing: standings.get(capabilityId)!,
    }));
  });
  await write(tx, changed);
}

async function write(
  tx: Kysely<Schema>,
  records: readonly (ReputationRecord & { workspaceId: string })[],
): Promise<void> {
  if (records.length === 0) return;
  const of = <T>(pick: (standing: Standing) => T) => records.map(({ standing }) => pick(standing));
  await sql`
    insert into reputations (workspace_id, agent_id, capability_id, trust, weight, good_weight, succeeded, failed, at, set_at,
                             windows)
    select * from unnest(${records.map(({ workspaceId }) => workspaceId)}::text[],
                         ${records.map(({ agentId }) => agentId)}::text[],
                         ${records.map(({ capabilityId }) => capabilityId)}::text[],
                         ${of(({ trust }) => trust)}::float8[], ${of(({ weight }) => weight)}::float8[],
                         ${of(({ goodWeight }) => goodWeight)}::float8[], ${of(({ succeeded }) => succeeded)}::bigint[],
                         ${of(({ failed }) => failed)}::bigint[], ${of(({ atMs }) => new Date(atMs))}::timestamptz[],
                         ${of(({ setAtMs }) => (setAtMs === undefined ? null : new Date(setAtMs)))}::timestamptz[],
                         ${of(({ windows }) => encodeWindows(windows))}::bytea[])
    on conflict (workspace_id, agent_id, capability_id) do update set
      trust = excluded.trust, weight = excluded.weight, good_weight = excluded.good_weight, succeeded = excluded.succeeded,
      failed = excluded.failed, at = excluded.at, set_at = excluded.set_at, windows = excluded.windows,
      xid = pg_current_xact_id()`.execute(tx);
}

const keyOf = (row: Row): ReputationKey => ({
  agentId: row.agent_id as string,
  capabilityId: row.capability_id as string,
});

const briefOf = (row: Row): BriefStanding => ({
  trust: row.trust as number,
  weight: row.weight as number,
  goodWeight: row.good_weight as number,
  atMs: (row.at as Date).getTime(),
});

const standingOf = (row: Row): Standing => ({
  ...briefOf(row),
  succeeded: row.succeeded as number,
  failed: row.failed as number,
  setAtMs: (row.set_at as Date | null)?.getTime(),
  windows: decodeWindows(row.windows as Uint8Array),
});

const recordOf = (row: object): ReputationRecord => ({ ...keyOf(row as Row), standing: standingOf(row as Row) });
