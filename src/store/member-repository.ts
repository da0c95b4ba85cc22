/** Who is a member of which workspace, by the id that others have given: a token's issuer, or a mesh. */
import { type Selectable, sql } from "kysely";
import { entriesFor } from "../domain/identity/member-id.ts";
import type { Database, Statement } from "./database.ts";
import { type RecordingIn, recordIn } from "./recordings.ts";
import type { MemberTable } from "./schema/identity.ts";

export interface MemberRecord {
  readonly workspaceId: string;
  /** With a `*` at its end: all whose ids begin so. */
  readonly principalId: string;
  readonly roles: readonly string[];
  readonly scopes: readonly string[];
  readonly agentId: string | undefined;
  /** Whether it counts for calls that name no workspace. Once it does, whoever replaces the entry does not change that. */
  readonly implied: boolean;
  readonly createdAt: Date;
  readonly createdBy: string;
}

/** What records a change of members, and in which log beside the workspace's. */
export interface MemberDeed {
  readonly byWorkspaceId: string;
  readonly record: RecordingIn;
}

export interface MemberRepository {
  /** Stores a member in the place of one with that id. `full`: there are `most` others already. */
  put(member: MemberRecord, most: number, deed: MemberDeed): Promise<MemberRecord | "full" | "no-workspace">;
  find(workspaceId: string, principalId: string): Promise<MemberRecord | undefined>;
  /** By id, those after `afterId`. */
  list(workspaceId: string, page: { afterId?: string | undefined; limit: number }): Promise<MemberRecord[]>;
  /** False when there is none. */
  remove(workspaceId: string, principalId: string, deed: MemberDeed): Promise<boolean>;
  /**
   * Of each principal, which entries of all workspaces are its own: by its id, or by a beginning of it; in the order of workspaces.
   * Principals of which there is none are left out.
   */
  memberships(principalIds: readonly string[]): Promise<Map<string, MemberRecord[]>>;
}

/** Workspaces that are found by one entry's id, at most. */
const MOST_WORKSPACES = 1_000;

// Each id is looked up by itself in the index of principals.
const MEMBERSHIPS: Statement = {
  name: "member-memberships-v2",
  text: `
    select i.asked, m.* from unnest($1::text[], $2::text[]) as i(asked, entry) cross join lateral (
      select workspace_id, principal_id, roles, scopes, agent_id, implied, created_at, created_by from members
      where principal_id = i.entry order by workspace_id limit ${MOST_WORKSPACES}
    ) m order by i.asked, m.workspace_id, m.principal_id`,
};

export function createMemberRepository(db: Database): MemberRepository {
  const { kysely } = db;
  return {
    put: (member, most, { byWorkspaceId, record }) =>
      kysely.transaction().execute(async (tx) => {
        const { workspaceId, principalId } = member;
        // One after another, so that they are counted.
        const workspace = await tx
          .selectFrom("workspaces")
          .select("workspace_id")
          .where("workspace_id", "=", workspaceId)
          .forNoKeyUpdate()
          .executeTakeFirst();
        if (!workspace) return "no-workspace";
        const { others } = await tx
          .selectFrom("members")
          .select((eb) => eb.fn.countAll<number>().as("others"))
          .where("workspace_id", "=", workspaceId)
          .where("principal_id", "!=", principalId)
          .executeTakeFirstOrThrow();
        if (others >= most) return "full";
        const said = {
          roles: [...member.roles],
          scopes: [...member.scopes],
          agent_id: member.agentId ?? null,
          created_at: member.createdAt,
          created_by: member.createdBy,
        };
        const row = await tx
          .insertInto("members")
          .values({ workspace_id: workspaceId, principal_id: principalId, implied: member.implied, ...said })
          .onConflict((conflict) =>
            conflict.columns(["workspace_id", "principal_id"]).doUpdateSet({
              ...said,
              implied: sql<boolean>`members.implied or excluded.implied`,
            }),
          )
          .returningAll()
          .executeTakeFirstOrThrow();
        await recordIn(tx, [workspaceId, byWorkspaceId], record);
        return memberOf(row);
      }),

    async find(workspaceId, principalId) {
      const row = await kysely
        .selectFrom("members")
        .selectAll()
        .where("workspace_id", "=", workspaceId)
        .where("principal_id", "=", principalId)
        .executeTakeFirst();
      return row && memberOf(row);
    },

    async list(workspaceId, { afterId, limit }) {
      const rows = await kysely
        .selectFrom("members")
        .selectAll()
        .where("workspace_id", "=", workspaceId)
        .$if(afterId !== undefined, (q) => q.where("principal_id", ">", afterId!))
        .orderBy("principal_id")
        .limit(limit)
        .execute();
      return rows.map(memberOf);
    },

    remove: (workspaceId, principalId, { byWorkspaceId, record }) =>
      kysely.transaction().execute(async (tx) => {
        const { numDeletedRows } = await tx
          .deleteFrom("members")
          .where("workspace_id", "=", workspaceId)
          .where("principal_id", "=", principalId)
          .executeTakeFirst();
        if (numDeletedRows === 0n) return false;
        await recordIn(tx, [workspaceId, byWorkspaceId], record);
        return true;
      }),

    async memberships(principalIds) {
      const asked = principalIds.flatMap((id) => entriesFor(id).map((entry) => ({ id, entry })));
      const rows = await db.query(MEMBERSHIPS, [asked.map(({ id }) => id), asked.map(({ entry }) => entry)]);
      const found = new Map<string, MemberRecord[]>();
      for (const row of rows) {
        const id = row.asked as string;
        const own = found.get(id) ?? [];
        own.push(memberOf(row as unknown as Selectable<MemberTable>));
        found.set(id, own);
      }
      return found;
    },
  };
}

const memberOf = (row: Selectable<MemberTable>): MemberRecord => ({
  workspaceId: row.workspace_id,
  principalId: row.principal_id,
  roles: row.roles,
  scopes: row.scopes,
  agentId: row.agent_id ?? undefined,
  implied: row.implied,
  createdAt: row.created_at,
  createdBy: row.created_by,
});
