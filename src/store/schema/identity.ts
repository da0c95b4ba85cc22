/** Who may do what. See schema.ts. */
import type { ColumnType, Generated } from "kysely";

export interface ApiKeyTable {
  workspace_id: string;
  key_id: string;
  /** Number of signalbox.v1.KeyKind. */
  kind: number;
  principal_id: string;
  roles: string[];
  scopes: string[];
  agent_id: string | null;
  description: string;
  /** Of a key that is sent: SHA-256 of its secret. */
  secret_hash: Uint8Array | null;
  /** Of a key that signs: its secret, encrypted. */
  secret_sealed: Uint8Array | null;
  created_at: Date;
  created_by: string;
  expires_at: Date | null;
  /** How long it was made to last, in milliseconds; null: without end. */
  lasts_ms: number | null;
  revoked_at: Date | null;
  last_used_at: Date | null;
}

/** At most one row. */
export interface FirstKeyTable {
  is_one: Generated<boolean>;
  key_id: string;
  created_at: Date;
}

export interface MemberTable {
  workspace_id: string;
  principal_id: string;
  roles: string[];
  scopes: string[];
  agent_id: string | null;
  /** Whether it counts for calls that name no workspace: somebody who runs the router has said so. */
  implied: boolean;
  created_at: Date;
  created_by: string;
}

export interface GrantTable {
  provider_workspace_id: string;
  grant_id: string;
  consumer_workspace_id: string;
  agent_id: string;
  /** Null: all that the agent can do. */
  capability_id: string | null;
  /** The agent's id at the consumer's. */
  alias_agent_id: string | null;
  /** Number of signalbox.v1.GrantState; that it has expired, only the clock says. */
  state: Generated<number>;
  created_at: Date;
  expires_at: Date | null;
  offered_by: string;
  accepted_at: Date | null;
  accepted_by: string | null;
  ended_at: Date | null;
}

export interface SignedNonceTable {
  key_id: string;
  nonce: string;
  expires_at: Date;
}

export interface ContextShareTable {
  workspace_id: string;
  owner_id: string;
  context_id: string;
  /** 1: a principal, 2: a role. */
  subject_kind: number;
  subject: string;
  can_write: boolean;
  created_at: Date;
}

export interface AgentCredentialTable {
  workspace_id: string;
  agent_id: string;
  /** signalbox.v1.AgentCredential without its secrets. */
  body: Uint8Array;
  /** JSON of its secrets, encrypted. */
  sealed: Uint8Array;
  /** Never used twice. */
  revision: ColumnType<string, never, never>;
  updated_at: Date;
  updated_by: string;
}
