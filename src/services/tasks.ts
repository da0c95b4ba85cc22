/** Reading, listing and canceling tasks (A2A specification, sections 3.1.3 to 3.1.5). */

import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import {
  type CancelTaskRequest,
  type GetTaskRequest,
  type ListTasksRequest,
  type ListTasksResponse,
  ListTasksResponseSchema,
  type Task,
  TaskSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  type FieldViolation,
  invalidArgument,
  SignalboxError,
  taskNotCancelable,
  taskNotFound,
} from "../domain/errors.ts";
import { viewerOf } from "../domain/identity/visibility.ts";
import { historyViolations, idViolations, MAX_ID_LENGTH } from "../domain/message-rules.ts";
import { refuse } from "../domain/refusal.ts";
import { foldTask, givenCapabilityId, stateOf, type TaskHeader, type TaskImage, viewTask } from "../domain/task-log.ts";
import { isTerminal, stateName } from "../domain/task-state.ts";
import { isTimestampDate, timestampViolations } from "../domain/timestamps.ts";
import type { ListedTask, TaskCursor, TaskFilter } from "../store/task-list-reads.ts";
import type { StoredTask } from "../store/task-reads.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { RequestContext, StreamCursor } from "./request-context.ts";
import type { Router } from "./router.ts";
import type { ResolvedTarget } from "./routing/searches.ts";
import { AGENT_LEFT, CANCELED_BY_CLIENT } from "./task-cancel.ts";

const MAX_PAGE = 100;
const DEFAULT_PAGE = 50;

export interface Tasks {
  /** A task that the caller may see, through the target it names. Throws TaskNotFound. */
  visible(context: RequestContext, tenant: string, taskId: string): Promise<TaskImage>;
  /** The same for a caller that is to change it. Throws SHARED_TO_READ for who may only see it. */
  changeable(context: RequestContext, tenant: string, taskId: string): Promise<TaskImage>;
  /** The same task as it stood at a number of its log. Throws INVALID_ARGUMENT where the log ends before. */
  visibleAt(context: RequestContext, tenant: string, taskId: string, cursor: StreamCursor): Promise<TaskImage>;
  get(context: RequestContext, request: GetTaskRequest): Promise<Task>;
  list(context: RequestContext, request: ListTasksRequest): Promise<ListTasksResponse>;
  /** A page of the tasks that the caller may see, the latest status first. Throws INVALID_ARGUMENT for a token of another list. */
  page(context: RequestContext, filter: TaskFilter, limit: number, pageToken: string): Promise<TaskPage>;
  cancel(context: RequestContext, request: CancelTaskRequest): Promise<Task>;
}

/** Tasks without their logs. */
export interface TaskPage {
  tasks: readonly ListedTask[];
  /** Empty on the last page. */
  nextPageToken: string;
  /** How many there are on all pages: exactly up to 10,000, beyond that an estimate of 10,001 or more. */
  total: number;
}

