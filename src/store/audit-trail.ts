/**
 * Writing to the audit log. An entry is written in the transaction of what it records: with the hot statements of tasks, which
 * carry entries in themselves (audit-sql.ts), or by a `Recording`, which a repository calls in its own transaction.
 *
 * A chain is that of a workspace, a run of a server and a lane, so that no replica waits for another, and nothing for what is
 * written in another lane. Who adds to a chain holds it until its transaction ends.
 */
import type { JsonObject } from "@bufbuild/protobuf";
import { type Kysely, sql } from "kysely";
import { routerActor } from "../domain/audit/actor.ts";
import { type AuditEvent, auditBody } from "../domain/audit/entry.ts";
import type { Database } from "./database.ts";
import { textArray, timestamptzArray } from "./pg-arrays.ts";
import type { Schema } from "./schema.ts";

/**
 * Lanes of a replica: `s`, tasks that begin; `a`, rows that are added to logs; `r`, calls that were refused; `x`, everything else.
 */
export type AuditLane = "s" | "a" | "r" | "x";

export const chainId = (replicaId: string, lane: AuditLane): string => `${replicaId}/${lane}`;

/**
 * Records one change: call it in the change's own transaction, as its last statement, and only where something has changed.
 * `facts` joins the detail of the event: what only the transaction knows, as a revision.
 */
export type Recording = (tx: Kysely<Schema>, facts?: JsonObject) => Promise<void>;

export interface AuditTrail {
  /** False: nothing is recorded, and recordings do nothing. */
  readonly enabled: boolean;
  recording(event: AuditEvent): Recording;
  /** Records what has no transaction of its own. One transaction; entries stand in the order given, within each workspace. */
  write(events: readonly AuditEvent[], lane?: AuditLane): Promise<void>;
}

export interface AuditTrailOptions {
  db: Database;
  enabled: boolean;
  /** Who writes. Asked for each entry: a replica that was declared dead goes on under another id, and in other chains. */
  replicaId: () => string;
}

const WRITE = {
  name: "audit-write-v1",
  text: `
    select signalbox_audit(g.workspace_id, $5, g.at, g.task, g.body) from (
      select workspace_id, array_agg(at order by ord) as at, array_agg(task_id order by ord) as task,
             array_agg(body order by ord) as body
      from unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[]) with ordinality
        as i(workspace_id, at, task_id, body, ord)
      group by workspace_id order by workspace_id
    ) g`,
};

export function createAuditTrail({ db, enabled, replicaId }: AuditTrailOptions): AuditTrail {
  return {
    enabled,
    recording(event) {
      if (!enabled) return NOTHING_RECORDED;
      return async (tx, facts) => {
        const { workspaceId, at, taskId } = event;
        const body = auditBody(facts ? { ...event, detail: { ...event.detail, ...facts } } : event);
        const chain = chainId(replicaId(), "x");
        await sql`
          select signalbox_audit(${workspaceId}, ${chain}, array[${at}::timestamptz], array[${taskId ?? null}::text],
                                 array[${body}::text])`.execute(tx);
      };
    },
    async write(events, lane = "x") {
      if (!enabled || events.length === 0) return;
      await db.query(WRITE, [
        textArray(events, (e) => e.workspaceId),
        timestamptzArray(events, (e) => e.at),
        textArray(events, (e) => e.taskId),
        textArray(events, auditBody),
        chainId(replicaId(), lane),
      ]);
    },
  };
}

/**
 * Says in the log of every workspace that a server records nothing from now on, `audit.off`, or that it has ended, `audit.on`: that
 * something may be missing is then known from the log itself.
 */
export async function recordSilence(
  db: Database,
  replicaId: string,
  action: "audit.off" | "audit.on",
  at: Date,
): Promise<void> {
  const workspaces = await db.kysely.selectFrom("workspaces").select("workspace_id").orderBy("workspace_id").execute();
  const trail = createAuditTrail({ db, enabled: true, replicaId: () => replicaId });
  const actor = routerActor(replicaId);
  const said = { at, actor, action, targetType: "replica", targetId: replicaId, result: "OK" };
  await trail.write(workspaces.map(({ workspace_id: workspaceId }) => ({ ...said, workspaceId })));
}

const NOTHING_RECORDED: Recording = async () => {};
