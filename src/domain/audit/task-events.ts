/**
 * What the audit log says of a task: that it was accepted, what states it came to, what was said to it and who has it. What was
 * said stands there as a SHA-256 only, so that a task can be erased and its entries stay. Pure.
 */
import { hash } from "node:crypto";
import type { JsonObject } from "@bufbuild/protobuf";
import type { ApprovalState } from "../../../gen/signalbox/v1/approval_pb.ts";
import { approvalStateName } from "../approval.ts";
import { type NewUpdate, stateBrought, type TaskHeader } from "../task-log.ts";
import { type EngineState, engineStateName } from "../task-state.ts";
import { actingDetail } from "./actor.ts";
import type { AuditEvent } from "./entry.ts";

/** Who has a task accepted, and what was decided about it. */
export interface Acceptance {
  /** A principal. */
  readonly by: string;
  /** Who acts for it, as `Principal.actors`. */
  readonly actors?: readonly string[] | undefined;
  /** Joins the entry's detail, as the policy's verdict. 2 KiB at most. */
  readonly facts?: JsonObject;
}

/** A row of a task's log, and its body as it is stored. */
export interface LoggedRow {
  readonly update: NewUpdate;
  readonly seq: number;
  readonly body: Uint8Array;
}

/** What the writer of rows knows of their task. */
export interface Authorship {
  /** The actor. */
  readonly by: string;
  /** Who acts for it, where it is a principal. */
  readonly actors?: readonly string[] | undefined;
  /** The state before the rows. Undefined: not known. */
  readonly from: EngineState | undefined;
  readonly attempt: number | undefined;
}

/** What of an entry is the same for all that is said of one task at one time. */
type Place = Pick<AuditEvent, "workspaceId" | "at"> & { readonly taskId: string };

/** Reservations that an entry names; of others it says how many there are. */
const MOST_HOLDS = 16;
const MOST_CAUSE = 200;

const digestOf = (bytes: Uint8Array): string => hash("sha256", bytes, "hex");

const eventOf = (
  { workspaceId, at, taskId }: Place,
  actor: string,
  action: string,
  detail: JsonObject,
): AuditEvent => ({
  workspaceId,
  at,
  actor,
  action,
  targetType: "task",
  targetId: taskId,
  taskId,
  result: "OK",
  detail,
});

/** A task that begins with these rows. The first is the message; `router` is the actor of what comes after it. */
export function eventsOfNewTask(
  header: TaskHeader,
  rows: readonly LoggedRow[],
  { by, actors, facts }: Acceptance,
  decision: Uint8Array | undefined,
  router: string,
): AuditEvent[] {
  const { workspaceId, taskId, createdAt: at, attempt, parent } = header;
  // Of budgets. What it holds of a quota is nobody's decision.
  const holds = header.holds?.filter(({ unit }) => unit !== "IN_FLIGHT");
  const place = { workspaceId, taskId, at };
  const [first] = rows;
  const state = first && stateBrought(first.update);
  const accepted = eventOf(place, by, "task.accept", {
    agent: header.agentId,
    ...(header.capabilityId !== undefined && { capability: header.capabilityId }),
    ...(state !== undefined && { state: engineStateName(state) }),
    ...(first && { digest: digestOf(first.body) }),
    ...(decision && { decision: digestOf(decision) }),
    ...(holds &&
      holds.length > 0 && { holds: holds.slice(0, MOST_HOLDS).map(({ key, unit, units }) => ({ key, unit, units })) }),
    ...(holds && holds.length > MOST_HOLDS && { holdCount: holds.length }),
    ...(parent && { parent: { task: parent.taskId, agent: parent.agentId, depth: parent.depth } }),
    ...facts,
    ...actingDetail(actors),
  });
  return rows.length === 1
    ? [accepted]
    : [accepted, ...eventsOfRows(place, rows.slice(1), { by: router, from: state, attempt })];
}

/**
 * Rows that are added to a task's log. A row makes an entry where it brings another state, is a message, or is a note of the
 * engine's; what an agent says while it works makes none.
 */
export function eventsOfRows(
  place: Place,
  rows: readonly LoggedRow[],
  { by, actors, from, attempt }: Authorship,
): AuditEvent[] {
  const events: AuditEvent[] = [];
  let known = from;
  for (const { update, seq, body } of rows) {
    const state = stateBrought(update);
    const isMessage = update.kind === "message";
    if (state !== undefined && (state !== known || update.kind === "transition")) {
      const detail: JsonObject = { to: engineStateName(state), seq };
      if (known !== undefined) detail.from = engineStateName(known);
      if (attempt !== undefined) detail.attempt = attempt;
      if (body.length > 0) detail.digest = digestOf(body);
      if (update.cause !== undefined) detail.cause = causeInShort(update.cause);
      events.push(eventOf(place, by, "task.transition", { ...detail, ...actingDetail(actors) }));
    }
    if (isMessage) {
      events.push(eventOf(place, by, "task.message", { seq, digest: digestOf(body), ...actingDetail(actors) }));
    }
    known = state ?? known;
  }
  return events;
}

/** A task that goes from one agent to another. `from`: undefined where it is not known. */
export const rerouted = (
  place: Place,
  by: string,
  { from, to, decision }: { from: string | undefined; to: string; decision: Uint8Array },
): AuditEvent =>
  eventOf(place, by, "task.reroute", { ...(from !== undefined && { from }), to, decision: digestOf(decision) });

/** What a task waits for, and what requires it. */
interface AskedApproval {
  readonly approvalId: string;
  /** The path of the rule, and the version of its policy. */
  readonly rule: string;
  readonly policyVersion: number;
  readonly expiresAt: Date;
}

/** A task that waits for somebody's approval. */
export const approvalAsked = (place: Place, by: string, asked: AskedApproval): AuditEvent => ({
  ...eventOf(place, by, "approval.request", {
    expires: asked.expiresAt.toISOString(),
    policyVersion: asked.policyVersion,
    rule: asked.rule.slice(0, MOST_CAUSE),
  }),
  targetType: "approval",
  targetId: asked.approvalId,
});

/** An approval that somebody has decided on, or that nobody will. */
export const approvalSettled = (
  place: Place,
  { by, actors }: Pick<Authorship, "by" | "actors">,
  { approvalId, state, comment }: { approvalId: string; state: ApprovalState; comment: string },
): AuditEvent => ({
  ...eventOf(place, by, "approval.settle", {
    state: approvalStateName(state),
    ...(comment !== "" && { comment: digestOf(Buffer.from(comment)) }),
    ...actingDetail(actors),
  }),
  targetType: "approval",
  targetId: approvalId,
});

/** Why, in the router's own words: what follows a colon may be the agent's, and stays in the task's log. */
export function causeInShort(cause: string): string {
  const [short = ""] = cause.split(/:\s|\n/, 1);
  return short.slice(0, MOST_CAUSE).toWellFormed();
}
