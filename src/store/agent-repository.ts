/** Agents and the default agent of each workspace. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Kysely, type Selectable, sql } from "kysely";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type CardSignature, CardSignatureSchema } from "../../gen/signalbox/v1/registry_pb.ts";
import type { Recording } from "./audit-trail.ts";
import type { Database } from "./database.ts";
import type { AgentTable } from "./schema/agents.ts";
import type { Schema } from "./schema.ts";

/** Where an agent is registered. */
export interface AgentHome {
  readonly workspaceId: string;
  readonly agentId: string;
}

export interface AgentRecord {
  workspaceId: string;
  agentId: string;
  /** Where it is registered, of an agent that another workspace lends; undefined for one of this workspace. */
  home?: AgentHome;
  card: AgentCard;
  cardUrl: string | undefined;
  /** The ETag with which the card was served to us. */
  cardEtag: string | undefined;
  /** The Last-Modified with which it was served, where there was no ETag. */
  cardModified: string | undefined;
  /** What came of the card's signatures; undefined when it has none. */
  cardSignature: CardSignature | undefined;
  /** Whether a task may be sent to it once more when nobody knows what became of the first time. */
  safeToRepeat: boolean;
  /** Tasks that it works on at once; undefined when there is no limit. */
  maxConcurrency: number | undefined;
  revision: number;
  createdAt: Date;
  updatedAt: Date;
  cardFetchedAt: Date;
}

/** Where an agent is registered: what is one for all who may use it, as its limits and its connections, goes by this. */
export const homeOf = (agent: AgentHome & { readonly home?: AgentHome }): AgentHome => agent.home ?? agent;

/** A card, and where it came from. */
export interface AgentCardSource {
  card: AgentCard;
  cardUrl: string | undefined;
  cardEtag: string | undefined;
  cardModified?: string | undefined;
  /** What came of its signatures; left out when it has none. */
  signature?: CardSignature | undefined;
}

/** What changes about an agent; the rest stays. */
export interface AgentChange {
  /** A card that was given or fetched now. */
  source?: AgentCardSource;
  safeToRepeat?: boolean;
  /** 0 takes the limit away. */
  maxConcurrency?: number;
}

/** An agent that comes. */
export interface NewAgent extends Required<AgentChange> {
  /** Until when it has to give its first heartbeat, in milliseconds from now; undefined when it need not give any. */
  heartbeatTtlMs?: number | undefined;
}

export interface AgentRepository {
  /** False when the id is taken, also by an agent that another workspace lends. It is healthy until a check says otherwise, and due for one. */
  insert(workspaceId: string, agentId: string, agent: NewAgent, now: Date, record?: Recording): Promise<boolean>;
  /** Changes an agent; `revision` guards against lost updates when given. */
  update(
    workspaceId: string,
    agentId: string,
    change: AgentChange,
    now: Date,
    revision?: number,
    record?: Recording,
  ): Promise<"updated" | "missing" | "changed">;
  /** Notes that the card was found unchanged, and with what it was served where that is another than before. */
  touch(
    workspaceId: string,
    agentId: string,
    now: Date,
    served?: Pick<AgentCardSource, "cardEtag" | "cardModified">,
  ): Promise<void>;
  /** False when there was none. A default that pointed at it points at nothing. */
  remove(workspaceId: string, agentId: string, record?: Recording): Promise<boolean>;
  get(workspaceId: string, agentId: string): Promise<AgentRecord | undefined>;
  /** Agents by id, after `afterId`. */
  list(workspaceId: string, page: { afterId?: string; limit: number }): Promise<AgentRecord[]>;
  /** Over all workspaces. */
  count(): Promise<number>;
  defaultAgentId(workspaceId: string): Promise<string | undefined>;
  setDefault(workspaceId: string, agentId: string, record?: Recording): Promise<void>;
}

