/** API keys of all workspaces. A key never changes but for its end and its last use. */
import { type Kysely, type Selectable, sql, type Transaction } from "kysely";
import type { Recording } from "./audit-trail.ts";
import type { Database } from "./database.ts";
import { textArray, timestamptzArray } from "./pg-arrays.ts";
import type { ApiKeyTable } from "./schema/identity.ts";
import type { Schema } from "./schema.ts";

/** A key, without its secret. */
export interface ApiKey {
  readonly workspaceId: string;
  readonly keyId: string;
  /** As in signalbox.v1.KeyKind: 1 is sent, 2 signs. */
  readonly kind: number;
  readonly principalId: string;
  readonly roles: readonly string[];
  readonly scopes: readonly string[];
  readonly agentId: string | undefined;
  readonly description: string;
  readonly createdAt: Date;
  readonly createdBy: string;
  readonly expiresAt: Date | undefined;
  /** How long it was made to last, in milliseconds; undefined: without end. */
  readonly lastsMs: number | undefined;
  readonly revokedAt: Date | undefined;
  /** To the minute. */
  readonly lastUsedAt: Date | undefined;
}

/** A key, and what is kept of its secret: SHA-256 of one that is sent, or the secret of one that signs, encrypted. */
export type KeptKey = ApiKey & {
  readonly secretHash: Uint8Array | undefined;
  readonly secretSealed: Uint8Array | undefined;
};

/** What is new of a key. */
export type NewApiKey = Omit<KeptKey, "revokedAt" | "lastUsedAt">;

/** Why a key is not made: there is no such workspace, or it has as many as it may. */
export type NotMade = "no-workspace" | "too-many";

export interface ApiKeyRepository {
  /** Makes a key, unless its workspace has `mostLive` already that have not ended. */
  create(key: NewApiKey, mostLive: number, record: Recording): Promise<"made" | NotMade>;
  /**
   * Makes a key in the place of another, which ends when its time comes, or at `endsAt` if that is sooner. `no-key`: the old one is not
   * there, or has ended. Returns the old one as it is then.
   */
  rotate(
    oldKeyId: string,
    endsAt: Date,
    key: NewApiKey,
    mostLive: number,
    record: Recording,
  ): Promise<ApiKey | "no-key" | NotMade>;
  /** Ends a key. One that has been revoked stays as it is, and nothing is recorded. Undefined: there is none. */
  revoke(workspaceId: string, keyId: string, now: Date, record: Recording): Promise<ApiKey | undefined>;
  get(workspaceId: string, keyId: string): Promise<ApiKey | undefined>;
  /** The latest first; those before the one with the id `before`. */
  list(
    workspaceId: string,
    filter: { principalId?: string },
    page: { before?: string | undefined; limit: number },
  ): Promise<ApiKey[]>;
  /** Keys by their ids, of whatever workspace, in one statement. Those that are not there are left out. */
  find(keyIds: readonly string[]): Promise<KeptKey[]>;
  /** Notes when keys were used last. */
  used(uses: readonly { keyId: string; at: Date }[]): Promise<void>;
  hasWorkspace(workspaceId: string): Promise<boolean>;
  /**
   * Makes the first key of all, once for all servers. Undefined: one was made before, or the workspace has a key with the role admin that
   * has not ended.
   */
  createFirst(key: NewApiKey, record: Recording): Promise<"made" | undefined>;
}

const FIND = {
  name: "api-keys-find-v1",
  text: "select * from api_keys where key_id = any ($1::text[])",
};

const USED = {
  name: "api-keys-used-v1",
  text: `
    update api_keys k set last_used_at = u.at from unnest($1::text[], $2::timestamptz[]) as u(key_id, at)
    where k.key_id = u.key_id and (k.last_used_at is null or k.last_used_at < u.at)`,
};

const FACTS = [
  "workspace_id",
  "key_id",
  "kind",
  "principal_id",
  "roles",
  "scopes",
  "agent_id",
  "description",
  "created_at",
  "created_by",
  "expires_at",
  "lasts_ms",
  "revoked_at",
  "last_used_at",
] as const;

