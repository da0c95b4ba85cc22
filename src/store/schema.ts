/** The tables as Kysely sees them. Every key leads with the workspace. Timestamps hold milliseconds. */
import type {
  AgentHealthTable,
  AgentTable,
  CapabilityTable,
  ReputationReportTable,
  ReputationTable,
  RolloutTable,
  RoutingSettingsTable,
  WorkspaceTable,
} from "./schema/agents.ts";
import type {
  AuditChainTable,
  AuditCheckpointTable,
  AuditEntryTable,
  AuditKeyTable,
  AuditLogChainTable,
  AuditLogTable,
  AuditOriginTable,
  AuditSpanTable,
  AuditTileTable,
} from "./schema/audit.ts";
import type { BudgetReservationTable, BudgetSettlementTable, BudgetSliceTable } from "./schema/budgets.ts";
import type { ApprovalTable, PolicyVersionTable } from "./schema/governance.ts";
import type {
  AgentCredentialTable,
  ApiKeyTable,
  ContextShareTable,
  FirstKeyTable,
  GrantTable,
  MemberTable,
  SignedNonceTable,
} from "./schema/identity.ts";
import type { OpenStreamTable, RateWindowTable, WorkspaceUsageTable } from "./schema/limits.ts";
import type {
  AllotmentTable,
  CachedResultTable,
  ExchangeMessageTable,
  ExchangeQuoteTable,
  ExchangeTable,
  HeldUpdateTable,
  IdempotencyKeyTable,
  InstallationTable,
  OutboxCursorTable,
  PushConfigTable,
  ReplicaTable,
  RetentionTurnTable,
  TaskTable,
  TaskUpdateTable,
} from "./schema/tasks.ts";

export interface Schema {
  installation: InstallationTable;
  workspaces: WorkspaceTable;
  agents: AgentTable;
  agent_health: AgentHealthTable;
  capabilities: CapabilityTable;
  rollouts: RolloutTable;
  routing_settings: RoutingSettingsTable;
  reputations: ReputationTable;
  reputation_reports: ReputationReportTable;
  tasks: TaskTable;
  task_updates: TaskUpdateTable;
  held_updates: HeldUpdateTable;
  push_configs: PushConfigTable;
  outbox_cursors: OutboxCursorTable;
  idempotency_keys: IdempotencyKeyTable;
  cached_results: CachedResultTable;
  exchanges: ExchangeTable;
  exchange_messages: ExchangeMessageTable;
  exchange_quotes: ExchangeQuoteTable;
  replicas: ReplicaTable;
  retention_turn: RetentionTurnTable;
  allotments: AllotmentTable;
  budget_slices: BudgetSliceTable;
  budget_reservations: BudgetReservationTable;
  budget_settlements: BudgetSettlementTable;
  policy_versions: PolicyVersionTable;
  approvals: ApprovalTable;
  audit_chains: AuditChainTable;
  audit_entries: AuditEntryTable;
  audit_logs: AuditLogTable;
  audit_log_chains: AuditLogChainTable;
  audit_spans: AuditSpanTable;
  audit_tiles: AuditTileTable;
  audit_checkpoints: AuditCheckpointTable;
  audit_keys: AuditKeyTable;
  audit_origin: AuditOriginTable;
  api_keys: ApiKeyTable;
  first_key: FirstKeyTable;
  members: MemberTable;
  grants: GrantTable;
  signed_nonces: SignedNonceTable;
  context_shares: ContextShareTable;
  agent_credentials: AgentCredentialTable;
  rate_windows: RateWindowTable;
  open_streams: OpenStreamTable;
  workspace_usage: WorkspaceUsageTable;
}
