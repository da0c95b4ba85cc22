/** Approvals as people see and decide them, over every door: our own service, and messages of A2A. */
import type { Message } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  type Approval,
  ApprovalState,
  ApprovalVerdict,
  type DecideApprovalRequest,
  type ListApprovalsRequest,
  type ListApprovalsResponse,
} from "../../../gen/signalbox/v1/approval_pb.ts";
import {
  approvalRequired,
  approvalStateName,
  approvedUpdates,
  awaitedApproval,
  commentViolations,
  type Decision,
  decisionIn,
  refusedUpdate,
} from "../../domain/approval.ts";
import { clip, SignalboxError, scopeMissing } from "../../domain/errors.ts";
import { holds, type Principal } from "../../domain/identity/principal.ts";
import { ALL_TASKS } from "../../domain/identity/visibility.ts";
import { idViolations, MAX_ID_LENGTH } from "../../domain/message-rules.ts";
import { refuse } from "../../domain/refusal.ts";
import { foldTask, type NewUpdate, type TaskHeader, type TaskImage } from "../../domain/task-log.ts";
import type { ApprovalRecord, ApprovalRepository } from "../../store/approval-repository.ts";
import type { Settlement } from "../../store/approval-sql.ts";
import type { TaskStore } from "../../store/task-store.ts";
import { pageLimit, pageToken, readPageToken } from "../paging.ts";
import type { RequestContext } from "../request-context.ts";
import type { Runtime } from "../runtime.ts";
import type { UpdateHub } from "../update-hub.ts";
import type { FindObstacle } from "./obstacle.ts";
import type { ApprovalOutcome, WaitingTasks } from "./waiting-tasks.ts";

export interface ApprovalsDeps {
  repository: ApprovalRepository;
  store: TaskStore;
  waiting: Pick<WaitingTasks, "settle" | "expire">;
  hub: Pick<UpdateHub, "announceWork">;
  runtime: Runtime;
  obstacle: FindObstacle;
  onOutcome(outcome: ApprovalOutcome): void;
}

export interface Approvals {
  list(context: RequestContext, request: ListApprovalsRequest): Promise<ListApprovalsResponse>;
  /** Throws APPROVAL_NOT_FOUND. */
  get(context: RequestContext, approvalId: string): Promise<Approval>;
  /**
   * Decides. Saying again what was decided changes nothing.
   *
   * @throws SignalboxError APPROVAL_NOT_FOUND; APPROVAL_DECIDED where it was decided otherwise, or is over; NOT_AN_APPROVER.
   */
  decide(context: RequestContext, request: DecideApprovalRequest): Promise<Approval>;
  /**
   * What a client's message does to its task's approval. Undefined: the message is no matter of approvals, and goes to the agent.
   *
   * @throws SignalboxError APPROVAL_REQUIRED where the task waits for its approval and the message does not decide it; else as `decide`.
   */
  answer(context: RequestContext, image: TaskImage, message: Message): Promise<TaskImage | undefined>;
}

