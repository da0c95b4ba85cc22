/** What the hot writes of the task tables store of approvals, where there are any: the same statement stores both, or neither. */
import type { ApprovalState } from "../../gen/signalbox/v1/approval_pb.ts";

/** What a task waits for from its first moment on. Its agent and its capability are the task's. */
export interface NewApproval {
  readonly approvalId: string;
  /** Who asks for the task. */
  readonly principalId: string;
  /** The path of the rule that requires it, what the rule says of itself, and the version of its policy. */
  readonly rule: string;
  readonly description: string;
  readonly policyVersion: number;
  /** Lists of principals and roles, none empty: who decides must be on each. None: all may that may decide at all. */
  readonly approvers: readonly (readonly string[])[];
  /** Whether who asked for the task may decide. */
  readonly self: boolean;
  /** As whoever stores it reckons, for the audit log. It counts until its task is due, by the clock of the database. */
  readonly expiresAt: Date;
}

/** How an approval is settled. */
export interface Settlement {
  readonly approvalId: string;
  readonly state: ApprovalState;
  /** Undefined: nobody decided. */
  readonly decidedBy: string | undefined;
  readonly comment: string;
}

/** Stores the approvals of tasks that are being stored, which expire when those are due; `given` is the parameter with `askedJson`. */
export const ASKED = (given: string): string => `, asked as (
      insert into approvals (workspace_id, approval_id, task_id, agent_id, capability_id, principal_id, rule, description,
                             policy_version, approvers, self, created_at, expires_at)
      select s.workspace_id, a.approval_id, s.task_id, a.agent_id, a.capability_id, a.principal_id, a.rule, a.description,
             a.policy_version, a.approvers, a.self, s.created_at, s.wake_at
      from jsonb_to_recordset(${given}::jsonb)
        as a(workspace_id text, task_id text, approval_id text, agent_id text, capability_id text, principal_id text, rule text,
             description text, policy_version integer, approvers jsonb, self boolean)
      join stored s on s.workspace_id = a.workspace_id and s.task_id = a.task_id
    )`;

interface Asking {
  readonly header: {
    readonly workspaceId: string;
    readonly taskId: string;
    readonly agentId: string;
    readonly capabilityId: string | undefined;
  };
  readonly approval?: NewApproval;
}

export function askedJson(tasks: readonly Asking[]): string {
  const asked = tasks.flatMap(({ header, approval }) => (approval ? [{ header, approval }] : []));
  return json(
    asked.map(({ header, approval }) => ({
      workspace_id: header.workspaceId,
      task_id: header.taskId,
      approval_id: approval.approvalId,
      agent_id: header.agentId,
      capability_id: header.capabilityId,
      principal_id: approval.principalId,
      rule: approval.rule,
      description: approval.description,
      policy_version: approval.policyVersion,
      approvers: approval.approvers,
      self: approval.self,
    })),
  );
}

/** Settles the approvals of tasks that are being changed; `given` is the parameter with `settledJson`. */
export const SETTLED = (given: string): string => `, answered as (
      update approvals a set state = d.state, decided_at = c.at, decided_by = d.decided_by, comment = d.comment
      from jsonb_to_recordset(${given}::jsonb)
        as d(ord bigint, approval_id text, state smallint, decided_by text, comment text)
      join changed c on c.ord = d.ord
      where a.workspace_id = c.workspace_id and a.approval_id = d.approval_id and a.task_id = c.task_id and a.state = 1
    )`;

/** In the order in which the appends are given to the statement. */
export function settledJson(appends: readonly { readonly settles?: Settlement }[]): string {
  return json(
    appends.flatMap(({ settles }, i) =>
      settles
        ? [
            {
              ord: i + 1,
              approval_id: settles.approvalId,
              state: settles.state,
              decided_by: settles.decidedBy,
              comment: settles.comment,
            },
          ]
        : [],
    ),
  );
}

/** PostgreSQL's text holds no NUL, and its jsonb no lone half of a surrogate pair. */
const json = (value: unknown): string =>
  JSON.stringify(value, (_, each: unknown) =>
    typeof each === "string" ? each.replaceAll("\0", "").toWellFormed() : each,
  );
