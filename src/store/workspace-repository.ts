/** Workspaces: who they are, whether they let anybody in, and how much they may use. */
import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { type Kysely, type Selectable, sql } from "kysely";
import { type Quotas, QuotasSchema } from "../../gen/signalbox/v1/workspace_pb.ts";
import type { Database, Statement } from "./database.ts";
import { type RecordingIn, recordIn } from "./recordings.ts";
import type { WorkspaceTable } from "./schema/agents.ts";
import type { Schema } from "./schema.ts";

export interface WorkspaceRecord {
  readonly workspaceId: string;
  readonly displayName: string;
  readonly createdAt: Date;
  /** Undefined as long as it is not suspended. */
  readonly suspendedAt: Date | undefined;
  readonly suspendReason: string;
}

/** How much a workspace may use, and how many times that was said by now. */
export interface StoredQuotas {
  /** Without an etag. What has no limit is left out. */
  readonly quotas: Quotas;
  /** 0 as long as nothing was said. */
  readonly revision: number;
}

/** Who does it, and what records it: in the log of the workspace, and in that of who does it where that is another. */
export interface WorkspaceDeed {
  readonly byWorkspaceId: string;
  readonly record: RecordingIn;
}

export interface WorkspaceRepository {
  /** Undefined when there is one of that id. */
  create(workspaceId: string, displayName: string, deed: WorkspaceDeed): Promise<WorkspaceRecord | undefined>;
  get(workspaceId: string): Promise<WorkspaceRecord | undefined>;
  /** By id, those after `afterId`. */
  list(page: { afterId?: string | undefined; limit: number }): Promise<WorkspaceRecord[]>;
  /** One that is suspended stays as it is. Undefined when there is none. */
  suspend(workspaceId: string, reason: string, deed: WorkspaceDeed): Promise<WorkspaceRecord | undefined>;
  /** Takes a suspension back, and has what was put off meanwhile done at once. Undefined when there is none. */
  resume(workspaceId: string, deed: WorkspaceDeed): Promise<WorkspaceRecord | undefined>;
  /** Undefined when there is no such workspace. */
  quotas(workspaceId: string): Promise<StoredQuotas | undefined>;
  /** Replaces what was said, where that still is `revision`; without one, whatever it is. */
  setQuotas(
    workspaceId: string,
    quotas: Quotas,
    revision: number | undefined,
    deed: WorkspaceDeed,
  ): Promise<StoredQuotas | "missing" | "changed">;
  /** Of those that there are: whether they are suspended. */
  standings(workspaceIds: readonly string[]): Promise<Map<string, boolean>>;
}

const STANDINGS: Statement = {
  name: "workspace-standings-v1",
  text: `
    select workspace_id, suspended_at is not null as is_suspended from workspaces where workspace_id = any($1::text[])`,
};

const FACTS = ["workspace_id", "display_name", "created_at", "suspended_at", "suspend_reason"] as const;

