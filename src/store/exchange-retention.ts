/** Forgets exchanges of all workspaces when they are old. */
import { sql } from "kysely";
import type { Database } from "./database.ts";

export interface ExchangeRetention {
  /**
   * Deletes exchanges whose last message came before a moment, with their messages and quotes: at most `most`, those first
   * that rest the longest. Returns how many. What another replica is deleting is left to it.
   */
  sweep(before: Date, most: number): Promise<number>;
}

export function createExchangeRetention({ kysely }: Database): ExchangeRetention {
  return {
    async sweep(before, most) {
      const { numAffectedRows = 0n } = await sql`
        delete from exchanges where (workspace_id, correlation_id, owner_id) in (
          select workspace_id, correlation_id, owner_id from exchanges where last_at < ${before}
          order by last_at limit ${most} for update skip locked
        )`.execute(kysely);
      return Number(numAffectedRows);
    },
  };
}
