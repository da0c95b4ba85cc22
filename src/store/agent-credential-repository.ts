/** What the router proves itself with to agents. Its secrets are encrypted by who gives them. */
import { type Kysely, sql } from "kysely";
import type { Recording } from "./audit-trail.ts";
import type { Database } from "./database.ts";
import type { Schema } from "./schema.ts";

export interface CredentialRecord {
  readonly agentId: string;
  /** signalbox.v1.AgentCredential without its secrets. */
  readonly body: Uint8Array;
  readonly sealed: Uint8Array;
  /** Never used twice. */
  readonly revision: string;
  readonly updatedAt: Date;
  readonly updatedBy: string;
}

export type NewCredential = Omit<CredentialRecord, "revision">;

export interface AgentCredentialRepository {
  /** Replaces what the agent had. Undefined when there is no such agent. */
  put(workspaceId: string, credential: NewCredential, record?: Recording): Promise<string | undefined>;
  /** False when it had none. */
  remove(workspaceId: string, agentId: string, record?: Recording): Promise<boolean>;
  get(workspaceId: string, agentId: string): Promise<CredentialRecord | undefined>;
  /** The revisions of the credentials of a workspace, by agent. */
  revisions(workspaceId: string): Promise<Map<string, string>>;
}

export function createAgentCredentialRepository(db: Database): AgentCredentialRepository {
  const { kysely } = db;

  /** Holds the agent: it stays until the transaction ends. */
  const hold = (tx: Kysely<Schema>, workspaceId: string, agentId: string) =>
    tx
      .selectFrom("agents")
      .select("agent_id")
      .where("workspace_id", "=", workspaceId)
      .where("agent_id", "=", agentId)
      .forKeyShare()
      .executeTakeFirst();

  return {
    put: (workspaceId, { agentId, body, sealed, updatedAt, updatedBy }, record) =>
      kysely.transaction().execute(async (tx) => {
        if (!(await hold(tx, workspaceId, agentId))) return undefined;
        const { rows } = await sql<{ revision: string }>`
          insert into agent_credentials (workspace_id, agent_id, body, sealed, updated_at, updated_by)
          values (${workspaceId}, ${agentId}, ${body}, ${sealed}, ${updatedAt}, ${updatedBy})
          on conflict (workspace_id, agent_id) do update
            set body = excluded.body, sealed = excluded.sealed, updated_at = excluded.updated_at,
                updated_by = excluded.updated_by, revision = default
          returning revision::text`.execute(tx);
        await record?.(tx);
        return rows[0]!.revision;
      }),

    remove: (workspaceId, agentId, record) =>
      kysely.transaction().execute(async (tx) => {
        const { numDeletedRows } = await tx
          .deleteFrom("agent_credentials")
          .where("workspace_id", "=", workspaceId)
          .where("agent_id", "=", agentId)
          .executeTakeFirst();
        if (numDeletedRows === 0n) return false;
        await record?.(tx);
        return true;
      }),

    async get(workspaceId, agentId) {
      const row = await kysely
        .selectFrom("agent_credentials")
        .select(["body", "sealed", "updated_at", "updated_by"])
        .select(sql<string>`revision::text`.as("revision"))
        .where("workspace_id", "=", workspaceId)
        .where("agent_id", "=", agentId)
        .executeTakeFirst();
      if (!row) return undefined;
      const { body, sealed, revision, updated_at: updatedAt, updated_by: updatedBy } = row;
      return { agentId, body, sealed, revision, updatedAt, updatedBy };
    },

    async revisions(workspaceId) {
      const rows = await kysely
        .selectFrom("agent_credentials")
        .select("agent_id")
        .select(sql<string>`revision::text`.as("revision"))
        .where("workspace_id", "=", workspaceId)
        .execute();
      return new Map(rows.map(({ agent_id, revision }) => [agent_id, revision]));
    },
  };
}