export function createApiKeyRepository(db: Database): ApiKeyRepository {
  const { kysely } = db;
  return {
    create: (key, mostLive, record) =>
      kysely.transaction().execute(async (tx) => {
        const obstacle = await roomFor(tx, key, mostLive);
        if (obstacle) return obstacle;
        await insert(tx, key);
        await record(tx);
        return "made";
      }),

    rotate: (oldKeyId, endsAt, key, mostLive, record) =>
      kysely.transaction().execute(async (tx) => {
        const obstacle = await roomFor(tx, key, mostLive);
        if (obstacle) return obstacle;
        const ended = await tx
          .updateTable("api_keys")
          .set({ expires_at: sql<Date>`least(expires_at, ${endsAt})` })
          .where("workspace_id", "=", key.workspaceId)
          .where("key_id", "=", oldKeyId)
          .where(isLive(key.createdAt))
          .returning(FACTS)
          .executeTakeFirst();
        if (!ended) return "no-key";
        await insert(tx, key);
        await record(tx);
        return keyOf(ended);
      }),

    revoke: (workspaceId, keyId, now, record) =>
      kysely.transaction().execute(async (tx) => {
        const revoked = await tx
          .updateTable("api_keys")
          .set({ revoked_at: now })
          .where("workspace_id", "=", workspaceId)
          .where("key_id", "=", keyId)
          .where("revoked_at", "is", null)
          .returning(FACTS)
          .executeTakeFirst();
        if (revoked) {
          await record(tx);
          return keyOf(revoked);
        }
        return read(tx, workspaceId, keyId);
      }),

    get: (workspaceId, keyId) => read(kysely, workspaceId, keyId),

    async list(workspaceId, { principalId }, { before, limit }) {
      let query = kysely.selectFrom("api_keys").select(FACTS).where("workspace_id", "=", workspaceId);
      if (principalId !== undefined) query = query.where("principal_id", "=", principalId);
      if (before !== undefined) query = query.where("key_id", "<", before);
      return (await query.orderBy("key_id", "desc").limit(limit).execute()).map(keyOf);
    },

    async find(keyIds) {
      const rows = await db.query(FIND, [textArray(keyIds, (id) => id)]);
      return (rows as unknown as Selectable<ApiKeyTable>[]).map((row) => ({
        ...keyOf(row),
        secretHash: row.secret_hash ?? undefined,
        secretSealed: row.secret_sealed ?? undefined,
      }));
    },

    async used(uses) {
      if (uses.length === 0) return;
      // In one order, so that two servers that note the same keys do not wait for each other.
      const sorted = uses.toSorted((a, b) => (a.keyId < b.keyId ? -1 : 1));
      await db.query(USED, [textArray(sorted, (use) => use.keyId), timestamptzArray(sorted, (use) => use.at)]);
    },

    async hasWorkspace(workspaceId) {
      const found = await kysely
        .selectFrom("workspaces")
        .select("workspace_id")
        .where("workspace_id", "=", workspaceId)
        .executeTakeFirst();
      return found !== undefined;
    },

    createFirst: (key, record) =>
      kysely.transaction().execute(async (tx) => {
        const admin = await tx
          .selectFrom("api_keys")
          .select("key_id")
          .where("workspace_id", "=", key.workspaceId)
          .where(sql<boolean>`'admin' = any (roles)`)
          .where(isLive(key.createdAt))
          .limit(1)
          .executeTakeFirst();
        if (admin) return undefined;
        // A server that does the same at the same time is waited for here, and has then done it.
        const { numInsertedOrUpdatedRows = 0n } = await tx
          .insertInto("first_key")
          .values({ key_id: key.keyId, created_at: key.createdAt })
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst();
        if (numInsertedOrUpdatedRows === 0n) return undefined;
        await insert(tx, key);
        await record(tx);
        return "made";
      }),
  };
}

/** Holds the workspace, so that nobody else makes a key in it meanwhile. Undefined: there is room for one more. */
async function roomFor(
  tx: Transaction<Schema>,
  { workspaceId, createdAt }: NewApiKey,
  mostLive: number,
): Promise<NotMade | undefined> {
  const workspace = await tx
    .selectFrom("workspaces")
    .select("workspace_id")
    .where("workspace_id", "=", workspaceId)
    .forNoKeyUpdate()
    .executeTakeFirst();
  if (!workspace) return "no-workspace";
  const { live } = await tx
    .selectFrom("api_keys")
    .select(({ fn }) => fn.countAll<number>().as("live"))
    .where("workspace_id", "=", workspaceId)
    .where(isLive(createdAt))
    .executeTakeFirstOrThrow();
  return Number(live) < mostLive ? undefined : "too-many";
}

const isLive = (now: Date) => sql<boolean>`(revoked_at is null and (expires_at is null or expires_at > ${now}))`;

async function read(db: Kysely<Schema>, workspaceId: string, keyId: string): Promise<ApiKey | undefined> {
  const row = await db
    .selectFrom("api_keys")
    .select(FACTS)
    .where("workspace_id", "=", workspaceId)
    .where("key_id", "=", keyId)
    .executeTakeFirst();
  return row && keyOf(row);
}

async function insert(tx: Kysely<Schema>, key: NewApiKey): Promise<void> {
  await tx
    .insertInto("api_keys")
    .values({
      workspace_id: key.workspaceId,
      key_id: key.keyId,
      kind: key.kind,
      principal_id: key.principalId,
      roles: [...key.roles],
      scopes: [...key.scopes],
      agent_id: key.agentId ?? null,
      description: key.description,
      secret_hash: key.secretHash ?? null,
      secret_sealed: key.secretSealed ?? null,
      created_at: key.createdAt,
      created_by: key.createdBy,
      expires_at: key.expiresAt ?? null,
      lasts_ms: key.lastsMs ?? null,
      revoked_at: null,
      last_used_at: null,
    })
    .execute();
}

const keyOf = (row: Pick<Selectable<ApiKeyTable>, (typeof FACTS)[number]>): ApiKey => ({
  workspaceId: row.workspace_id,
  keyId: row.key_id,
  kind: row.kind,
  principalId: row.principal_id,
  roles: row.roles,
  scopes: row.scopes,
  agentId: row.agent_id ?? undefined,
  description: row.description,
  createdAt: row.created_at,
  createdBy: row.created_by,
  expiresAt: row.expires_at ?? undefined,
  lastsMs: row.lasts_ms ?? undefined,
  revokedAt: row.revoked_at ?? undefined,
  lastUsedAt: row.last_used_at ?? undefined,
});
