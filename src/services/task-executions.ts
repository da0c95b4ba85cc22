/** What operators see of a task: where it stands in the engine, how it came there, and why. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type GetTaskExecutionRequest,
  type ListTaskTransitionsRequest,
  type ListTaskTransitionsResponse,
  ListTaskTransitionsResponseSchema,
  type TaskExecution,
  TaskExecutionSchema,
  type TaskTransition,
  TaskTransitionSchema,
  TaskUpdateKind,
} from "../../gen/signalbox/v1/task_pb.ts";
import { clip, invalidArgument, taskNotFound } from "../domain/errors.ts";
import { holds, type Principal } from "../domain/identity/principal.ts";
import { PRIORITY_NUMBER } from "../domain/plain-task.ts";
import type { UpdateKind } from "../domain/task-log.ts";
import type { Execution, Transition, TransitionReads } from "../store/transition-reads.ts";
import type { RequestContext } from "./request-context.ts";
import type { Tasks } from "./tasks.ts";

const MAX_PAGE = 1000;
const DEFAULT_PAGE = 100;
/** Longest cause that is shown, in characters: a page stays far below the largest message of any client. */
const MAX_CAUSE = 1024;
/** The same of one with the raw text, which is as long as the log keeps it. */
const MAX_RAW_CAUSE = 16_384;

/** Who may not see a task by GetTask does not see it here: both throw TaskNotFound. */
export interface TaskExecutions {
  get(context: RequestContext, request: GetTaskExecutionRequest): Promise<TaskExecution>;
  transitions(context: RequestContext, request: ListTaskTransitionsRequest): Promise<ListTaskTransitionsResponse>;
}

export function createTaskExecutions({ reads, tasks }: { reads: TransitionReads; tasks: Tasks }): TaskExecutions {
  async function requireVisible(context: RequestContext, taskId: string): Promise<void> {
    if (taskId === "") throw invalidArgument([{ field: "taskId", description: "is required: the id of a task" }]);
    await tasks.visible(context, "", taskId);
  }

  return {
    async get(context, { taskId }) {
      await requireVisible(context, taskId);
      const execution = await reads.execution(context.workspaceId, taskId);
      if (!execution) throw taskNotFound(taskId);
      return executionMessage(taskId, execution);
    },

    async transitions(context, { taskId, pageSize, pageToken }) {
      if (pageSize < 0) throw invalidArgument([{ field: "pageSize", description: "must not be negative" }]);
      const limit = Math.min(pageSize || DEFAULT_PAGE, MAX_PAGE);
      const after = pageToken === "" ? 0 : readToken(pageToken);
      await requireVisible(context, taskId);
      const found = await reads.list(context.workspaceId, taskId, { after, limit: limit + 1 });
      const page = found.slice(0, limit);
      const last = page.at(-1);
      return create(ListTaskTransitionsResponseSchema, {
        transitions: page.map((transition) => transitionMessage(transition, context.principal)),
        nextPageToken: found.length > limit && last ? writeToken(last.seq) : "",
      });
    },
  };
}

export const UPDATE_KIND: Record<UpdateKind, TaskUpdateKind> = {
  message: TaskUpdateKind.MESSAGE,
  status: TaskUpdateKind.STATUS,
  artifact: TaskUpdateKind.ARTIFACT,
  reply: TaskUpdateKind.REPLY,
  metadata: TaskUpdateKind.METADATA,
  transition: TaskUpdateKind.TRANSITION,
};

// The numbers of EngineState are the same in the domain and in the contract; a test says so.

function executionMessage(taskId: string, execution: Execution): TaskExecution {
  const { agentId, state, seq, attempt, priority, leaseOwner, leaseUntil, fence, wakeAt, deadlineAt } = execution;
  return create(TaskExecutionSchema, {
    taskId,
    agentId,
    state,
    lastSequence: BigInt(seq),
    attempt,
    priority: PRIORITY_NUMBER[priority],
    replicaId: leaseOwner ?? "",
    ...(leaseUntil && { leaseExpireTime: timestampFromDate(leaseUntil) }),
    fencingToken: BigInt(fence),
    ...(wakeAt && { wakeTime: timestampFromDate(wakeAt) }),
    ...(deadlineAt && { deadlineTime: timestampFromDate(deadlineAt) }),
    createTime: timestampFromDate(execution.createdAt),
  });
}

function transitionMessage(
  { seq, at, kind, state, cause, attempt, fence, replicaId }: Transition,
  reader: Principal,
): TaskTransition {
  return create(TaskTransitionSchema, {
    sequence: BigInt(seq),
    createTime: timestampFromDate(at),
    kind: UPDATE_KIND[kind],
    ...(state !== undefined && { state }),
    cause: shownCause(cause ?? "", reader),
    attempt,
    fencingToken: BigInt(fence),
    replicaId: replicaId ?? "",
  });
}

/**
 * A cause as a reader is shown it: its first line. What follows that is the raw text of an agent's answer that is no A2A, which is for
 * who administers tasks.
 */
export const shownCause = (cause: string, reader: Principal): string =>
  holds(reader, "tasks.admin") ? clip(cause, MAX_RAW_CAUSE) : clip(cause.split("\n", 1)[0]!, MAX_CAUSE);

// A page token is opaque to clients: the number of the row after which the page begins.

const writeToken = (seq: number): string => Buffer.from(String(seq)).toString("base64url");

function readToken(token: string): number {
  const text = Buffer.from(token.slice(0, 64), "base64url").toString();
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw invalidArgument([{ field: "pageToken", description: "is not a nextPageToken of ListTaskTransitions" }]);
}
