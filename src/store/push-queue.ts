/**
 * What push notification configs have yet to get. Each is a reader of its task's log with a cursor in the database: whoever
 * claims it posts what follows the cursor and moves it on. Times are the database's.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { type TaskPushNotificationConfig, TaskPushNotificationConfigSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Database, Row, Statement } from "./database.ts";
import { createGroupCommit } from "./group-commit.ts";
import { kindNumber } from "./task-codec.ts";
import type { TaskNumber } from "./task-reads.ts";
import { SUSPENDED } from "./workspace-sql.ts";

export interface PushConfigKey {
  workspaceId: string;
  taskId: string;
  configId: string;
}

/** A config that this replica posts to. */
export interface PushClaim extends PushConfigKey {
  /** The fencing token: a config that is replaced, deleted or claimed by another is no longer ours. */
  claim: number;
  config: TaskPushNotificationConfig;
  /** What follows this number is to be posted, */
  posted: number;
  /** up to this one. */
  reach: number;
  /** Tries of the next update that failed. */
  tries: number;
}

/** What came of a claim. */
export interface PushOutcome extends PushConfigKey {
  claim: number;
  /** Everything up to this number needs no more posting. */
  posted: number;
  tries: number;
  /**
   * - `go-on`: the claim is kept, if there is more to post.
   * - `pauseMs`: it is given back, and the config is due again after that time.
   * - `give-up`: the config gets no more.
   */
  verdict: "go-on" | { pauseMs: number } | "give-up";
}

export interface PushSettled {
  /** Whether the claim is kept. */
  goesOn: boolean;
  /** Up to where there is something to post now. */
  reach: number;
}

export interface PushQueue {
  /** Tells the configs of these tasks that their logs have reached these numbers. Old news changes nothing. */
  mark(news: readonly TaskNumber[]): Promise<void>;
  /**
   * Claims at most `limit` configs that have something to post and are due, those first that have waited longest. `held`
   * are the claims that this replica knows it has: one that it has without knowing, because an answer was lost, is claimed
   * anew, as are those of dead replicas. Those of suspended workspaces are put off instead.
   */
  claim(replicaId: string, limit: number, held: readonly PushConfigKey[]): Promise<PushClaim[]>;
  /** The first update after `posted` that is to be posted. The body is lf.a2a.v1.StreamResponse. */
  next(claim: PushClaim): Promise<{ seq: number; body: Uint8Array } | undefined>;
  /** Writes down what came of a claim. Undefined when it was ours no longer: nothing was written. */
  settle(outcome: PushOutcome): Promise<PushSettled | undefined>;
  /** Milliseconds until the next config becomes due; at most `within`. */
  untilDue(within: number): Promise<number>;
  /** Waits for what is under way. */
  close(): Promise<void>;
}

const KEY = "workspace_id, task_id, config_id";
const sameKey = (a: string, b: string): string =>
  ["workspace_id", "task_id", "config_id"].map((column) => `${a}.${column} = ${b}.${column}`).join(" and ");

// What is written many at a time is first locked one after another, in the order of keys: so two statements never wait for
// each other, and no plan reads the whole table, whatever ANALYZE has found.
const MARK: Statement = {
  name: "push-mark-v1",
  text: `
    with news as (
      select * from unnest($1::text[], $2::text[], $3::bigint[]) as n(workspace_id, task_id, seq)
      order by workspace_id collate "C", task_id collate "C"
    ), reached as (
      select c.workspace_id, c.task_id, c.config_id, n.seq from news n cross join lateral (
        select ${KEY} from push_configs
        where workspace_id = n.workspace_id and task_id = n.task_id and given_up_at is null and reach < n.seq
        order by config_id for update
      ) c
    )
    update push_configs c set
      reach = greatest(c.reach, r.seq),
      next_try_at = case when r.seq > c.posted and c.given_up_at is null
                         then coalesce(c.next_try_at, clock_timestamp()) else c.next_try_at end
    from reached r where ${sameKey("c", "r")}`,
};

/** Configs of suspended workspaces that one claim puts off, and for how long: whoever resumes a workspace makes them due. */
const MOST_PUT_OFF = 500;
const PUT_OFF = "1 minute";

const CLAIM: Statement = {
  name: "push-claim-v2",
  text: `
    with suspended as materialized (${SUSPENDED}), held as materialized (
      select ${KEY} from push_configs
      where exists (select from suspended) and next_try_at <= now() and workspace_id in (select workspace_id from suspended)
      order by next_try_at limit ${MOST_PUT_OFF} for update skip locked
    ), put_off as (
      update push_configs c set next_try_at = clock_timestamp() + interval '${PUT_OFF}' from held h
      where ${sameKey("c", "h")}
    ), due as (
      select ${KEY}, claim from push_configs c
      where next_try_at <= now() and workspace_id not in (select workspace_id from suspended) and (
        c.claimed_by is null
        or not exists (select from replicas where replica_id = c.claimed_by and died_at is null)
        or (c.claimed_by = $1
            and (${KEY}) not in (select * from unnest($3::text[], $4::text[], $5::text[])))
      )
      order by next_try_at limit $2 for update skip locked
    )
    update push_configs c set claimed_by = $1, claim = nextval('push_claims') from due d
    where ${sameKey("c", "d")} and c.claim = d.claim
      and exists (select from replicas where replica_id = $1 and died_at is null)
    returning c.workspace_id, c.task_id, c.config_id, c.claim, c.body, c.posted, c.reach, c.tries`,
};

