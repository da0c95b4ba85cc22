/** The tables as Kysely sees them. Every key leads with the workspace. Timestamps hold milliseconds. */
import type { ColumnType, Generated } from "kysely";

export interface Schema {
  workspaces: WorkspaceTable;
  agents: AgentTable;
  capabilities: CapabilityTable;
  tasks: TaskTable;
  task_updates: TaskUpdateTable;
  push_configs: PushConfigTable;
  replicas: ReplicaTable;
  allotments: AllotmentTable;
  outbox_cursors: OutboxCursorTable;
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
  /** Whether a task may be sent to it once more when nobody knows what became of the first time. */
  safe_to_repeat: Generated<boolean>;
  /** Tasks that it works on at once; null when there is no limit. */
  max_concurrency: number | null;
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
  /** The capability that it was given to; null when it was given to the agent itself. */
  capability_id: string | null;
  /** How its agent was chosen; null when nothing was written down. */
  route_decision: Uint8Array | null;
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
