/**
 * What is known of agents' health: their checks, over all workspaces, and their heartbeats. All times are the database's; what
 * lies ahead is told as milliseconds from now, because no other clock can be compared with it.
 */
import type { Selectable } from "kysely";
import { type AgentRecord, agentRecord } from "./agent-repository.ts";
import type { Database, Row, Statement } from "./database.ts";
import { createGroupCommit } from "./group-commit.ts";
import type { AgentTable } from "./schema/agents.ts";

/** An agent of a workspace. */
export type AgentKey = Pick<AgentRecord, "workspaceId" | "agentId">;

export interface HealthRecord {
  agentId: string;
  /** By its checks alone. */
  healthy: boolean;
  /** Why the last check failed; what was odd about it, when it did not. */
  reason: string;
  /** Checks that failed in a row. */
  failures: number;
  checkedAt: Date | undefined;
  succeededAt: Date | undefined;
  /** Until the next check; negative when it is due. */
  nextCheckInMs: number;
  heartbeatTtlMs: number | undefined;
  heartbeatExpiresAt: Date | undefined;
  /** Until the heartbeat has expired; negative when it has. Undefined for an agent that never gave one and need not. */
  heartbeatLeftMs: number | undefined;
}

/** What came of a check. */
export interface CheckResult extends AgentKey {
  passed: boolean;
  /** Why it failed; what was odd about it, when it did not. */
  reason: string;
}

export interface AgentHealthRepository {
  /**
   * Takes at most `limit` agents whose check is due, those first that have waited longest: the next check of each is due in
   * `intervalMs`, give or take a tenth. Whoever takes one checks it; if that replica dies, the next one is in an interval.
   */
  claimDue(limit: number, intervalMs: number): Promise<AgentRecord[]>;
  /** Milliseconds until the next check is due; at most `within`. */
  untilDue(within: number): Promise<number>;
  /**
   * Writes down what came of a check: after some in a row that failed an agent is unhealthy, after one that passed healthy.
   * Resolves with what it is now, where that is news. What arrives together is written in one statement.
   */
  record(result: CheckResult): Promise<"healthy" | "unhealthy" | undefined>;
  /** The agents of a workspace that their checks or their heartbeats may speak against: the others are healthy. */
  troubled(workspaceId: string): Promise<HealthRecord[]>;
  /** What is known of these agents; one that there is not is left out. */
  get(workspaceId: string, agentIds: readonly string[]): Promise<HealthRecord[]>;
  /** Makes an agent's check due now: it has another address. */
  due(workspaceId: string, agentId: string): Promise<void>;
  /** Forgets the checks that an agent failed: they were of another address. */
  moved(workspaceId: string, agentId: string): Promise<void>;
  /**
   * An agent says that it lives, for `ttlMs`, or for as long as it said last; with 0 it gives no heartbeats from then on.
   * "missing": there is no such agent; "no-ttl": it has never said for how long, or gives none.
   */
  beat(workspaceId: string, agentId: string, ttlMs: number | undefined): Promise<"beaten" | "missing" | "no-ttl">;
  /** Waits for what is under way. */
  close(): Promise<void>;
}

const ms = (parameter: string): string => `${parameter}::float8 * interval '1 millisecond'`;
const left = (column: string): string => `(extract(epoch from ${column} - clock_timestamp()) * 1000)::float8`;

const CLAIM: Statement = {
  name: "health-claim-v1",
  text: `
    with due as (
      select workspace_id, agent_id from agent_health where next_check_at <= now()
      order by next_check_at limit $1 for update skip locked
    )
    update agent_health h set next_check_at = now() + ${ms("$2")} * (0.9 + 0.2 * random())
    from due d join agents a using (workspace_id, agent_id)
    where h.workspace_id = d.workspace_id and h.agent_id = d.agent_id
    returning a.*`,
};

const UNTIL_DUE: Statement = {
  name: "health-until-due-v1",
  text: `select ${left("next_check_at")} as ms from agent_health order by next_check_at limit 1`,
};

// Locked in the order of keys, so that two statements never wait for each other.
const RECORD: Statement = {
  name: "health-record-v1",
  text: `
    with result as (
      select * from unnest($1::text[], $2::text[], $3::boolean[], $4::text[]) as r(workspace_id, agent_id, passed, reason)
      order by workspace_id collate "C", agent_id collate "C"
    ), known as (
      select r.*, locked.was from result r cross join lateral (
        select healthy as was from agent_health h
        where h.workspace_id = r.workspace_id and h.agent_id = r.agent_id for update
      ) locked
    )
    update agent_health h set
      failures = case when k.passed then 0 else h.failures + 1 end,
      healthy = k.passed or (h.healthy and h.failures + 1 < $5),
      reason = k.reason,
      checked_at = clock_timestamp(),
      succeeded_at = case when k.passed then clock_timestamp() else h.succeeded_at end
    from known k where h.workspace_id = k.workspace_id and h.agent_id = k.agent_id
    returning h.workspace_id, h.agent_id, h.healthy, h.healthy <> k.was as is_news`,
};

