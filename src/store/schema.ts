/** The tables as Kysely sees them. Every key leads with the workspace. Timestamps hold milliseconds. */
import type { ColumnType, Generated } from "kysely";

export interface Schema {
  workspaces: WorkspaceTable;
  agents: AgentTable;
  tasks: TaskTable;
  task_updates: TaskUpdateTable;
  push_configs: PushConfigTable;
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
  /** Grows with every change; what clients see as etag. */
  revision: Generated<number>;
  created_at: Date;
  updated_at: Date;
  card_fetched_at: Date;
}

export interface TaskTable {
  workspace_id: string;
  task_id: string;
  context_id: string;
  agent_id: string;
  /** Number of lf.a2a.v1.TaskState. */
  state: number;
  /** lf.a2a.v1.TaskStatus: what ListTasks shows without reading the log. */
  status: Uint8Array;
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
}

export interface PushConfigTable {
  workspace_id: string;
  task_id: string;
  config_id: string;
  /** lf.a2a.v1.TaskPushNotificationConfig. */
  body: Uint8Array;
  created_at: Date;
}
