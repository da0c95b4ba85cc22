/** Tasks, their logs, what is kept beside them, and the replicas that work on them. See schema.ts. */
import type { ColumnType, Generated } from "kysely";

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
  /** Whether it has rows in held_updates. */
  has_held: Generated<boolean>;
  /** Whose it is; null for tasks of before there were principals. */
  principal_id: string | null;
  /** Whether the contents of its artifacts were removed, when they had been kept long enough. */
  is_emptied: Generated<boolean>;
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

/** What an agent said and the policy has yet to see: it becomes rows of the log then, or never. */
export interface HeldUpdateTable {
  workspace_id: string;
  task_id: string;
  /** From 1 on, without gaps. */
  n: number;
  kind: number;
  body: Uint8Array;
  cause: string | null;
  state: number | null;
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

/** Messages that belong together. */
export interface ExchangeTable {
  workspace_id: string;
  correlation_id: string;
  /** Who began it. */
  owner_id: string;
  /** Number of its last message. */
  last_seq: number;
  created_at: Date;
  /** When its last message came. */
  last_at: Date;
}

export interface ExchangeMessageTable {
  workspace_id: string;
  correlation_id: string;
  /** Who began it. */
  owner_id: string;
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
  /** Who began it. */
  owner_id: string;
  /** signalbox.v1.Quote. */
  body: Uint8Array;
}

/** What tells this database from others: one row. */
export interface InstallationTable {
  only_one: Generated<true>;
  installation_id: Generated<string>;
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

/** Which replica removes what was kept long enough, and until when no other does. One row. */
export interface RetentionTurnTable {
  is_one: Generated<boolean>;
  replica_id: string | null;
  ends_at: Generated<Date>;
}
