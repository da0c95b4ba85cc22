/** The policy of each workspace: all versions that it ever had. */
import type { Selectable } from "kysely";
import type { Recording } from "./audit-trail.ts";
import type { Database } from "./database.ts";
import type { PolicyVersionTable } from "./schema/governance.ts";

/** A version, without its document. */
export interface PolicyVersion {
  /** From 1 on. */
  readonly version: number;
  /** SHA-256 of the document, in hexadecimal. */
  readonly digest: string;
  readonly ruleCount: number;
  readonly budgetCount: number;
  readonly author: string;
  readonly comment: string;
  readonly createdAt: Date;
}

export interface StoredPolicy extends PolicyVersion {
  readonly document: string;
}

export interface PolicyRepository {
  /** The number of the version that holds; 0 as long as there is none. Reads no document: replicas ask it every second. */
  latest(workspaceId: string): Promise<number>;
  /** Undefined where there is no such version. */
  get(workspaceId: string, version: number): Promise<StoredPolicy | undefined>;
  /** At most `limit` versions before one, the latest first. */
  list(workspaceId: string, before: number | undefined, limit: number): Promise<PolicyVersion[]>;
  /** Adds a version. False when there is one of that number already: somebody else was faster. */
  add(workspaceId: string, policy: StoredPolicy, record?: Recording): Promise<boolean>;
}

const LATEST = {
  name: "policy-latest-v1",
  text: "select version from policy_versions where workspace_id = $1 order by version desc limit 1",
};

const FACTS = ["version", "digest", "rule_count", "budget_count", "author", "comment", "created_at"] as const;

export function createPolicyRepository(db: Database): PolicyRepository {
  const { kysely } = db;
  return {
    async latest(workspaceId) {
      const [row] = await db.query(LATEST, [workspaceId]);
      return (row?.version as number | undefined) ?? 0;
    },

    async get(workspaceId, version) {
      const row = await db.reading(workspaceId, (reader) =>
        reader.kysely
          .selectFrom("policy_versions")
          .select([...FACTS, "document"])
          .where("workspace_id", "=", workspaceId)
          .where("version", "=", version)
          .executeTakeFirst(),
      );
      return row && { ...versionOf(row), document: row.document };
    },

    async list(workspaceId, before, limit) {
      return db.reading(workspaceId, async (reader) => {
        let query = reader.kysely.selectFrom("policy_versions").select(FACTS).where("workspace_id", "=", workspaceId);
        if (before !== undefined) query = query.where("version", "<", before);
        return (await query.orderBy("version", "desc").limit(limit).execute()).map(versionOf);
      });
    },

    add(workspaceId, { version, document, digest, ruleCount, budgetCount, author, comment, createdAt }, record) {
      return kysely.transaction().execute(async (tx) => {
        const { numInsertedOrUpdatedRows = 0n } = await tx
          .insertInto("policy_versions")
          .values({
            workspace_id: workspaceId,
            version,
            document,
            digest,
            rule_count: ruleCount,
            budget_count: budgetCount,
            author,
            comment,
            created_at: createdAt,
          })
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst();
        if (numInsertedOrUpdatedRows === 0n) return false;
        await record?.(tx);
        return true;
      });
    },
  };
}

const versionOf = (row: Omit<Selectable<PolicyVersionTable>, "workspace_id" | "document">): PolicyVersion => ({
  version: row.version,
  digest: row.digest,
  ruleCount: row.rule_count,
  budgetCount: row.budget_count,
  author: row.author,
  comment: row.comment,
  createdAt: row.created_at,
});
