/** Which task a request has begun, or gone on with, by the key that it brought. */
import type { Database, Statement } from "./database.ts";

/** A key, as it is reserved for a request before anything comes of it. */
export interface Reservation {
  principalId: string;
  key: string;
  /** SHA-256 of the request. */
  digest: Uint8Array;
  /** The task that the request begins, or goes on with. */
  taskId: string;
  /** Number of the last row of the task's log before the request's message; 0 where it begins the task. */
  afterSeq: number;
  /** The replica that took it in. */
  replicaId: string;
  createdAt: Date;
  /** From when on the key is free for another request. */
  expiresAt: Date;
}

/** What is reserved under a key. */
export interface Reserved extends Pick<Reservation, "digest" | "taskId" | "afterSeq" | "replicaId" | "createdAt"> {
  /** Whether the replica that took it in still lives. */
  alive: boolean;
}

export interface IdempotencyRepository {
  /** Reserves a key. Returns what is reserved under it already; undefined when it is the caller's now. */
  reserve(workspaceId: string, reservation: Reservation): Promise<Reserved | undefined>;
  /** Puts a reservation in the place of one of which nothing came. False when another was faster. */
  takeOver(workspaceId: string, from: Reserved, reservation: Reservation): Promise<boolean>;
  /** Gives a key back whose request was refused. Nothing happens where it is another request's. */
  release(workspaceId: string, reservation: Reservation): Promise<void>;
}

const KEY = "k.workspace_id = $1 and k.principal_id = $2 and k.key = $3";

// Where the insert met a row that is younger than the snapshot, neither part sees it: the caller asks again.
const RESERVE: Statement = {
  name: "idempotency-reserve-v1",
  text: `
    with reserved as (
      insert into idempotency_keys as k
        (workspace_id, principal_id, key, digest, task_id, after_seq, replica_id, created_at, expires_at)
      values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
      on conflict (workspace_id, principal_id, key) do update set
        digest = excluded.digest, task_id = excluded.task_id, after_seq = excluded.after_seq,
        replica_id = excluded.replica_id, created_at = excluded.created_at, expires_at = excluded.expires_at
      where k.expires_at <= excluded.created_at
      returning k.digest, k.task_id, k.after_seq, k.replica_id, k.created_at
    )
    select true as mine, true as alive, r.* from reserved r
    union all
    select false, exists (select from replicas p where p.replica_id = k.replica_id and p.died_at is null),
           k.digest, k.task_id, k.after_seq, k.replica_id, k.created_at
    from idempotency_keys k where ${KEY} and not exists (select from reserved)`,
};

const TAKE_OVER: Statement = {
  name: "idempotency-take-over-v1",
  text: `
    update idempotency_keys k set digest = $4, task_id = $5, after_seq = $6, replica_id = $7, created_at = $8, expires_at = $9
    where ${KEY} and k.task_id = $10 and k.replica_id = $11 and k.created_at = $12
    returning true`,
};

const RELEASE: Statement = {
  name: "idempotency-release-v1",
  text: `delete from idempotency_keys k where ${KEY} and k.task_id = $4 and k.replica_id = $5 and k.created_at = $6`,
};

/** A row that appears between two statements is there for the third. */
const MOST_TRIES = 10;

export function createIdempotencyRepository(db: Database): IdempotencyRepository {
  const values = (workspaceId: string, r: Reservation) => [
    workspaceId,
    r.principalId,
    r.key,
    r.digest,
    r.taskId,
    r.afterSeq,
    r.replicaId,
    r.createdAt,
    r.expiresAt,
  ];
  return {
    async reserve(workspaceId, reservation) {
      for (let tries = 0; tries < MOST_TRIES; tries++) {
        const [row] = await db.query(RESERVE, values(workspaceId, reservation));
        if (!row) continue;
        if (row.mine === true) return undefined;
        return {
          digest: row.digest as Uint8Array,
          taskId: row.task_id as string,
          afterSeq: row.after_seq as number,
          replicaId: row.replica_id as string,
          createdAt: row.created_at as Date,
          alive: row.alive as boolean,
        };
      }
      throw new Error("a key of idempotency comes and goes faster than it can be read");
    },
    async takeOver(workspaceId, from, reservation) {
      const rows = await db.query(TAKE_OVER, [
        ...values(workspaceId, reservation),
        from.taskId,
        from.replicaId,
        from.createdAt,
      ]);
      return rows.length === 1;
    },
    async release(workspaceId, { principalId, key, taskId, replicaId, createdAt }) {
      await db.query(RELEASE, [workspaceId, principalId, key, taskId, replicaId, createdAt]);
    },
  };
}