export function createApprovals(deps: ApprovalsDeps): Approvals {
  const { repository, store, waiting, hub, runtime } = deps;

  async function look(workspaceId: string, approvalId: string): Promise<ApprovalRecord | undefined> {
    const isId = approvalId !== "" && approvalId.length <= MAX_ID_LENGTH && !approvalId.includes("\0");
    return isId ? repository.find(workspaceId, approvalId) : undefined;
  }

  async function find({ workspaceId, principal }: RequestContext, approvalId: string): Promise<ApprovalRecord> {
    const found = await look(workspaceId, approvalId);
    if (!found || !seesApproval(principal, found.approval)) throw approvalNotFound(approvalId);
    return found;
  }

  async function load(workspaceId: string, approval: Approval): Promise<TaskImage> {
    const stored = await store.load(workspaceId, approval.taskId);
    // It ended, and was removed, and its approval with it.
    if (!stored) throw approvalNotFound(approval.approvalId);
    return foldTask(stored.header, stored.updates);
  }

  /** Carries out a decision, if nobody was faster. Returns the task as it stands then. */
  async function carryOut(context: RequestContext, record: ApprovalRecord, decision: Decision): Promise<TaskImage> {
    const { workspaceId, principal, signal } = context;
    const { approval, isOver } = record;
    const { approvalId } = decision;
    if (approval.state !== ApprovalState.PENDING) {
      requireSame(approval, decision);
      return load(workspaceId, approval);
    }
    checkApprover(principal, record);
    const image = await load(workspaceId, approval);
    if (isOver) {
      // No replica had room to note it.
      await waiting.expire(image, approvalId, signal);
    } else {
      const approves = decision.decision === "APPROVE";
      const obstacle = approves ? await deps.obstacle(image.header) : undefined;
      const state = approves ? ApprovalState.APPROVED : ApprovalState.REJECTED;
      const settlement: Settlement = { approvalId, state, decidedBy: principal.id, comment: decision.comment };
      const make = ({ header }: TaskImage) => consequence(header, principal.id, decision, obstacle);
      const settled = await waiting.settle(
        image,
        settlement,
        make,
        { once: true, by: { principal: principal.id, actors: principal.actors } },
        signal,
      );
      if (settled) {
        deps.onOutcome(approves ? "approved" : "rejected");
        context.log.info({ approvalId, taskId: approval.taskId, decision: decision.decision }, "a task was decided on");
        if (approves) hub.announceWork();
        return settled;
      }
    }
    const now = await find(context, approvalId);
    requireSame(now.approval, decision);
    return load(workspaceId, now.approval);
  }

  function consequence(
    header: TaskHeader,
    by: string,
    { decision, comment }: Decision,
    obstacle: string | undefined,
  ): readonly NewUpdate[] {
    const [id, now] = [runtime.newId(), runtime.now()];
    if (decision === "REJECT") {
      const text = comment === "" ? "This task was not approved." : `This task was not approved: ${comment}`;
      return [refusedUpdate(header, id, text, `not approved by ${by}`, now)];
    }
    if (obstacle === undefined) return approvedUpdates(header, id, by, comment, now);
    return [refusedUpdate(header, id, `Approved, but it cannot begin: ${obstacle}`, `approved by ${by}, in vain`, now)];
  }

  return {
    async list({ workspaceId, principal }, { state, taskId, pageSize, pageToken: token }) {
      const limit = pageLimit(pageSize, 50);
      refuse([
        ...(approvalStateName(state).startsWith("STATE_")
          ? [{ field: "state", description: "is no state of an approval" }]
          : []),
        ...idViolations("taskId", taskId),
      ]);
      const [before] = readPageToken(token, 1, "ListApprovals") ?? [];
      const filter = {
        ...(state !== ApprovalState.UNSPECIFIED && { state }),
        ...(taskId !== "" && { taskId }),
        ...(!seesApproval(principal) && { principalId: principal.id }),
      };
      const found = await repository.list(workspaceId, filter, { before, limit: limit + 1 });
      const approvals = found.slice(0, limit);
      const last = found.length > limit ? approvals.at(-1) : undefined;
      const nextPageToken = last ? pageToken(last.approvalId) : "";
      return { $typeName: "signalbox.v1.ListApprovalsResponse", approvals, nextPageToken };
    },

    get: async (context, approvalId) => (await find(context, approvalId)).approval,

    async decide(context, { approvalId, verdict, comment }) {
      const decision = VERDICTS.get(verdict);
      refuse([
        ...(decision ? [] : [{ field: "verdict", description: "must be APPROVE or REJECT" }]),
        ...commentViolations("comment", comment),
      ]);
      // Before anything is looked for: whoever may not decide learns nothing of what there is.
      if (!holds(context.principal, WRITE)) throw scopeMissing(WRITE);
      const record = await find(context, approvalId);
      await carryOut(context, record, { approvalId, decision: decision!, comment });
      return (await find(context, approvalId)).approval;
    },

    async answer(context, image, message) {
      const { workspaceId, taskId } = image.header;
      const awaited = awaitedApproval(image);
      const decision = decisionIn(message);
      if (awaited === undefined) {
        if (!decision || "violations" in decision) return undefined;
        // Said once more, after it was decided. What is not about this task is for the agent.
        const known = await look(workspaceId, decision.approvalId);
        return known?.approval.taskId === taskId ? carryOut(context, known, decision) : undefined;
      }
      if (!decision) throw approvalRequired(taskId, awaited);
      if ("violations" in decision) refuse(decision.violations);
      else if (decision.approvalId !== awaited) throw approvalRequired(taskId, awaited);
      // Whose task it is, the caller sees: it is not asked again.
      const known = await look(workspaceId, awaited);
      if (!known) throw approvalNotFound(awaited);
      return carryOut(context, known, decision as Decision);
    },
  };
}

/** Who decides, or sees all tasks, sees all approvals; others those of their own tasks. */
const seesApproval = (principal: Principal, approval?: Approval): boolean =>
  holds(principal, WRITE) || holds(principal, ALL_TASKS) || approval?.principalId === principal.id;

const VERDICTS: ReadonlyMap<ApprovalVerdict, Decision["decision"]> = new Map([
  [ApprovalVerdict.APPROVE, "APPROVE"],
  [ApprovalVerdict.REJECT, "REJECT"],
]);

/** Throws unless it was decided so. */
function requireSame({ approvalId, taskId, state, decidedBy }: Approval, { decision }: Decision): void {
  const same = decision === "APPROVE" ? ApprovalState.APPROVED : ApprovalState.REJECTED;
  if (state === same) return;
  const by = decidedBy === "" ? "" : ` by ${decidedBy}`;
  throw new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "APPROVAL_DECIDED",
    message: `Approval "${approvalId}" is ${approvalStateName(state)}${by}: its task "${taskId}" no longer waits for it.`,
    metadata: { approvalId, taskId, state: approvalStateName(state) },
  });
}

/** Throws unless a principal may decide. */
function checkApprover(principal: Principal, record: ApprovalRecord): void {
  if (!holds(principal, WRITE)) throw scopeMissing(WRITE);
  const { id, roles, authentication } = principal;
  const { approval, approvers, self } = record;
  const isMe = (name: string) => name === id || roles.has(name) || roles.has(name.replace(/^role:/, ""));
  const isNamed = approvers.every((list) => list.some(isMe));
  if (!isNamed) throw notAnApprover(approval.approvalId, "it names who may decide it, and you are not among them");
  // Who has not said who it is cannot be told from whoever asked.
  const isKnown = authentication !== "anonymous";
  if (isKnown && !self && id === approval.principalId) {
    throw notAnApprover(approval.approvalId, "you asked for its task, and somebody else must decide");
  }
}

const WRITE = "approvals.write";

const notAnApprover = (approvalId: string, why: string): SignalboxError =>
  new SignalboxError({
    code: "PERMISSION_DENIED",
    reason: "NOT_AN_APPROVER",
    message: `You may not decide approval "${approvalId}": ${why}.`,
    metadata: { approvalId },
  });

const approvalNotFound = (approvalId: string): SignalboxError =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "APPROVAL_NOT_FOUND",
    message: `There is no approval "${clip(approvalId.replaceAll("\0", ""))}". ListApprovals names those that there are.`,
    metadata: { approvalId: clip(approvalId.replaceAll("\0", "")) },
  });
