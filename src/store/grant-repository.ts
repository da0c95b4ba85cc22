/** What workspaces lend each other: agents, or what they do for one capability. All times are the database's. */
import { type Kysely, type RawBuilder, type Selectable, sql } from "kysely";
import { GrantState } from "../../gen/signalbox/v1/workspace_pb.ts";
import type { Database } from "./database.ts";
import { type RecordingIn, recordIn } from "./recordings.ts";
import type { GrantTable } from "./schema/identity.ts";
import type { Schema } from "./schema.ts";

export interface GrantRecord {
  readonly grantId: string;
  readonly providerWorkspaceId: string;
  readonly consumerWorkspaceId: string;
  readonly agentId: string;
  /** Undefined: all that the agent can do. */
  readonly capabilityId: string | undefined;
  /** Undefined before it is accepted. */
  readonly aliasAgentId: string | undefined;
  readonly state: GrantState;
  readonly createdAt: Date;
  readonly expiresAt: Date | undefined;
  readonly offeredBy: string;
  readonly acceptedBy: string | undefined;
}

export interface NewGrant
  extends Pick<
    GrantRecord,
    "grantId" | "providerWorkspaceId" | "consumerWorkspaceId" | "agentId" | "capabilityId" | "expiresAt" | "offeredBy"
  > {}

export interface GrantRepository {
  /** `full`: `most` that have not ended are offered by this workspace; `no-agent`: it has no such agent. */
  offer(grant: NewGrant, most: number, record: RecordingIn): Promise<GrantRecord | "full" | "no-agent">;
  /**
   * Accepts what is offered to a workspace. `missing`: nothing is, under that id. `not-pending`: it was accepted, has ended, or its
   * time is up. `taken`: an agent of the workspace has that id, or one that is lent. `full`: `most` are lent to it.
   */
  accept(
    consumerWorkspaceId: string,
    grantId: string,
    accepted: { aliasAgentId: string | undefined; by: string; most: number },
    record: RecordingIn,
  ): Promise<GrantRecord | "missing" | "not-pending" | "taken" | "full">;
  /** Ends a grant, from either side. One that has ended stays as it is. Undefined when the workspace has none of that id. */
  revoke(workspaceId: string, grantId: string, record: RecordingIn): Promise<GrantRecord | undefined>;
  /** Undefined where the workspace is on neither side of it. */
  get(workspaceId: string, grantId: string): Promise<GrantRecord | undefined>;
  /** What a workspace lends and what is lent to it, the latest first; those before the one with the id `before`. */
  list(
    workspaceId: string,
    state: GrantState | undefined,
    page: { before?: string | undefined; limit: number },
  ): Promise<GrantRecord[]>;
}

/** Grants that have ended, and are kept of one provider to be looked at. */
const MOST_ENDED = 1_000;

/** Whether its time is up; whoever ended it before that has ended it. */
const IS_OVER = sql<boolean>`coalesce(expires_at <= least(clock_timestamp(), ended_at), false)`;
const NOW = sql<Date>`date_trunc('milliseconds', clock_timestamp())`;

const STATE_IS: Readonly<Record<number, RawBuilder<boolean>>> = {
  [GrantState.UNSPECIFIED]: sql<boolean>`true`,
  [GrantState.PENDING]: sql<boolean>`(state = 1 and not ${IS_OVER})`,
  [GrantState.ACTIVE]: sql<boolean>`(state = 2 and not ${IS_OVER})`,
  [GrantState.REVOKED]: sql<boolean>`(state = 3 and not ${IS_OVER})`,
  [GrantState.EXPIRED]: IS_OVER,
};

