/** Removes what is of no use any more, over all workspaces, in bounded batches. Replicas may sweep at the same time. */
import { EngineState } from "../domain/task-state.ts";
import type { Database, Statement } from "./database.ts";

export interface ExpiredRows {
  /** Removes at most `limit` keys of idempotency that have expired. Returns how many. */
  removeKeys(now: Date, limit: number): Promise<number>;
  /**
   * Looks at most `limit` cached results over whose time may have come: removes those that have expired, or whose task came
   * to no result, and puts the others off. Returns how many it looked at.
   */
  removeResults(now: Date, limit: number): Promise<number>;
  /** Removes at most `limit` reports of judges that were taken in before. Returns how many. */
  removeReports(before: Date, limit: number): Promise<number>;
  /** Removes at most `limit` reputations of agents that have left, in which nothing has changed since. Returns how many. */
  removeReputations(before: Date, limit: number): Promise<number>;
  /** Removes at most `limit` slices of windows of budgets that ended before, of which no task holds anything. Returns how many. */
  removeBudgetSlices(before: Date, limit: number): Promise<number>;
  /** Removes at most `limit` nonces of signed requests that nobody could repeat any more. Returns how many. */
  removeNonces(now: Date, limit: number): Promise<number>;
  /** Removes at most `limit` API keys that were revoked, or expired, before. Returns how many. */
  removeApiKeys(before: Date, limit: number): Promise<number>;
  /** Removes the oldest results of workspaces that have more than `most`, at most `limit` of each. Returns how many. */
  evictResults(most: number, limit: number): Promise<number>;
}

const KEYS: Statement = {
  name: "expired-keys-v1",
  text: `
    delete from idempotency_keys where ctid = any (array(
      select ctid from idempotency_keys where expires_at <= $1 order by expires_at limit $2 for update skip locked
    )) returning 1`,
};

const { COMPLETED, FAILED, CANCELED, REJECTED } = EngineState;

// A result counts from its task's end, which nobody wrote down when the task began. A task that is not there yet is given
// the time that it may take to be stored.
const RESULTS: Statement = {
  name: "expired-results-v1",
  text: `
    with due as materialized (
      select ctid as place, workspace_id, task_id, ttl_ms, created_at from cached_results
      where expires_at <= $1 order by expires_at limit $2 for update skip locked
    ), judged as (
      select d.place, case
          when t.state = ${COMPLETED} then t.status_at + d.ttl_ms * interval '1 millisecond'
          when t.state in (${FAILED}, ${CANCELED}, ${REJECTED}) then $1
          when t.state is null then d.created_at + interval '5 minutes'
          else $1::timestamptz + greatest(d.ttl_ms, 60000) * interval '1 millisecond' end as until
      from due d left join tasks t on t.workspace_id = d.workspace_id and t.task_id = d.task_id
    ), removed as (
      delete from cached_results r using judged j where r.ctid = j.place and j.until <= $1
    ), put_off as (
      update cached_results r set expires_at = j.until from judged j where r.ctid = j.place and j.until > $1
    )
    select count(*) as looked from due`,
};

const EVICT: Statement = {
  name: "evicted-results-v1",
  text: `
    with crowded as (
      select workspace_id, count(*) - $1 as excess from cached_results group by workspace_id having count(*) > $1
    )
    delete from cached_results r using (
      select o.place from crowded c cross join lateral (
        select ctid as place from cached_results where workspace_id = c.workspace_id
        order by created_at limit least(c.excess, $2)
      ) o
    ) oldest where r.ctid = oldest.place returning 1`,
};

const REPORTS: Statement = {
  name: "expired-reports-v1",
  text: `
    delete from reputation_reports where ctid = any (array(
      select ctid from reputation_reports where created_at < $1 order by created_at limit $2 for update skip locked
    )) returning 1`,
};

const REPUTATIONS: Statement = {
  name: "expired-reputations-v2",
  text: `
    delete from reputations where ctid = any (array(
      select r.ctid from reputations r
      where r.at < $1 and not exists (
        select from agents a where a.workspace_id = r.workspace_id and a.agent_id = r.agent_id
      ) and not exists (
        select from grants g
        where g.consumer_workspace_id = r.workspace_id and g.alias_agent_id = r.agent_id and g.state = 2
      )
      limit $2 for update skip locked
    )) returning 1`,
};

// A task that has not ended gives back, or is charged, by the rows of its slice: they stay as long as there is one.
const BUDGETS: Statement = {
  name: "expired-budgets-v1",
  text: `
    with old as materialized (
      select s.workspace_id, s.limit_key, s.replica_id from budget_slices s
      where s.ends_at < $1
        and coalesce((
          select r.units from budget_reservations r
          where r.workspace_id = s.workspace_id and r.limit_key = s.limit_key and r.replica_id = s.replica_id
        ), 0) = coalesce((
          select sum(t.released + t.charged) from budget_settlements t
          where t.workspace_id = s.workspace_id and t.limit_key = s.limit_key and t.replica_id = s.replica_id
        ), 0)
      order by s.ends_at limit $2 for update skip locked
    ), reservations as (
      delete from budget_reservations r using old o
      where r.workspace_id = o.workspace_id and r.limit_key = o.limit_key and r.replica_id = o.replica_id
    ), settlements as (
      delete from budget_settlements t using old o
      where t.workspace_id = o.workspace_id and t.limit_key = o.limit_key and t.replica_id = o.replica_id
    )
    delete from budget_slices s using old o
    where s.workspace_id = o.workspace_id and s.limit_key = o.limit_key and s.replica_id = o.replica_id
    returning 1`,
};

const NONCES: Statement = {
  name: "expired-nonces-v1",
  text: `
    delete from signed_nonces where ctid = any (array(
      select ctid from signed_nonces where expires_at <= $1 order by expires_at limit $2 for update skip locked
    )) returning 1`,
};

const API_KEYS: Statement = {
  name: "ended-api-keys-v1",
  text: `
    delete from api_keys where ctid = any (array(
      select ctid from api_keys
      where coalesce(revoked_at, expires_at) < $1
      order by coalesce(revoked_at, expires_at) limit $2 for update skip locked
    )) returning 1`,
};

export function createExpiredRows(db: Database): ExpiredRows {
  return {
    removeKeys: async (now, limit) => (await db.query(KEYS, [now, limit])).length,
    removeResults: async (now, limit) => (await db.query(RESULTS, [now, limit]))[0]!.looked as number,
    removeReports: async (before, limit) => (await db.query(REPORTS, [before, limit])).length,
    removeReputations: async (before, limit) => (await db.query(REPUTATIONS, [before, limit])).length,
    removeBudgetSlices: async (before, limit) => (await db.query(BUDGETS, [before, limit])).length,
    removeNonces: async (now, limit) => (await db.query(NONCES, [now, limit])).length,
    removeApiKeys: async (before, limit) => (await db.query(API_KEYS, [before, limit])).length,
    evictResults: async (most, limit) => (await db.query(EVICT, [most, limit])).length,
  };
}
