/** The public keys that sign checkpoints, for all workspaces, and what the logs of this database are called. */
import type { Database } from "./database.ts";

export interface AuditKeyRecord {
  /** From 1 on. The greatest is the one in use. */
  number: number;
  publicKey: Uint8Array;
  /** What the key before it signed; undefined for the first, and for one that was put in its place without it. */
  signedByPrevious: Uint8Array | undefined;
  createdAt: Date;
}

export interface AuditKeyRepository {
  /** The oldest first. */
  keys(): Promise<AuditKeyRecord[]>;
  /** Makes a key the one in use, as the `number`th. False when there is one of that number, or the key is there already. */
  add(record: AuditKeyRecord): Promise<boolean>;
  /** What the logs are called: as they were before, or else as is proposed here. */
  origin(proposed: string): Promise<string>;
}

export function createAuditKeyRepository({ kysely }: Database): AuditKeyRepository {
  return {
    async keys() {
      const rows = await kysely.selectFrom("audit_keys").selectAll().orderBy("number").execute();
      return rows.map((row) => ({
        number: row.number,
        publicKey: row.public_key,
        signedByPrevious: row.signed_by_previous ?? undefined,
        createdAt: row.created_at,
      }));
    },

    async add({ number, publicKey, signedByPrevious, createdAt }) {
      const { numInsertedOrUpdatedRows } = await kysely
        .insertInto("audit_keys")
        .values({ number, public_key: publicKey, signed_by_previous: signedByPrevious ?? null, created_at: createdAt })
        .onConflict((conflict) => conflict.doNothing())
        .executeTakeFirstOrThrow();
      return numInsertedOrUpdatedRows === 1n;
    },

    async origin(proposed) {
      await kysely
        .insertInto("audit_origin")
        .values({ origin: proposed })
        .onConflict((conflict) => conflict.doNothing())
        .execute();
      return (await kysely.selectFrom("audit_origin").select("origin").executeTakeFirstOrThrow()).origin;
    },
  };
}
