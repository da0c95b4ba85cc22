/** The tables as Kysely sees them. Every key leads with the workspace. Timestamps hold milliseconds. */
import type { ColumnType, Generated } from "kysely";

export interface Schema {
  workspaces: WorkspaceTable;
  agents: AgentTable;
  agent_health: AgentHealthTable;
  capabilities: CapabilityTable;
  rollouts: RolloutTable;
  tasks: TaskTable;
  task_updates: TaskUpdateTable;
  push_configs: PushConfigTable;
  replicas: ReplicaTable;
  allotments: AllotmentTable;
  budget_slices: BudgetSliceTable;
  budget_reservations: BudgetReservationTable;
  budget_settlements: BudgetSettlementTable;
  outbox_cursors: OutboxCursorTable;
  routing_settings: RoutingSettingsTable;
  policy_versions: PolicyVersionTable;
  cached_results: CachedResultTable;
  idempotency_keys: IdempotencyKeyTable;
  exchanges: ExchangeTable;
  exchange_messages: ExchangeMessageTable;
  exchange_quotes: ExchangeQuoteTable;
  audit_chains: AuditChainTable;
  audit_entries: AuditEntryTable;
  reputations: ReputationTable;
  reputation_reports: ReputationReportTable;
  approvals: ApprovalTable;
  audit_logs: AuditLogTable;
  audit_log_chains: AuditLogChainTable;
  audit_spans: AuditSpanTable;
  audit_tiles: AuditTileTable;
  audit_checkpoints: AuditCheckpointTable;
  audit_keys: AuditKeyTable;
  audit_origin: AuditOriginTable;
}

