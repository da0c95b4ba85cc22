/** The columns that hold encrypted secrets, as they are encrypted anew under another key. */
import { sql } from "kysely";
import type { Database } from "./database.ts";

/** A table with a column of such secrets. Its rows are told apart by a workspace and an id in it. */
export interface SealedColumn {
  /** Begins what each secret of it is bound to: `<table>/<workspace>/<id>`. */
  readonly table: "agent_credentials" | "api_keys";
  readonly id: string;
  readonly column: string;
}

export const SEALED_COLUMNS: readonly SealedColumn[] = [
  { table: "agent_credentials", id: "agent_id", column: "sealed" },
  { table: "api_keys", id: "key_id", column: "secret_sealed" },
];

export interface SealedSecret {
  readonly workspaceId: string;
  readonly id: string;
  readonly sealed: Uint8Array;
}

export interface SealedSecrets {
  /** In the order of workspaces and ids, after the one given. */
  page(of: SealedColumn, after: SealedSecret | undefined, limit: number): Promise<SealedSecret[]>;
  /**
   * Puts one in the place of another, where that one is still there: a secret that was set meanwhile stays. False when it was not.
   */
  replace(of: SealedColumn, old: SealedSecret, sealed: Uint8Array): Promise<boolean>;
}

export function createSealedSecrets({ kysely }: Pick<Database, "kysely">): SealedSecrets {
  return {
    async page({ table, id, column }, after, limit) {
      const beyond = after ? sql`and (workspace_id, ${sql.ref(id)}) > (${after.workspaceId}, ${after.id})` : sql``;
      const { rows } = await sql<SealedSecret>`
        select workspace_id as "workspaceId", ${sql.ref(id)} as id, ${sql.ref(column)} as sealed
        from ${sql.table(table)} where ${sql.ref(column)} is not null ${beyond}
        order by workspace_id, ${sql.ref(id)} limit ${limit}`.execute(kysely);
      return rows;
    },

    async replace({ table, id, column }, old, sealed) {
      const { numAffectedRows = 0n } = await sql`
        update ${sql.table(table)} set ${sql.ref(column)} = ${sealed}
        where workspace_id = ${old.workspaceId} and ${sql.ref(id)} = ${old.id} and ${sql.ref(column)} = ${old.sealed}`.execute(
        kysely,
      );
      return numAffectedRows > 0n;
    },
  };
}