const COLUMNS = `agent_id, healthy, reason, failures, checked_at, succeeded_at, heartbeat_ttl_ms, heartbeat_expires_at,
  ${left("next_check_at")} as next_check_ms, ${left("heartbeat_expires_at")} as heartbeat_left_ms`;

const TROUBLED: Statement = {
  name: "health-troubled-v1",
  text: `select ${COLUMNS} from agent_health where workspace_id = $1 and (not healthy or heartbeat_expires_at is not null)`,
};

const GET: Statement = {
  name: "health-get-v1",
  text: `select ${COLUMNS} from agent_health where workspace_id = $1 and agent_id = any($2::text[])`,
};

const DUE: Statement = {
  name: "health-due-v1",
  text: "update agent_health set next_check_at = now() where workspace_id = $1 and agent_id = $2",
};

const MOVED: Statement = {
  name: "health-moved-v1",
  text: "update agent_health set failures = 0, healthy = true, reason = '' where workspace_id = $1 and agent_id = $2",
};

const BEAT: Statement = {
  name: "health-beat-v2",
  text: `
    update agent_health set
      heartbeat_ttl_ms = nullif(coalesce($3::int, heartbeat_ttl_ms), 0),
      heartbeat_expires_at = clock_timestamp() + ${ms("nullif(coalesce($3::int, heartbeat_ttl_ms), 0)")}
    where workspace_id = $1 and agent_id = $2
    returning heartbeat_ttl_ms`,
};

/** Results that one statement writes at most, and that may wait for it: there are never more than there are checks. */
const MOST_RESULTS = 500;

/** `failures`: so many checks in a row must fail before an agent is unhealthy. */
export function createAgentHealthRepository(db: Database, { failures }: { failures: number }): AgentHealthRepository {
  async function recordBatch(all: readonly CheckResult[]): Promise<("healthy" | "unhealthy" | undefined)[]> {
    // Of an agent that was checked twice at once, the last counts: a statement changes each row once.
    const keyOf = ({ workspaceId, agentId }: AgentKey) => `${workspaceId} ${agentId}`;
    const results = [...new Map(all.map((result) => [keyOf(result), result])).values()];
    const columns = [
      results.map((result) => result.workspaceId),
      results.map((result) => result.agentId),
      results.map((result) => result.passed),
      results.map((result) => result.reason),
    ];
    const rows = await db.query(RECORD, [...columns, failures]);
    const news = new Map(
      rows
        .filter((row) => row.is_news)
        .map((row) => [
          `${row.workspace_id} ${row.agent_id}`,
          row.healthy ? ("healthy" as const) : ("unhealthy" as const),
        ]),
    );
    return all.map((result) => news.get(keyOf(result)));
  }
  const results = createGroupCommit<CheckResult, "healthy" | "unhealthy" | undefined>({
    name: "health",
    maxBatch: MOST_RESULTS,
    maxWaiting: MOST_RESULTS,
    flush: recordBatch,
  });
  return {
    async claimDue(limit, intervalMs) {
      const rows = await db.query(CLAIM, [limit, intervalMs]);
      return rows.map((row) => agentRecord(row as unknown as Selectable<AgentTable>));
    },
    async untilDue(within) {
      const [row] = await db.query(UNTIL_DUE, []);
      return Math.min(within, Math.max(0, (row?.ms as number | undefined) ?? within));
    },
    record: (result) => results.submit(result),
    troubled: async (workspaceId) => (await db.query(TROUBLED, [workspaceId])).map(record),
    get: async (workspaceId, agentIds) => (await db.query(GET, [workspaceId, agentIds])).map(record),
    moved: async (workspaceId, agentId) => void (await db.query(MOVED, [workspaceId, agentId])),
    due: async (workspaceId, agentId) => void (await db.query(DUE, [workspaceId, agentId])),
    async beat(workspaceId, agentId, ttlMs) {
      const [row] = await db.query(BEAT, [workspaceId, agentId, ttlMs ?? null]);
      if (!row) return "missing";
      return row.heartbeat_ttl_ms === null && ttlMs !== 0 ? "no-ttl" : "beaten";
    },
    close: () => results.close(),
  };
}

const record = (row: Row): HealthRecord => ({
  agentId: row.agent_id as string,
  healthy: row.healthy as boolean,
  reason: row.reason as string,
  failures: row.failures as number,
  checkedAt: (row.checked_at as Date | null) ?? undefined,
  succeededAt: (row.succeeded_at as Date | null) ?? undefined,
  nextCheckInMs: row.next_check_ms as number,
  heartbeatTtlMs: (row.heartbeat_ttl_ms as number | null) ?? undefined,
  heartbeatExpiresAt: (row.heartbeat_expires_at as Date | null) ?? undefined,
  heartbeatLeftMs: (row.heartbeat_left_ms as number | null) ?? undefined,
});