const NEXT: Statement = {
  name: "push-next-v1",
  text: `
    select seq, body from task_updates
    where workspace_id = $1 and task_id = $2 and seq > $3 and seq <= $4
      and kind in (${kindNumber("status")}, ${kindNumber("artifact")})
    order by seq limit 1`,
};

const SETTLE: Statement = {
  name: "push-settle-v1",
  text: `
    with outcome as (
      select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::int[], $7::float8[],
                           $8::boolean[]) with ordinality
        as o(workspace_id, task_id, config_id, claim, posted, tries, pause_ms, give_up, ord)
      order by workspace_id collate "C", task_id collate "C", config_id collate "C"
    ), mine as (
      select o.* from outcome o cross join lateral (
        select from push_configs c where ${sameKey("c", "o")} and c.claim = o.claim for update
      ) locked
    )
    update push_configs c set
      posted = m.posted,
      tries = m.tries,
      given_up_at = case when m.give_up then clock_timestamp() end,
      next_try_at = case when m.give_up or m.posted >= c.reach then null
                         when m.pause_ms is null then c.next_try_at
                         else clock_timestamp() + m.pause_ms * interval '1 millisecond' end,
      claimed_by = case when not m.give_up and m.posted < c.reach and m.pause_ms is null then c.claimed_by end
    from mine m where ${sameKey("c", "m")} and c.claim = m.claim
    returning m.ord, c.reach, c.claimed_by is not null as goes_on`,
};

const UNTIL_DUE: Statement = {
  name: "push-until-due-v1",
  text: `
    select extract(epoch from next_try_at - clock_timestamp())::float8 * 1000 as ms from push_configs
    where next_try_at > now() order by next_try_at limit 1`,
};

/** Outcomes that one statement writes at most, and that may wait for it: there are never more than there are posts. */
const MOST_OUTCOMES = 500;

export function createPushQueue(db: Database): PushQueue {
  const outcomes = createGroupCommit<PushOutcome, PushSettled | undefined>({
    name: "push",
    maxBatch: MOST_OUTCOMES,
    maxWaiting: MOST_OUTCOMES,
    flush: (batch) => settleBatch(db, batch),
  });
  return {
    async mark(news) {
      await db.query(MARK, [news.map((n) => n.workspaceId), news.map((n) => n.taskId), news.map((n) => n.seq)]);
    },
    async claim(replicaId, limit, held) {
      const keys = [held.map((k) => k.workspaceId), held.map((k) => k.taskId), held.map((k) => k.configId)];
      return (await db.query(CLAIM, [replicaId, limit, ...keys])).map(decodeClaim);
    },
    async next({ workspaceId, taskId, posted, reach }) {
      const [row] = await db.query(NEXT, [workspaceId, taskId, posted, reach]);
      return row && { seq: row.seq as number, body: row.body as Uint8Array };
    },
    settle: (outcome) => outcomes.submit(outcome),
    async untilDue(within) {
      const [row] = await db.query(UNTIL_DUE, []);
      return Math.min(within, Math.max(0, (row?.ms as number | undefined) ?? within));
    },
    close: () => outcomes.close(),
  };
}

async function settleBatch(db: Database, batch: readonly PushOutcome[]): Promise<(PushSettled | undefined)[]> {
  const rows = await db.query(SETTLE, [
    batch.map((o) => o.workspaceId),
    batch.map((o) => o.taskId),
    batch.map((o) => o.configId),
    batch.map((o) => o.claim),
    batch.map((o) => o.posted),
    batch.map((o) => o.tries),
    batch.map(({ verdict }) => (typeof verdict === "object" ? verdict.pauseMs : null)),
    batch.map(({ verdict }) => verdict === "give-up"),
  ]);
  const settled = new Array<PushSettled | undefined>(batch.length).fill(undefined);
  for (const row of rows) {
    settled[(row.ord as number) - 1] = { goesOn: row.goes_on as boolean, reach: row.reach as number };
  }
  return settled;
}

const decodeClaim = (row: Row): PushClaim => ({
  workspaceId: row.workspace_id as string,
  taskId: row.task_id as string,
  configId: row.config_id as string,
  claim: row.claim as number,
  config: fromBinary(TaskPushNotificationConfigSchema, row.body as Uint8Array),
  posted: row.posted as number,
  reach: row.reach as number,
  tries: row.tries as number,
});
