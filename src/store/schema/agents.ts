/** Workspaces, their agents, and how tasks are routed to them. See schema.ts. */
import type { Generated } from "kysely";

export interface WorkspaceTable {
  workspace_id: string;
  default_agent_id: string | null;
  display_name: Generated<string>;
  created_at: Generated<Date>;
  suspended_at: Date | null;
  suspend_reason: Generated<string>;
  /** signalbox.v1.Quotas as JSON, without its etag; null when there are none. */
  quotas: unknown | null;
  /** Grows with every change of them; what clients see as etag. */
  quotas_revision: Generated<number>;
}

export interface AgentTable {
  workspace_id: string;
  agent_id: string;
  /** lf.a2a.v1.AgentCard, as the agent gave it. */
  card: Uint8Array;
  card_url: string | null;
  /** The ETag with which the card was served to us. */
  card_etag: string | null;
  /** The Last-Modified with which it was served, where there was no ETag. */
  card_modified: string | null;
  /** Grows with every change; what clients see as etag. */
  revision: Generated<number>;
  created_at: Date;
  updated_at: Date;
  card_fetched_at: Date;
  /** Whether a task may be sent to it once more when nobody knows what became of the first time. */
  safe_to_repeat: Generated<boolean>;
  /** Tasks that it works on at once; null when there is no limit. */
  max_concurrency: number | null;
  /** signalbox.v1.CardSignature; null where the card has none. */
  card_signature: Uint8Array | null;
}

/** What is known of each agent's health. Times are the database's. */
export interface AgentHealthTable {
  workspace_id: string;
  agent_id: string;
  /** By its checks alone. */
  healthy: Generated<boolean>;
  /** Why the last check failed; what was odd about it, when it did not. */
  reason: Generated<string>;
  /** Checks that failed in a row. */
  failures: Generated<number>;
  checked_at: Date | null;
  succeeded_at: Date | null;
  next_check_at: Generated<Date>;
  /** How long a heartbeat lasts, for an agent that has given one, or has to. */
  heartbeat_ttl_ms: number | null;
  heartbeat_expires_at: Date | null;
}

export interface CapabilityTable {
  workspace_id: string;
  agent_id: string;
  capability_id: string;
  /** signalbox.v1.Capability, as it was given. */
  body: Uint8Array;
  /** Changes with every change, and is never used twice. */
  version: Generated<number>;
  created_at: Date;
  updated_at: Date;
}

export interface RolloutTable {
  workspace_id: string;
  /** Empty for the workspace's own. */
  capability_id: string;
  /** signalbox.v1.Rollout, without its etag and its time. */
  body: Uint8Array;
  /** Grows with every change; what clients see as etag. */
  revision: number;
  updated_at: Date;
}

/** How workspaces route: a row for each that was ever told. */
export interface RoutingSettingsTable {
  workspace_id: string;
  /** signalbox.v1.RoutingSettings, as they were given. */
  body: Uint8Array;
  /** Grows with every change; decisions name it. */
  revision: number;
  updated_at: Date;
}

/** How an agent stands: see src/domain/reputation/standing.ts. */
export interface ReputationTable {
  workspace_id: string;
  agent_id: string;
  /** Empty for the agent as a whole. */
  capability_id: string;
  trust: number;
  weight: number;
  good_weight: number;
  succeeded: number;
  failed: number;
  /** As of when trust and weights are true. */
  at: Date;
  /** When its trust was set last. */
  set_at: Date | null;
  /** See window-codec.ts. */
  windows: Uint8Array;
  /** The transaction that changed it last. */
  xid: Generated<string>;
}

/** A report of a judge that was taken in. */
export interface ReputationReportTable {
  workspace_id: string;
  report_id: string;
  created_at: Date;
}
