/** Approvals, as they are read. They are stored and settled with the rows of their tasks. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Selectable, sql } from "kysely";
import type { Approval, ApprovalState } from "../../gen/signalbox/v1/approval_pb.ts";
import type { Database } from "./database.ts";
import type { ApprovalTable } from "./schema/governance.ts";

/** An approval, and on what terms it is given. */
export interface ApprovalRecord {
  readonly approval: Approval;
  /** Lists of principals and roles, none empty: who decides must be on each. None: all may that may decide at all. */
  readonly approvers: readonly (readonly string[])[];
  /** Whether who asked for the task may decide. */
  readonly self: boolean;
  /** Whether its time is up, by the clock of the database. */
  readonly isOver: boolean;
}

export interface ApprovalFilter {
  readonly state?: ApprovalState;
  readonly taskId?: string;
  /** Those of the tasks of one principal. */
  readonly principalId?: string;
}

export interface ApprovalRepository {
  find(workspaceId: string, approvalId: string): Promise<ApprovalRecord | undefined>;
  /** The latest first; those before the one with the id `before`. */
  list(
    workspaceId: string,
    filter: ApprovalFilter,
    page: { before?: string | undefined; limit: number },
  ): Promise<Approval[]>;
  /** How many wait for a decision, counted to `most`. */
  pending(workspaceId: string, most: number): Promise<number>;
}

const PENDING = {
  name: "approvals-pending-v1",
  text: "select count(*) as count from (select from approvals where workspace_id = $1 and state = 1 limit $2) pending",
};

export function createApprovalRepository(db: Database): ApprovalRepository {
  return {
    async find(workspaceId, approvalId) {
      const row = await db.reading(workspaceId, ({ kysely }) =>
        kysely
          .selectFrom("approvals")
          .selectAll()
          .select(sql<boolean>`expires_at <= clock_timestamp()`.as("is_over"))
          .where("workspace_id", "=", workspaceId)
          .where("approval_id", "=", approvalId)
          .executeTakeFirst(),
      );
      return row && { approval: approvalOf(row), approvers: row.approvers, self: row.self, isOver: row.is_over };
    },

    async list(workspaceId, { state, taskId, principalId }, { before, limit }) {
      // Ids begin with the time at which they were made.
      const rows = await db.reading(workspaceId, ({ kysely }) =>
        kysely
          .selectFrom("approvals")
          .selectAll()
          .where("workspace_id", "=", workspaceId)
          .$if(state !== undefined, (q) => q.where("state", "=", state!))
          .$if(taskId !== undefined, (q) => q.where("task_id", "=", taskId!))
          .$if(principalId !== undefined, (q) => q.where("principal_id", "=", principalId!))
          .$if(before !== undefined, (q) => q.where("approval_id", "<", before!))
          .orderBy("approval_id", "desc")
          .limit(limit)
          .execute(),
      );
      return rows.map(approvalOf);
    },

    async pending(workspaceId, most) {
      const [row] = await db.query(PENDING, [workspaceId, most]);
      return row!.count as number;
    },
  };
}

function approvalOf(row: Selectable<ApprovalTable>): Approval {
  const { decided_at: decidedAt } = row;
  return {
    $typeName: "signalbox.v1.Approval",
    approvalId: row.approval_id,
    taskId: row.task_id,
    state: row.state as ApprovalState,
    agentId: row.agent_id,
    capabilityId: row.capability_id ?? "",
    principalId: row.principal_id,
    rule: row.rule,
    description: row.description,
    policyVersion: row.policy_version,
    createTime: timestampFromDate(row.created_at),
    expireTime: timestampFromDate(row.expires_at),
    ...(decidedAt && { decideTime: timestampFromDate(decidedAt) }),
    decidedBy: row.decided_by ?? "",
    comment: row.comment ?? "",
  };
}