export interface WorkspaceTable {
  workspace_id: string;
  default_agent_id: string | null;
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

export interface TaskTable {
  workspace_id: string;
  task_id: string;
  context_id: string;
  agent_id: string;
  /** EngineState. The database lets it change only as src/domain/task-state.ts says. */
  state: number;
  /** Number of lf.a2a.v1.TaskState: the state as clients see it. */
  a2a_state: number;
  /** lf.a2a.v1.TaskStatus: what ListTasks shows without reading the log. Null: nothing but a2a_state and status_at. */
  status: Uint8Array | null;
  status_at: Date;
  /** Number of the last row in task_updates. */
  last_seq: number;
  disclosed: boolean;
  has_push: boolean;
  /** lf.a2a.v1.Task that holds nothing but the metadata that the agent gave it. */
  metadata: Uint8Array | null;
  upstream_task_id: string | null;
  upstream_context_id: string | null;
  created_at: Date;
  /** 0, BACKGROUND, to 4, CRITICAL. */
  priority: Generated<number>;
  /** The fencing token: whoever takes the task over makes it greater, and every write names it. */
  fence: Generated<number>;
  /** How many times the first message was, or is about to be, brought to an agent. */
  attempt: Generated<number>;
  /** The replica that has the task. */
  lease_owner: string | null;
  /** For a task that no replica has: when one should take it, because it is due or has waited too long. */
  wake_at: Date | null;
  deadline_at: Date | null;
  /** JSON: what the first message is delivered with. */
  delivery: Uint8Array | null;
  /** The capability for which its agent has it; null when it was given to the agent itself. */
  capability_id: string | null;
  /** The agents that had it before, the first one first; null as long as it is with the first. */
  earlier_agent_ids: string[] | null;
  /** Where there are such: the capability that it was given to by its client. */
  given_capability_id: string | null;
  /** How its agent was chosen; null when nothing was written down. */
  route_decision: Uint8Array | null;
  /** What it holds of budgets, as the codec of tasks writes it; after its end, what it held then. */
  holds: unknown | null;
  /** The task on whose behalf it was sent, the agent that had that one, and how many tasks stand above this one. */
  parent_task_id: string | null;
  parent_agent_id: string | null;
  delegation_depth: number | null;
}

export interface TaskUpdateTable {
  workspace_id: string;
  task_id: string;
  seq: number;
  kind: number;
  /** lf.a2a.v1.StreamResponse, with our ids, as watchers get it. */
  body: Uint8Array;
  /** Who or what caused it and why; for operators. */
  cause: string | null;
  created_at: ColumnType<Date, Date, never>;
  /** EngineState that the row brought, if it brought one. */
  state: number | null;
  /** The token under which it was written. */
  fence: Generated<number>;
  attempt: Generated<number>;
  /** The replica that wrote it. */
  written_by: string | null;
  /** The transaction that wrote it. */
  xid: Generated<string>;
}

export interface PushConfigTable {
  workspace_id: string;
  task_id: string;
  config_id: string;
  /** lf.a2a.v1.TaskPushNotificationConfig. */
  body: Uint8Array;
  created_at: Date;
  /** Number of the last row of the task's log that was posted or need not be. */
  posted: Generated<number>;
  /** Number of the last row that may have to be posted. */
  reach: Generated<number>;
  /** Tries of the update after `posted` that failed. */
  tries: Generated<number>;
  /** When there is something to post: from when on. */
  next_try_at: Date | null;
  /** Set when all tries were used up: it gets no more. */
  given_up_at: Date | null;
  /** The fencing token of whoever posts; each claim, and each config in the place of another, gets a new one. */
  claim: Generated<number>;
  /** The replica that posts. */
  claimed_by: string | null;
}

/** One run of a server that works, or has worked, on this database. */
export interface ReplicaTable {
  replica_id: string;
  host: string;
  started_at: Generated<Date>;
  /** Until when its leases hold, by the database's clock. */
  expires_at: Date;
  died_at: Date | null;
}

/** What one replica has of one limit. */
export interface AllotmentTable {
  workspace_id: string;
  /** Names the limit, as `agent/x`. */
  limit_key: string;
  replica_id: string;
  /** Units in its slice. */
  granted: number;
  /** Units that its work needs and that it did not get. */
  wanted: number;
  /** Set when its replica is dead and nobody's work is its own any more: until when it counts. */
  expires_at: Date | null;
}

/** What one replica has of one window of a budget. */
export interface BudgetSliceTable {
  workspace_id: string;
  limit_key: string;
  replica_id: string;
  /** What it may have reserved and used, in all. */
  granted: number;
  wanted: Generated<number>;
  /** The limit by which it was last granted something. */
  limit_units: number;
  /** When the window ends. */
  ends_at: Date;
  /** 0: its replica's own; 1: that one is dead; 2: and no task has any of it. */
  state: Generated<number>;
}

/** What tasks have been given of a slice. It only grows. */
export interface BudgetReservationTable {
  workspace_id: string;
  limit_key: string;
  replica_id: string;
  units: number;
  /** Set when its replica is dead: `units` stay as they are. */
  closed_units: number | null;
}

/** What came of it, by the replica that wrote it down. All of it only grows. */
export interface BudgetSettlementTable {
  workspace_id: string;
  limit_key: string;
  replica_id: string;
  written_by: string;
  /** Units that tasks have held and did not use. */
  released: Generated<number>;
  /** Units that they used of what they held. */
  charged: Generated<number>;
  /** Units that they used beyond that, and that the slice had. */
  extra: Generated<number>;
  /** What they cost beyond what was to be had. */
  overrun: Generated<number>;
  is_closed: Generated<boolean>;
}

/** How far a duty has read all logs, in the order of transactions. */
export interface OutboxCursorTable {
  name: string;
  xid: string;
  workspace_id: Generated<string>;
  task_id: Generated<string>;
  seq: Generated<number>;
  fence: Generated<number>;
  /** The replica that reads. */
  lease_owner: string | null;
}

/** Messages that belong together. */
export interface ExchangeTable {
  workspace_id: string;
  correlation_id: string;
  /** Number of its last message. */
  last_seq: number;
  created_at: Date;
  /** When its last message came. */
  last_at: Date;
}

export interface ExchangeMessageTable {
  workspace_id: string;
  correlation_id: string;
  seq: number;
  /** signalbox.v1.ExchangeKind. */
  kind: number;
  /** Who called. */
  principal: string;
  task_id: string | null;
  /** signalbox.v1.ExchangeMessage; of one that is too large, without payload and metadata. */
  body: Uint8Array;
  /** How large a message was that was too large; 0 for one that is whole. */
  omitted_bytes: Generated<number>;
  created_at: Date;
}

export interface ExchangeQuoteTable {
  workspace_id: string;
  quote_id: string;
  correlation_id: string;
  /** signalbox.v1.Quote. */
  body: Uint8Array;
}

/** A request that said how it is to be known again. */
export interface IdempotencyKeyTable {
  workspace_id: string;
  principal_id: string;
  key: string;
  /** SHA-256 of the request. */
  digest: Uint8Array;
  /** The task that it began, or went on with. */
  task_id: string;
  /** Number of the last row of the task's log before its message; 0 where it began the task. */
  after_seq: number;
  /** The replica that took it in. */
  replica_id: string;
  created_at: Date;
  expires_at: Date;
}

/** A result that may be given again: the log of the task that it came of. */
export interface CachedResultTable {
  workspace_id: string;
  /** SHA-256 of what was asked for, by whom, of which agents. */
  key: Uint8Array;
  capability_id: string;
  /** The task that has the result, or will have it. */
  task_id: string;
  /** From its end on, in milliseconds. */
  ttl_ms: number;
  created_at: Date;
  /** When to look whether it is of use still. */
  expires_at: Date;
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

/** Policies of workspaces: a row for each version. */
export interface PolicyVersionTable {
  workspace_id: string;
  /** From 1 on, without gaps. */
  version: number;
  /** YAML, as it was put. */
  document: string;
  /** SHA-256 of the document, in hexadecimal. */
  digest: string;
  rule_count: number;
  budget_count: number;
  /** The principal that put it. */
  author: string;
  comment: string;
  created_at: Date;
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

/** What a task waited, or waits, for before it went to its agent. The database settles those of tasks that end. */
export interface ApprovalTable {
  workspace_id: string;
  approval_id: string;
  task_id: string;
  /** signalbox.v1.ApprovalState. */
  state: Generated<number>;
  /** The agent that the task was for, and the capability. */
  agent_id: string;
  capability_id: string | null;
  /** Who asked for the task. */
  principal_id: string;
  /** The path of the rule that requires it, what the rule says of itself, and the version of its policy. */
  rule: string;
  description: string;
  policy_version: number;
  /** Lists of principals and roles, none empty: who decides must be on each. None: all may that may decide at all. */
  approvers: string[][];
  /** Whether who asked for the task may decide. */
  self: boolean;
  created_at: Date;
  expires_at: Date;
  decided_at: Date | null;
  decided_by: string | null;
  comment: string | null;
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
