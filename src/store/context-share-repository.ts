/** With whom principals share their tasks of a context. Statements that read tasks look at the same rows (`ACCESS` of task-sql.ts). */
import type { Share } from "../domain/identity/visibility.ts";
import type { Recording } from "./audit-trail.ts";
import type { Database } from "./database.ts";
import { BY_PRINCIPAL, BY_ROLE } from "./task-sql.ts";

export interface StoredShare extends Share {
  readonly createdAt: Date;
}

/** What names a share: whose tasks of which context, and for whom. */
export type ShareKey = Pick<Share, "ownerId" | "contextId" | "subject">;

export interface ContextShareRepository {
  /**
   * Shares, or says anew how. Returns what holds then; undefined where the context has `most` shares already. What changes nothing is
   * not recorded.
   */
  put(workspaceId: string, share: StoredShare, most: number, record: Recording): Promise<StoredShare | undefined>;
  /** False where there is no such share. */
  remove(workspaceId: string, key: ShareKey, record: Recording): Promise<boolean>;
  /** All of a context, those with principals first. */
  list(workspaceId: string, ownerId: string, contextId: string): Promise<StoredShare[]>;
}

const COLUMNS = ["owner_id", "context_id", "subject_kind", "subject", "can_write", "created_at"] as const;

export function createContextShareRepository({ kysely }: Database): ContextShareRepository {
  return {
    put: (workspaceId, share, most, record) =>
      kysely.transaction().execute(async (tx) => {
        // One after another in a workspace, so that no two count the same shares and both add one.
        await tx
          .selectFrom("workspaces")
          .select("workspace_id")
          .where("workspace_id", "=", workspaceId)
          .forNoKeyUpdate()
          .execute();
        const { ownerId, contextId, subject, canWrite, createdAt } = share;
        const found = await tx
          .selectFrom("context_shares")
          .select(COLUMNS)
          .where("workspace_id", "=", workspaceId)
          .where("owner_id", "=", ownerId)
          .where("context_id", "=", contextId)
          .execute();
        const shares = found.map(shareOf);
        const known = shares.find((one) => nameOf(one.subject) === nameOf(subject));
        if (known?.canWrite === canWrite) return known;
        if (!known && shares.length >= most) return undefined;
        const row = { workspace_id: workspaceId, owner_id: ownerId, context_id: contextId, ...subjectColumns(subject) };
        await tx
          .insertInto("context_shares")
          .values({ ...row, can_write: canWrite, created_at: createdAt })
          .onConflict((conflict) =>
            conflict
              .columns(["workspace_id", "owner_id", "context_id", "subject_kind", "subject"])
              .doUpdateSet({ can_write: canWrite }),
          )
          .execute();
        await record(tx);
        return known ? { ...known, canWrite } : share;
      }),

    remove: (workspaceId, { ownerId, contextId, subject }, record) =>
      kysely.transaction().execute(async (tx) => {
        const columns = subjectColumns(subject);
        const { numDeletedRows } = await tx
          .deleteFrom("context_shares")
          .where("workspace_id", "=", workspaceId)
          .where("owner_id", "=", ownerId)
          .where("context_id", "=", contextId)
          .where("subject_kind", "=", columns.subject_kind)
          .where("subject", "=", columns.subject)
          .executeTakeFirstOrThrow();
        if (numDeletedRows === 0n) return false;
        await record(tx);
        return true;
      }),

    async list(workspaceId, ownerId, contextId) {
      const rows = await kysely
        .selectFrom("context_shares")
        .select(COLUMNS)
        .where("workspace_id", "=", workspaceId)
        .where("owner_id", "=", ownerId)
        .where("context_id", "=", contextId)
        .orderBy("subject_kind")
        .orderBy("subject")
        .execute();
      return rows.map(shareOf);
    },
  };
}

const nameOf = (subject: Share["subject"]): string => Object.entries(subject).join();

const subjectColumns = (subject: Share["subject"]): { subject_kind: number; subject: string } =>
  "role" in subject
    ? { subject_kind: BY_ROLE, subject: subject.role }
    : { subject_kind: BY_PRINCIPAL, subject: subject.principalId };

const shareOf = (row: {
  owner_id: string;
  context_id: string;
  subject_kind: number;
  subject: string;
  can_write: boolean;
  created_at: Date;
}): StoredShare => ({
  ownerId: row.owner_id,
  contextId: row.context_id,
  subject: row.subject_kind === BY_ROLE ? { role: row.subject } : { principalId: row.subject },
  canWrite: row.can_write,
  createdAt: row.created_at,
});