export function createAgentRepository(db: Database): AgentRepository {
  const { kysely } = db;
  const one = (workspaceId: string, agentId: string) =>
    kysely.selectFrom("agents").selectAll().where("workspace_id", "=", workspaceId).where("agent_id", "=", agentId);

  return {
    async insert(workspaceId, agentId, { source, safeToRepeat, maxConcurrency, heartbeatTtlMs }, now, record) {
      const insert = (kysely: Kysely<Schema>) =>
        kysely
          .with("agent", (db) =>
            db
              .insertInto("agents")
              .values({
                workspace_id: workspaceId,
                agent_id: agentId,
                ...cardColumns(source, now),
                safe_to_repeat: safeToRepeat,
                max_concurrency: maxConcurrency || null,
                created_at: now,
                updated_at: now,
              })
              .onConflict((conflict) => conflict.doNothing())
              .returning(["workspace_id", "agent_id"]),
          )
          .insertInto("agent_health")
          .columns(["workspace_id", "agent_id", "heartbeat_ttl_ms", "heartbeat_expires_at"])
          .expression((db) =>
            db
              .selectFrom("agent")
              .select([
                "workspace_id",
                "agent_id",
                sql<number>`${heartbeatTtlMs ?? null}::int`.as("ttl"),
                sql<Date>`clock_timestamp() + ${heartbeatTtlMs ?? null}::int * interval '1 millisecond'`.as("expires"),
              ]),
          )
          .executeTakeFirst();
      return kysely.transaction().execute(async (tx) => {
        // As who accepts a grant has it: the id goes to one of both.
        await tx
          .selectFrom("workspaces")
          .select("workspace_id")
          .where("workspace_id", "=", workspaceId)
          .forNoKeyUpdate()
          .execute();
        if (await isLentAs(tx, workspaceId, agentId)) return false;
        const { numInsertedOrUpdatedRows = 0n } = await insert(tx);
        if (numInsertedOrUpdatedRows === 0n) return false;
        await record?.(tx);
        return true;
      });
    },

    async update(workspaceId, agentId, { source, safeToRepeat, maxConcurrency }, now, revision, record) {
      const update = (kysely: Kysely<Schema>) =>
        kysely
          .updateTable("agents")
          .set((eb) => ({
            ...(source && cardColumns(source, now)),
            ...(safeToRepeat !== undefined && { safe_to_repeat: safeToRepeat }),
            ...(maxConcurrency !== undefined && { max_concurrency: maxConcurrency || null }),
            revision: eb("revision", "+", 1),
            updated_at: now,
          }))
          .where("workspace_id", "=", workspaceId)
          .where("agent_id", "=", agentId)
          .$if(revision !== undefined, (q) => q.where("revision", "=", revision!))
          .returning("revision")
          .executeTakeFirst();
      const isUpdated = await kysely.transaction().execute(async (tx) => {
        const updated = await update(tx);
        if (updated) await record?.(tx, { revision: updated.revision });
        return updated !== undefined;
      });
      if (isUpdated) return "updated";
      return (await one(workspaceId, agentId).executeTakeFirst()) ? "changed" : "missing";
    },

    async touch(workspaceId, agentId, now, served) {
      await kysely
        .updateTable("agents")
        .set({
          card_fetched_at: now,
          ...(served && { card_etag: served.cardEtag ?? null, card_modified: served.cardModified ?? null }),
        })
        .where("workspace_id", "=", workspaceId)
        .where("agent_id", "=", agentId)
        .execute();
    },

    async remove(workspaceId, agentId, record) {
      return kysely.transaction().execute(async (tx) => {
        await tx
          .updateTable("workspaces")
          .set({ default_agent_id: null })
          .where("workspace_id", "=", workspaceId)
          .where("default_agent_id", "=", agentId)
          .execute();
        const result = await tx
          .deleteFrom("agents")
          .where("workspace_id", "=", workspaceId)
          .where("agent_id", "=", agentId)
          .executeTakeFirst();
        if (result.numDeletedRows === 0n) return false;
        await record?.(tx);
        return true;
      });
    },

    async get(workspaceId, agentId) {
      const row = await one(workspaceId, agentId).executeTakeFirst();
      return row && agentRecord(row);
    },

    async list(workspaceId, { afterId, limit }) {
      const rows = await kysely
        .selectFrom("agents")
        .selectAll()
        .where("workspace_id", "=", workspaceId)
        .$if(afterId !== undefined, (q) => q.where("agent_id", ">", afterId!))
        .orderBy("agent_id")
        .limit(limit)
        .execute();
      return rows.map(agentRecord);
    },

    async count() {
      const { count } = await kysely
        .selectFrom("agents")
        .select((eb) => eb.fn.countAll<number>().as("count"))
        .executeTakeFirstOrThrow();
      return count;
    },

    async defaultAgentId(workspaceId) {
      const row = await kysely
        .selectFrom("workspaces")
        .select("default_agent_id")
        .where("workspace_id", "=", workspaceId)
        .executeTakeFirst();
      return row?.default_agent_id ?? undefined;
    },

    setDefault: (workspaceId, agentId, record) =>
      kysely.transaction().execute(async (tx) => {
        await tx
          .updateTable("workspaces")
          .set({ default_agent_id: agentId })
          .where("workspace_id", "=", workspaceId)
          .execute();
        await record?.(tx);
      }),
  };
}

/** Whether another workspace lends an agent under this id. */
async function isLentAs(tx: Kysely<Schema>, workspaceId: string, agentId: string): Promise<boolean> {
  const active = await tx
    .selectFrom("grants")
    .select("grant_id")
    .where("consumer_workspace_id", "=", workspaceId)
    .where("alias_agent_id", "=", agentId)
    .where("state", "=", 2)
    .where((eb) => eb.or([eb("expires_at", "is", null), eb("expires_at", ">", sql<Date>`clock_timestamp()`)]))
    .executeTakeFirst();
  return active !== undefined;
}

function cardColumns(source: AgentCardSource, now: Date) {
  return {
    card: toBinary(AgentCardSchema, source.card),
    card_url: source.cardUrl ?? null,
    card_etag: source.cardEtag ?? null,
    card_modified: source.cardModified ?? null,
    card_signature: source.signature ? toBinary(CardSignatureSchema, source.signature) : null,
    card_fetched_at: now,
  };
}

/** An agent as its row has it. */
export function agentRecord(row: Selectable<AgentTable>): AgentRecord {
  return {
    workspaceId: row.workspace_id,
    agentId: row.agent_id,
    card: fromBinary(AgentCardSchema, row.card),
    cardUrl: row.card_url ?? undefined,
    cardEtag: row.card_etag ?? undefined,
    cardModified: row.card_modified ?? undefined,
    cardSignature: row.card_signature ? fromBinary(CardSignatureSchema, row.card_signature) : undefined,
    safeToRepeat: row.safe_to_repeat,
    maxConcurrency: row.max_concurrency ?? undefined,
    revision: row.revision,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    cardFetchedAt: row.card_fetched_at,
  };
}