export function createGrantRepository({ kysely }: Database): GrantRepository {
  async function find(from: Kysely<Schema>, workspaceId: string, grantId: string): Promise<GrantRecord | undefined> {
    const row = await from
      .selectFrom("grants")
      .selectAll()
      .select(IS_OVER.as("is_over"))
      .where("grant_id", "=", grantId)
      .where((eb) =>
        eb.or([eb("provider_workspace_id", "=", workspaceId), eb("consumer_workspace_id", "=", workspaceId)]),
      )
      .executeTakeFirst();
    return row && grantOf(row);
  }

  /** In the logs of both sides; before the consumer has accepted, nobody else writes into its log. */
  async function record(tx: Kysely<Schema>, grant: GrantRecord, by: string, recording: RecordingIn): Promise<void> {
    const { providerWorkspaceId, consumerWorkspaceId, aliasAgentId } = grant;
    await recordIn(tx, [providerWorkspaceId, aliasAgentId === undefined ? by : consumerWorkspaceId], recording);
  }

  /** So that what either side has is counted by one at a time. In one order, whoever begins. */
  const lock = (tx: Kysely<Schema>, sides: Pick<GrantRecord, "providerWorkspaceId" | "consumerWorkspaceId">) =>
    tx
      .selectFrom("workspaces")
      .select("workspace_id")
      .where("workspace_id", "in", [sides.providerWorkspaceId, sides.consumerWorkspaceId])
      .orderBy("workspace_id")
      .forNoKeyUpdate()
      .execute();

  /** A grant as nobody else changes it until the transaction ends. */
  async function lockOne(tx: Kysely<Schema>, workspaceId: string, grantId: string): Promise<GrantRecord | undefined> {
    const found = await find(tx, workspaceId, grantId);
    if (!found) return undefined;
    await lock(tx, found);
    return find(tx, workspaceId, grantId);
  }

  async function countOpen(tx: Kysely<Schema>, side: "provider_workspace_id" | "consumer_workspace_id", id: string) {
    const { count } = await tx
      .selectFrom("grants")
      .select((eb) => eb.fn.countAll<number>().as("count"))
      .where(side, "=", id)
      .where(side === "provider_workspace_id" ? sql<boolean>`state <> 3` : sql<boolean>`state = 2`)
      .where(sql<boolean>`not ${IS_OVER}`)
      .executeTakeFirstOrThrow();
    return count;
  }

  return {
    offer: (grant, most, recording) =>
      kysely.transaction().execute(async (tx) => {
        const { providerWorkspaceId, agentId } = grant;
        await lock(tx, grant);
        const agent = await tx
          .selectFrom("agents")
          .select("agent_id")
          .where("workspace_id", "=", providerWorkspaceId)
          .where("agent_id", "=", agentId)
          .executeTakeFirst();
        if (!agent) return "no-agent";
        if ((await countOpen(tx, "provider_workspace_id", providerWorkspaceId)) >= most) return "full";
        await sql`
          delete from grants where provider_workspace_id = ${providerWorkspaceId} and grant_id in (
            select grant_id from grants
            where provider_workspace_id = ${providerWorkspaceId} and (state = 3 or ${IS_OVER})
            order by grant_id desc offset ${MOST_ENDED}
          )`.execute(tx);
        const row = await tx
          .insertInto("grants")
          .values({
            provider_workspace_id: providerWorkspaceId,
            grant_id: grant.grantId,
            consumer_workspace_id: grant.consumerWorkspaceId,
            agent_id: agentId,
            capability_id: grant.capabilityId ?? null,
            created_at: NOW,
            expires_at: grant.expiresAt ?? null,
            offered_by: grant.offeredBy,
          })
          .returningAll()
          .returning(IS_OVER.as("is_over"))
          .executeTakeFirstOrThrow();
        const stored = grantOf(row);
        await record(tx, stored, providerWorkspaceId, recording);
        return stored;
      }),

    accept: (consumerWorkspaceId, grantId, { aliasAgentId, by, most }, recording) =>
      kysely.transaction().execute(async (tx) => {
        const found = await lockOne(tx, consumerWorkspaceId, grantId);
        if (found?.consumerWorkspaceId !== consumerWorkspaceId) return "missing";
        if (found.state !== GrantState.PENDING) return "not-pending";
        const alias = aliasAgentId ?? found.agentId;
        // What has expired keeps its id from nobody.
        await tx
          .updateTable("grants")
          .set({ state: GrantState.REVOKED, ended_at: sql<Date>`expires_at` })
          .where("consumer_workspace_id", "=", consumerWorkspaceId)
          .where("alias_agent_id", "=", alias)
          .where("state", "=", GrantState.ACTIVE)
          .where(IS_OVER)
          .execute();
        const [taken] = (
          await sql`
            select from agents where workspace_id = ${consumerWorkspaceId} and agent_id = ${alias}
            union all
            select from grants where consumer_workspace_id = ${consumerWorkspaceId} and alias_agent_id = ${alias} and state = 2
            limit 1`.execute(tx)
        ).rows;
        if (taken) return "taken";
        if ((await countOpen(tx, "consumer_workspace_id", consumerWorkspaceId)) >= most) return "full";
        const row = await tx
          .updateTable("grants")
          .set({ state: GrantState.ACTIVE, alias_agent_id: alias, accepted_at: NOW, accepted_by: by })
          .where("grant_id", "=", grantId)
          .returningAll()
          .returning(IS_OVER.as("is_over"))
          .executeTakeFirstOrThrow();
        const accepted = grantOf(row);
        await record(tx, accepted, consumerWorkspaceId, recording);
        return accepted;
      }),

    revoke: (workspaceId, grantId, recording) =>
      kysely.transaction().execute(async (tx) => {
        const found = await lockOne(tx, workspaceId, grantId);
        if (!found || found.state === GrantState.REVOKED || found.state === GrantState.EXPIRED) return found;
        const row = await tx
          .updateTable("grants")
          .set({ state: GrantState.REVOKED, ended_at: NOW })
          .where("grant_id", "=", grantId)
          .returningAll()
          .returning(IS_OVER.as("is_over"))
          .executeTakeFirstOrThrow();
        const ended = grantOf(row);
        await record(tx, ended, workspaceId, recording);
        return ended;
      }),

    get: (workspaceId, grantId) => find(kysely, workspaceId, grantId),

    async list(workspaceId, state = GrantState.UNSPECIFIED, { before, limit }) {
      // Ids begin with the time at which they were made. Each side has an index of its own.
      const side = (column: "provider_workspace_id" | "consumer_workspace_id") =>
        kysely
          .selectFrom("grants")
          .selectAll()
          .select(IS_OVER.as("is_over"))
          .where(column, "=", workspaceId)
          .where(STATE_IS[state]!)
          .$if(before !== undefined, (q) => q.where("grant_id", "<", before!))
          .orderBy("grant_id", "desc")
          .limit(limit)
          .execute();
      const [lent, borrowed] = await Promise.all([side("provider_workspace_id"), side("consumer_workspace_id")]);
      const both = [...lent, ...borrowed].map(grantOf);
      return both.sort((a, b) => (a.grantId < b.grantId ? 1 : -1)).slice(0, limit);
    },
  };
}

function grantOf(row: Selectable<GrantTable> & { is_over: boolean }): GrantRecord {
  return {
    grantId: row.grant_id,
    providerWorkspaceId: row.provider_workspace_id,
    consumerWorkspaceId: row.consumer_workspace_id,
    agentId: row.agent_id,
    capabilityId: row.capability_id ?? undefined,
    aliasAgentId: row.alias_agent_id ?? undefined,
    state: row.is_over ? GrantState.EXPIRED : (row.state as GrantState),
    createdAt: row.created_at,
    expiresAt: row.expires_at ?? undefined,
    offeredBy: row.offered_by,
    acceptedBy: row.accepted_by ?? undefined,
  };
}
