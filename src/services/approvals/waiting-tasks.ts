/**
 * Tasks that wait until somebody has approved them. Each is born so in one write with its approval, and leaves in one write with
 * what was decided: there is no moment at which a crash could leave the one without the other. No replica has it meanwhile, and
 * it takes no place at its agent.
 */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { ApprovalState } from "../../../gen/signalbox/v1/approval_pb.ts";
import { messageUpdate } from "../../domain/agent-report.ts";
import { awaitedApproval, questionUpdate, refusedUpdate } from "../../domain/approval.ts";
import { SignalboxError } from "../../domain/errors.ts";
import { type ApprovalTerms, ruleName } from "../../domain/policy/verdict.ts";
import { foldTask, type NewUpdate, type TaskHeader, type TaskImage, type TaskUpdate } from "../../domain/task-log.ts";
import { EngineState } from "../../domain/task-state.ts";
import type { ApprovalRepository } from "../../store/approval-repository.ts";
import type { Settlement } from "../../store/approval-sql.ts";
import { isOutcomeUnknown } from "../../store/database-errors.ts";
import { draining } from "../dispatch-errors.ts";
import type { Work } from "../further-messages.ts";
import type { BeginOptions, TaskRequest } from "../new-tasks.ts";
import type { Runners } from "../runners.ts";
import type { AppendOptions } from "../task-append.ts";
import { createTaskWriter, type WriterDeps } from "../task-writer.ts";

/** What becomes of approvals here. */
export type ApprovalOutcome = "requested" | "approved" | "rejected" | "expired" | "withdrawn";

/** Why a task is to be approved, and who asks for it. */
export interface ApprovalRequest {
  readonly terms: ApprovalTerms;
  readonly principalId: string;
  readonly policyVersion: number;
}

export interface ApprovalPorts extends Pick<ApprovalRepository, "pending"> {
  /** Approvals that may wait in one workspace. */
  readonly maxPending: number;
  onOutcome(outcome: ApprovalOutcome): void;
}

export interface WaitingTasksDeps extends WriterDeps {
  approvals: ApprovalPorts;
}

export interface WaitingTasks {
  /** Stores a new task that waits for its approval. Resolves when it is durable. */
  begin(request: TaskRequest, work: Work, asked: ApprovalRequest, options: BeginOptions): Promise<TaskImage>;
  /**
   * Lets a task that waits for `settlement.approvalId` go on, or ends it, by what `make` makes of it, and settles the approval
   * with it. Undefined when it no longer waits for that: somebody else was faster.
   */
  settle(
    image: TaskImage,
    settlement: Settlement,
    make: (image: TaskImage) => readonly NewUpdate[],
    options: Pick<AppendOptions, "once" | "by">,
    signal: AbortSignal,
  ): Promise<TaskImage | undefined>;
  /** Ends a task of which nobody has decided in time. False when it no longer waits. */
  expire(image: TaskImage, approvalId: string, signal: AbortSignal): Promise<boolean>;
}

export function createWaitingTasks(
  deps: WaitingTasksDeps,
  runners: Pick<Runners, "stopping" | "inBackground" | "endUnacknowledged">,
): WaitingTasks {
  const { store, hub, runtime, approvals } = deps;
  const { maxPending } = approvals;

  async function begin(...[request, work, asked, options]: Parameters<WaitingTasks["begin"]>): Promise<TaskImage> {
    if (runners.stopping) throw draining();
    const { workspaceId, taskId, agentId, hasPush } = request;
    if ((await approvals.pending(workspaceId, maxPending)) >= maxPending) throw tooManyPending(maxPending);
    const header: TaskHeader = {
      ...request,
      // Approvers must see it.
      disclosed: true,
      delivery: work.delivery,
      fence: 1,
      leaseOwner: undefined,
      attempt: 0,
    };
    const { terms, principalId, policyVersion } = asked;
    const rule = ruleName(terms.rule);
    const { description } = terms.rule;
    const now = runtime.now();
    const mostMs = (header.deadlineAt?.getTime() ?? Number.POSITIVE_INFINITY) - now.getTime();
    const waitMs = Math.max(0, Math.min(terms.expiresMs, mostMs));
    // As this server reckons: it is the clock of the database that counts.
    const expiresAt = new Date(now.getTime() + waitMs);
    const approvalId = runtime.newId();
    const { self, also = [] } = terms;
    const approvers = [terms.approvers, ...also].filter((list) => list.length > 0);
    const question = { approvalId, rule: terms.rule, expiresAt };
    const updates: NewUpdate[] = [
      {
        ...messageUpdate(work.message),
        state: EngineState.QUEUED,
        cause: `accepted by replica ${deps.replicaId()}`,
      },
      questionUpdate(header, runtime.newId(), question, timestampFromDate(header.createdAt)),
    ];
    let stored = false;
    try {
      await store.submit({
        header,
        updates,
        accepted: { by: work.principal, actors: work.actors, ...(options.facts && { facts: options.facts }) },
        wakeInMs: waitMs,
        approval: { approvalId, principalId, rule, description, policyVersion, approvers, self, expiresAt },
        ...(options.decision && { decision: options.decision }),
        ...(options.reserved && { drawn: options.reserved.drawn }),
        ...(options.reservedBy !== undefined && { reservedBy: options.reservedBy }),
      });
      stored = true;
      options.reserved?.keep();
      await options.beforeStart?.(undefined);
    } catch (error) {
      if (stored || isOutcomeUnknown(error)) {
        options.reserved?.doubt();
        runners.inBackground("an unacknowledged task may be left", taskId, () => runners.endUnacknowledged(header));
      }
      throw error;
    }
    approvals.onOutcome("requested");
    work.log.info({ taskId, agentId, approvalId, rule }, "a task waits for its approval");
    const rows: TaskUpdate[] = updates.map((update, i) => ({ ...update, seq: i + 1 }));
    hub.publish({ workspaceId, taskId, agentId, updates: rows, hasPush });
    return foldTask(header, rows);
  }

  async function settle(...[image, settlement, make, options, signal]: Parameters<WaitingTasks["settle"]>) {
    const writer = createTaskWriter(deps, image);
    let waits = true;
    const whileItWaits = (now: TaskImage) => {
      waits = awaitedApproval(now) === settlement.approvalId;
      return waits ? make(now) : [];
    };
    // Whoever has claimed it, because it has waited too long, is as good as anybody: the first one decides.
    const settles = { ...options, take: true, wakeInMs: 0, settles: settlement };
    const outcome = await writer.append(whileItWaits, settles, signal);
    if (outcome === "ended" || !waits) return undefined;
    return writer.image;
  }

  return {
    begin,
    settle,
    async expire(image, approvalId, signal) {
      const expired = { approvalId, state: ApprovalState.EXPIRED, decidedBy: undefined, comment: "" };
      const end = ({ header }: TaskImage) => [
        refusedUpdate(header, runtime.newId(), NOBODY_DECIDED, "its approval expired", runtime.now()),
      ];
      const ended = await settle(image, expired, end, {}, signal);
      if (ended) approvals.onOutcome("expired");
      return ended !== undefined;
    },
  };
}

const NOBODY_DECIDED = "Nobody approved this task in time.";

const tooManyPending = (most: number): SignalboxError =>
  new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "QUEUE_FULL",
    message: `${most} tasks of this workspace wait for their approval, which is as many as may (limits.pending-approvals). Nothing was stored; decide some of them, or try again later.`,
    retryAfterMs: 60_000,
  });