export function createWorkspaceRepository(db: Database): WorkspaceRepository {
  const { kysely } = db;

  const factsOf = (from: Kysely<Schema>, workspaceId: string) =>
    from.selectFrom("workspaces").select(FACTS).where("workspace_id", "=", workspaceId).executeTakeFirst();

  async function get(workspaceId: string, from: Kysely<Schema> = kysely): Promise<WorkspaceRecord | undefined> {
    const row = await factsOf(from, workspaceId);
    return row && workspaceOf(row);
  }

  return {
    create: (workspaceId, displayName, { byWorkspaceId, record }) =>
      kysely.transaction().execute(async (tx) => {
        const row = await tx
          .insertInto("workspaces")
          .values({ workspace_id: workspaceId, display_name: displayName })
          .onConflict((conflict) => conflict.doNothing())
          .returning(FACTS)
          .executeTakeFirst();
        if (!row) return undefined;
        await recordIn(tx, [workspaceId, byWorkspaceId], record);
        return workspaceOf(row);
      }),

    get: (workspaceId) => get(workspaceId),

    async list({ afterId, limit }) {
      const rows = await kysely
        .selectFrom("workspaces")
        .select(FACTS)
        .$if(afterId !== undefined, (q) => q.where("workspace_id", ">", afterId!))
        .orderBy("workspace_id")
        .limit(limit)
        .execute();
      return rows.map(workspaceOf);
    },

    suspend: (workspaceId, reason, { byWorkspaceId, record }) =>
      kysely.transaction().execute(async (tx) => {
        const row = await tx
          .updateTable("workspaces")
          .set({ suspended_at: NOW, suspend_reason: reason })
          .where("workspace_id", "=", workspaceId)
          .where("suspended_at", "is", null)
          .returning(FACTS)
          .executeTakeFirst();
        if (!row) return get(workspaceId, tx);
        await recordIn(tx, [workspaceId, byWorkspaceId], record);
        return workspaceOf(row);
      }),

    resume: (workspaceId, { byWorkspaceId, record }) =>
      kysely.transaction().execute(async (tx) => {
        const row = await tx
          .updateTable("workspaces")
          .set({ suspended_at: null, suspend_reason: "" })
          .where("workspace_id", "=", workspaceId)
          .where("suspended_at", "is not", null)
          .returning(FACTS)
          .executeTakeFirst();
        if (!row) return get(workspaceId, tx);
        // Locked in the order of keys, as by all who write many of them.
        await sql`
          with put_off as (
            select workspace_id, task_id, config_id from push_configs
            where workspace_id = ${workspaceId} and next_try_at > now()
            order by workspace_id, task_id, config_id for update
          )
          update push_configs c set next_try_at = clock_timestamp() from put_off p
          where c.workspace_id = p.workspace_id and c.task_id = p.task_id and c.config_id = p.config_id`.execute(tx);
        await recordIn(tx, [workspaceId, byWorkspaceId], record);
        return workspaceOf(row);
      }),

    async quotas(workspaceId) {
      const row = await kysely
        .selectFrom("workspaces")
        .select(["quotas", "quotas_revision"])
        .where("workspace_id", "=", workspaceId)
        .executeTakeFirst();
      return row && quotasOf(row);
    },

    setQuotas: (workspaceId, quotas, revision, { byWorkspaceId, record }) =>
      kysely.transaction().execute(async (tx) => {
        const said = JSON.stringify(toJson(QuotasSchema, { ...quotas, etag: "" }));
        const row = await tx
          .updateTable("workspaces")
          .set({ quotas: sql`${said}::jsonb`, quotas_revision: sql<number>`quotas_revision + 1` })
          .where("workspace_id", "=", workspaceId)
          .$if(revision !== undefined, (q) => q.where("quotas_revision", "=", revision!))
          .returning(["quotas", "quotas_revision"])
          .executeTakeFirst();
        if (!row) return (await factsOf(tx, workspaceId)) ? "changed" : "missing";
        await recordIn(tx, [workspaceId, byWorkspaceId], record, { revision: row.quotas_revision });
        return quotasOf(row);
      }),

    async standings(workspaceIds) {
      const rows = await db.query(STANDINGS, [workspaceIds]);
      return new Map(rows.map((row) => [row.workspace_id as string, row.is_suspended as boolean]));
    },
  };
}

const NOW = sql<Date>`date_trunc('milliseconds', clock_timestamp())`;

const workspaceOf = (row: Pick<Selectable<WorkspaceTable>, (typeof FACTS)[number]>): WorkspaceRecord => ({
  workspaceId: row.workspace_id,
  displayName: row.display_name,
  createdAt: row.created_at,
  suspendedAt: row.suspended_at ?? undefined,
  suspendReason: row.suspend_reason,
});

const quotasOf = (row: { quotas: unknown; quotas_revision: number }): StoredQuotas => ({
  quotas: fromJson(QuotasSchema, (row.quotas ?? {}) as JsonValue, { ignoreUnknownFields: true }),
  revision: row.quotas_revision,
});
