/** Policies, and what waits for somebody to agree. See schema.ts. */
import type { Generated } from "kysely";

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
