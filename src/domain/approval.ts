/**
 * Tasks that wait until somebody has approved them: how one is known by its log, what its client is told, and how a message
 * decides. Pure.
 */
import { create, fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate, ValueSchema } from "@bufbuild/protobuf/wkt";
import { type Message, PartSchema, StreamResponseSchema, type Task, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ApprovalState } from "../../gen/signalbox/v1/approval_pb.ts";
import { agentText, statusUpdate } from "./agent-report.ts";
import { dataParts } from "./data-parts.ts";
import { type FieldViolation, SignalboxError } from "./errors.ts";
import { type RuleRef, ruleName, ruleText } from "./policy/verdict.ts";
import type { NewUpdate, TaskHeader, TaskImage } from "./task-log.ts";
import { EngineState } from "./task-state.ts";

/** The state of an approval as people write it: `PENDING`. */
export const approvalStateName = (state: ApprovalState): string => StateNames.get(state) ?? `STATE_${state}`;

const StateNames: ReadonlyMap<ApprovalState, string> = new Map(
  Object.entries(ApprovalState).map(([name, state]) => [state, name]),
);

/** Longest comment on a decision, in characters. */
const MAX_COMMENT = 1_024;

export const DECISIONS = ["APPROVE", "REJECT"] as const;

/** Somebody's word on an approval. */
export interface Decision {
  readonly approvalId: string;
  readonly decision: (typeof DECISIONS)[number];
  /** Empty where there is none. */
  readonly comment: string;
}

/** What a task's client is told of the approval that it waits for. */
export interface Question {
  readonly approvalId: string;
  /** The rule that wants it. */
  readonly rule: RuleRef;
  readonly expiresAt: Date;
}

/** What of a task tells whether it waits for its approval; lists have no more. */
type WaitingTask = Pick<TaskImage, "state" | "header"> & { readonly task: Pick<Task, "status"> };

/**
 * The approval that a task waits for; undefined where it waits for none. A task that waits for its client has been with its
 * agent: only one that waits for its approval has had no attempt.
 */
export function awaitedApproval({ state, header, task }: WaitingTask): string | undefined {
  if (state !== EngineState.INPUT_REQUIRED || header.attempt > 0) return undefined;
  for (const { data } of dataParts(task.status?.message?.parts ?? [])) {
    if (isObject(data) && typeof data.approvalId === "string") return data.approvalId;
  }
  return undefined;
}

/** The status of a task that begins to wait for its approval. */
export function questionUpdate(ids: TaskHeader, messageId: string, question: Question, now: Timestamp): NewUpdate {
  const { approvalId, rule, expiresAt } = question;
  const expireTime = expiresAt.toISOString();
  const text = `This task waits to be approved: ${ruleText(rule)}. Nobody works on it until then; without a decision it is rejected at ${expireTime}.`;
  const message = agentText(ids, messageId, text);
  const { description } = rule;
  const asked = { approvalId, decisions: [...DECISIONS], rule: ruleName(rule), description, expireTime };
  const data = fromJson(ValueSchema, asked);
  message.parts.push(create(PartSchema, { content: { case: "data", value: data }, mediaType: "application/json" }));
  return statusUpdate(ids, { state: TaskState.INPUT_REQUIRED, timestamp: now, message }, "waits for its approval");
}

/** What makes a task go on that waited for its approval. To its client it is WORKING; in the engine it waits for a replica. */
export function approvedUpdates(ids: TaskHeader, messageId: string, by: string, comment: string, now: Date) {
  const message = agentText(ids, messageId, comment === "" ? "Approved." : `Approved: ${comment}`);
  const status = { state: TaskState.WORKING, timestamp: timestampFromDate(now), message };
  const waits: NewUpdate = {
    kind: "transition",
    body: create(StreamResponseSchema),
    state: EngineState.QUEUED,
    cause: "approved, and waits for a replica",
  };
  return [statusUpdate(ids, status, `approved by ${by}`), waits];
}

/** What ends a task that waited for its approval. */
export function refusedUpdate(ids: TaskHeader, messageId: string, text: string, cause: string, now: Date): NewUpdate {
  const message = agentText(ids, messageId, text);
  return statusUpdate(ids, { state: TaskState.REJECTED, timestamp: timestampFromDate(now), message }, cause);
}

/** The decision that a message brings, in its first data part with an `approvalId`; undefined where it brings none. */
export function decisionIn({ parts }: Message): Decision | { violations: FieldViolation[] } | undefined {
  for (const { data, index } of dataParts(parts)) {
    if (!isObject(data) || !Object.hasOwn(data, "approvalId")) continue;
    const { approvalId, decision, comment = "" } = data;
    const at = `message.parts[${index}].data`;
    const violations: FieldViolation[] = [];
    if (typeof approvalId !== "string" || approvalId === "")
      violations.push({ field: `${at}.approvalId`, description: "must be the id of the approval, a string" });
    if (!isDecision(decision))
      violations.push({ field: `${at}.decision`, description: `must be one of ${DECISIONS.join(", ")}` });
    if (typeof comment !== "string") violations.push({ field: `${at}.comment`, description: "must be a string" });
    else violations.push(...commentViolations(`${at}.comment`, comment));
    if (violations.length > 0) return { violations };
    return { approvalId: approvalId as string, decision: decision as Decision["decision"], comment: comment as string };
  }
  return undefined;
}

export const commentViolations = (field: string, comment: string): FieldViolation[] =>
  comment.length <= MAX_COMMENT ? [] : [{ field, description: `must have ${MAX_COMMENT} characters at most` }];

/** A message to a task that waits for its approval, and does not decide it. */
export function approvalRequired(taskId: string, approvalId: string): SignalboxError {
  const part = JSON.stringify({ approvalId, decision: "APPROVE" });
  return new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "APPROVAL_REQUIRED",
    message: `Task "${taskId}" waits for approval "${approvalId}" and takes no message before. Decide it with ApprovalService.DecideApproval, "signalbox approvals approve ${approvalId}", or a message to this task with the data part ${part}; "REJECT" ends the task.`,
    metadata: { taskId, approvalId, decisions: DECISIONS.join(",") },
  });
}

const isObject = (data: JsonValue): data is JsonObject =>
  typeof data === "object" && data !== null && !Array.isArray(data);

const isDecision = (value: JsonValue | undefined): boolean =>
  typeof value === "string" && (DECISIONS as readonly string[]).includes(value);