export function createTasks(deps: { store: TaskStore; router: Router; dispatcher: Dispatcher }): Tasks {
  const { store, router, dispatcher } = deps;

  async function load(workspaceId: string, taskId: string): Promise<TaskImage | undefined> {
    const stored = await store.load(workspaceId, taskId);
    return stored && foldTask(stored.header, stored.updates);
  }

  async function find(context: RequestContext, tenant: string, taskId: string): Promise<StoredTask> {
    if (taskId === "") throw invalidArgument([{ field: "id", description: "is required: the id of a task" }]);
    const target = await router.target(context, tenant);
    // Nothing that is stored looks like these.
    if (taskId.length > MAX_ID_LENGTH || taskId.includes("\0")) throw taskNotFound(taskId.replaceAll("\0", ""));
    const stored = await store.load(context.workspaceId, taskId, viewerOf(context.principal));
    if (!stored?.header.disclosed || !isOf(target, stored.header)) throw taskNotFound(taskId);
    return stored;
  }

  async function visible(context: RequestContext, tenant: string, taskId: string): Promise<TaskImage> {
    const { header, updates } = await find(context, tenant, taskId);
    return foldTask(header, updates);
  }

  async function changeable(context: RequestContext, tenant: string, taskId: string): Promise<TaskImage> {
    const { header, updates, access } = await find(context, tenant, taskId);
    if (access !== "write") throw sharedToRead(taskId);
    return foldTask(header, updates);
  }

  async function pageOf(
    context: RequestContext,
    filter: TaskFilter,
    limit: number,
    pageToken: string,
  ): Promise<TaskPage> {
    const viewer = viewerOf(context.principal);
    const listed = JSON.stringify([filter, viewer?.id]);
    const fingerprint = createHash("sha256").update(listed).digest("base64url").slice(0, 8);
    const after = pageToken === "" ? undefined : readToken(pageToken, fingerprint);
    const { tasks, total } = await store.list(context.workspaceId, filter, {
      limit: limit + 1,
      viewer,
      ...(after && { after }),
    });
    const page = tasks.slice(0, limit);
    const last = page.at(-1);
    const nextPageToken =
      tasks.length > limit && last ? writeToken(last.statusAt, last.header.taskId, fingerprint) : "";
    return { tasks: page, nextPageToken, total };
  }

  return {
    visible,
    changeable,
    page: pageOf,

    async visibleAt(context, tenant, taskId, { sequence, header: name }) {
      const { header, updates } = await find(context, tenant, taskId);
      if (sequence <= updates.length) return foldTask(header, updates.slice(0, sequence));
      const description = `says ${sequence}, but the log of this task ends at ${updates.length}; send the last number that you have of it, or leave it out to begin with the task as it stands`;
      throw invalidArgument([{ field: name, description }]);
    },

    async get(context, request) {
      refuse(historyViolations("historyLength", request.historyLength));
      const image = await visible(context, request.tenant, request.id);
      return viewTask(image, { historyLength: request.historyLength });
    },

    async list(context, request) {
      const target = await router.target(context, request.tenant);
      const statusFrom = request.statusTimestampAfter && timestampDate(request.statusTimestampAfter);
      const filter = {
        ...(request.contextId !== "" && { contextId: request.contextId }),
        ...(target && filterOf(target)),
        ...(request.status !== TaskState.UNSPECIFIED && { state: request.status }),
        ...(statusFrom && { statusFrom }),
      };
      refuse([
        ...idViolations("contextId", request.contextId),
        ...historyViolations("historyLength", request.historyLength),
        ...pageSizeViolations(request.pageSize),
        ...(stateName(request.status).startsWith("STATE_")
          ? [{ field: "status", description: "is no task state" }]
          : []),
        ...timestampViolations("statusTimestampAfter", request.statusTimestampAfter),
      ]);
      const limit = request.pageSize ?? DEFAULT_PAGE;
      const page = await pageOf(context, filter, limit, request.pageToken);
      const wantsLog = request.includeArtifacts === true || request.historyLength !== 0;
      return create(ListTasksResponseSchema, {
        tasks: await Promise.all(
          page.tasks.map(async ({ header, status, metadata }) => {
            // It stood in the list: whoever takes back a share meanwhile is a moment too late.
            const image = wantsLog ? await load(context.workspaceId, header.taskId) : undefined;
            const { historyLength, includeArtifacts = false } = request;
            if (image) return viewTask(image, { historyLength, includeArtifacts });
            return create(TaskSchema, {
              id: header.taskId,
              contextId: header.contextId,
              status,
              ...(metadata && { metadata }),
            });
          }),
        ),
        nextPageToken: page.nextPageToken,
        pageSize: limit,
        totalSize: page.total,
      });
    },

    async cancel(context, request) {
      const image = await changeable(context, request.tenant, request.id);
      const { taskId } = image.header;
      if (isTerminal(stateOf(image))) throw taskNotCancelable(taskId, `it is ${stateName(stateOf(image))} already.`);
      const agent = await router.endpoint(image.header);
      const by = { principal: context.principal.id, actors: context.principal.actors };
      if (agent) await dispatcher.cancel(image, agent, context.signal, by);
      else await dispatcher.end(image, TaskState.CANCELED, AGENT_LEFT, CANCELED_BY_CLIENT, by);
      return viewTask((await load(context.workspaceId, taskId)) ?? image);
    },
  };
}

/** Who is told so sees the task already. */
const sharedToRead = (taskId: string) =>
  new SignalboxError({
    code: "PERMISSION_DENIED",
    reason: "SHARED_TO_READ",
    message: `Task "${taskId}" is another's, who lets you see it and not change it. Ask its owner to share its context with you to write.`,
    metadata: { taskId },
  });

/** Whether a task was given to a target, or went on to it. */
function isOf(target: ResolvedTarget | undefined, header: TaskHeader): boolean {
  if (!target) return true;
  if (target.kind === "capability") return target.capabilityId === givenCapabilityId(header);
  const { agentId } = target.agent;
  return agentId === header.agentId || header.origin?.agentIds.includes(agentId) === true;
}

const filterOf = (target: ResolvedTarget): TaskFilter =>
  target.kind === "agent" ? { agentId: target.agent.agentId } : { capabilityId: target.capabilityId };

function pageSizeViolations(pageSize: number | undefined): FieldViolation[] {
  if (pageSize === undefined || (pageSize >= 1 && pageSize <= MAX_PAGE)) return [];
  return [{ field: "pageSize", description: `must be 1 to ${MAX_PAGE}; leave it out for ${DEFAULT_PAGE}` }];
}

// A page token is opaque to clients: the place in the list, and a fingerprint of the filters it belongs to.

function writeToken(statusAt: Date, taskId: string, fingerprint: string): string {
  return Buffer.from(`${fingerprint}.${statusAt.getTime()}.${taskId}`).toString("base64url");
}

function readToken(token: string, fingerprint: string): TaskCursor {
  const [print, time, taskId] = Buffer.from(token.slice(0, 512), "base64url").toString().split(".");
  const statusAt = new Date(Number(time));
  if (print !== fingerprint || !taskId || !isTimestampDate(statusAt) || taskId.includes("\0")) {
    throw invalidArgument([
      {
        field: "pageToken",
        description: "is not of this list: send the nextPageToken of a page with the same filters",
      },
    ]);
  }
  return { statusAt, taskId };
}
