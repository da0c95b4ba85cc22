/** The audit trail that each replica writes, and the workspaces' logs that are made of it. See schema.ts. */
import type { Generated } from "kysely";

/** How far a chain of the audit log has come. */
export interface AuditChainTable {
  workspace_id: string;
  /** A replica's id, a slash, and the lane: `s`, `a` or `x`; see audit-trail.ts. */
  chain_id: string;
  /** Number of its last entry; 0 before the first. */
  last_n: number;
  /** Hash of that one's line. */
  last_hash: Uint8Array;
  /** Its replica is gone, and all of it is in the log. */
  sealed: Generated<boolean>;
}

/** Never changed, and not removed with their tasks. Written by the function signalbox_audit alone. */
export interface AuditEntryTable {
  workspace_id: string;
  chain_id: string;
  /** From 1 on, without gaps. */
  n: number;
  /** What comes in the line after its place in the chain, as of `auditBody`. */
  body: string;
  /** As of `lineHash`. */
  hash: Uint8Array;
  /** The time that the body tells, too. */
  at: Date;
  task_id: string | null;
}

/** The log of a workspace, and its lock. */
export interface AuditLogTable {
  workspace_id: string;
  /** Entries in it. */
  size: number;
}

/** How far a chain is in the log. */
export interface AuditLogChainTable {
  workspace_id: string;
  chain_id: string;
  folded_n: number;
}

/** Entries of one chain that stand together in the log. */
export interface AuditSpanTable {
  workspace_id: string;
  /** The place of the first of them, from 0 on. */
  first_index: number;
  chain_id: string;
  first_n: number;
  count: number;
}

/** A tile of the Merkle tree, as src/domain/audit/tiles.ts has it. */
export interface AuditTileTable {
  workspace_id: string;
  level: number;
  index: number;
  hashes: Uint8Array;
}

export interface AuditCheckpointTable {
  workspace_id: string;
  size: number;
  root: Uint8Array;
  /** As it was signed. */
  note: string;
  created_at: Date;
}

/** The keys that sign, or signed, for all workspaces. */
export interface AuditKeyTable {
  /** From 1 on. The greatest signs. */
  number: number;
  public_key: Uint8Array;
  /** What the key before it signed, to make it its successor. */
  signed_by_previous: Uint8Array | null;
  created_at: Date;
}

/** One row: what the logs of this database are called. */
export interface AuditOriginTable {
  is_one: Generated<boolean>;
  origin: string;
}
