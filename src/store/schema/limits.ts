/** Counters of limits. See schema.ts. */
import type { Generated } from "kysely";

/** What was drawn of the points of one second. */
export interface RateWindowTable {
  rate_key: string;
  points: number;
  ends_at: Date;
}

/** Streams that a replica has open, as it said last. */
export interface OpenStreamTable {
  workspace_id: string;
  replica_id: string;
  streams: number;
}

/** What a workspace with quotas has stored, and how far the pass is that counts it anew. */
export interface WorkspaceUsageTable {
  workspace_id: string;
  /** Null before the first pass has ended. */
  stored_bytes: number | null;
  stored_bytes_at: Date | null;
  /** From when on the next page may be counted. */
  due_at: Generated<Date>;
  /** Which of the tables it is in. */
  pass_table: Generated<number>;
  /** The key, within the workspace, of the last row that was counted; null at the beginning of a table. */
  pass_after: string[] | null;
  pass_bytes: Generated<number>;
  /** Tasks that have not ended and hold no unit of the quota, because they are older than it; null before they were counted. */
  uncounted_tasks: number | null;
  /** The revision of the quotas by which they were counted. */
  uncounted_revision: number | null;
}
