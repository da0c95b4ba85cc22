/** Tasks in plain words (signalbox.v1.TaskService), by the same ways as A2A clients give, see and cancel them. */
import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { CancelTaskRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  type BatchSubmitTasksRequest,
  EngineState,
  type ListTasksRequest,
  type ListTasksResponse,
  ListTasksResponseSchema,
  type SubmitTaskRequest,
  type Task,
  type WaitTaskRequest,
  type WaitTaskResponse,
  WaitTaskResponseSchema,
} from "../../gen/signalbox/v1/task_pb.ts";
import { type FieldViolation, internal, invalidArgument, SignalboxError } from "../domain/errors.ts";
import { idViolations } from "../domain/message-rules.ts";
import { plainSummary, plainTask } from "../domain/plain-task.ts";
import { refuse } from "../domain/refusal.ts";
import { applyUpdate, stateOf, type TaskImage } from "../domain/task-log.ts";
import { isEngineState, isInterrupted, isTerminal } from "../domain/task-state.ts";
import { timestampViolations } from "../domain/timestamps.ts";
import type { TaskStore } from "../store/task-store.ts";
import { pageLimit } from "./paging.ts";
import { inPlainWords, messageOf, submitViolations } from "./plain-submit.ts";
import type { RequestContext } from "./request-context.ts";
import type { Runtime } from "./runtime.ts";
import type { Sender } from "./send.ts";
import type { Tasks } from "./tasks.ts";
import type { UpdateHub } from "./update-hub.ts";
import { watchTask } from "./watch.ts";

const DEFAULT_PAGE = 50;
const DEFAULT_WAIT_MS = 30_000;
const LONGEST_WAIT_MS = 600_000;
const MOST_IN_BATCH = 100;

export interface PlainTasks {
  submit(context: RequestContext, request: SubmitTaskRequest): Promise<Task>;
  /** What came of each request, at its place. */
  submitAll(context: RequestContext, request: BatchSubmitTasksRequest): Promise<(Task | SignalboxError)[]>;
  get(context: RequestContext, taskId: string): Promise<Task>;
  list(context: RequestContext, request: ListTasksRequest): Promise<ListTasksResponse>;
  wait(context: RequestContext, request: WaitTaskRequest): Promise<WaitTaskResponse>;
  cancel(context: RequestContext, taskId: string): Promise<Task>;
}

export interface PlainTasksDeps {
  sender: Sender;
  tasks: Tasks;
  store: TaskStore;
  hub: UpdateHub;
  runtime: Runtime;
}

export function createPlainTasks(deps: PlainTasksDeps): PlainTasks {
  const { sender, tasks, runtime } = deps;

  async function visible(context: RequestContext, taskId: string): Promise<TaskImage> {
    if (taskId === "") throw invalidArgument([{ field: "taskId", description: "is required: the id of a task" }]);
    return tasks.visible(context, "", taskId);
  }

  async function submit(context: RequestContext, request: SubmitTaskRequest): Promise<Task> {
    refuse([...submitViolations(request), ...timeoutViolations(request.timeoutMs)]);
    // Under its key it is the same message, however often it is sent.
    const messageId = request.idempotencyKey || context.idempotencyKey || runtime.newId();
    const { payload } = await sender.send(context, messageOf(request, messageId)).catch((error: unknown) => {
      throw inPlainWords(error);
    });
    // It was to be shown at once, so it is a task.
    const id = payload.case === "task" ? payload.value.id : (payload.value?.taskId ?? "");
    const image = await tasks.visible(context, "", id);
    return plainTask(request.wait ? await settled(context, image, request.timeoutMs) : image);
  }

  /** The task as it stands when it has ended, waits for its client, or the time is up. */
  async function settled(context: RequestContext, image: TaskImage, timeoutMs = DEFAULT_WAIT_MS): Promise<TaskImage> {
    if (isSettled(image) || timeoutMs === 0) return image;
    const { workspaceId, taskId } = image.header;
    const timeUp = new AbortController();
    const signal = AbortSignal.any([context.signal, timeUp.signal]);
    const updates = watchTask(deps, { workspaceId, taskId, after: image.seq, signal });
    const over = new AbortController();
    runtime.wait(timeoutMs, over.signal).then(
      () => timeUp.abort(),
      () => {},
    );
    try {
      while (!isSettled(image)) applyUpdate(image, (await updates.next()).value);
    } catch (error) {
      if (context.signal.aborted || !timeUp.signal.aborted) throw error;
    } finally {
      over.abort();
      updates.end();
    }
    // The log does not tell everything: another attempt may have begun.
    return tasks.visible(context, "", taskId);
  }

  return {
    submit,

    async submitAll(context, { requests }) {
      if (requests.length === 0 || requests.length > MOST_IN_BATCH) {
        throw invalidArgument([{ field: "requests", description: `must be 1 to ${MOST_IN_BATCH} tasks` }]);
      }
      if (context.idempotencyKey !== undefined) {
        const description = "would be one key for all tasks; leave it out, and give each its own idempotencyKey";
        throw invalidArgument([{ field: "Idempotency-Key", description }]);
      }
      return Promise.all(
        requests.map((request) =>
          submit(context, request).catch((error: unknown) => {
            if (error instanceof SignalboxError) return error;
            context.log.error({ err: error }, "a task of a batch failed in an unforeseen way");
            return internal(error);
          }),
        ),
      );
    },

    get: async (context, taskId) => plainTask(await visible(context, taskId)),

    async list(context, { agentId, capabilityId, contextId, state, since, pageSize, pageToken }) {
      const isKnown = isEngineState(state);
      const statusFrom = since && timestampDate(since);
      refuse([
        ...idViolations("agentId", agentId),
        ...idViolations("capabilityId", capabilityId),
        ...idViolations("contextId", contextId),
        ...(isKnown || state === EngineState.UNSPECIFIED
          ? []
          : [{ field: "state", description: "is no state of a task" }]),
        ...timestampViolations("since", since),
      ]);
      const filter = {
        ...(agentId !== "" && { agentId }),
        ...(capabilityId !== "" && { capabilityId }),
        ...(contextId !== "" && { contextId }),
        ...(isKnown && { engineState: state }),
        ...(statusFrom && { statusFrom }),
      };
      const page = await tasks.page(context, filter, pageLimit(pageSize, DEFAULT_PAGE), pageToken);
      return create(ListTasksResponseSchema, {
        tasks: page.tasks.map(({ header, state: engine, status, metadata }) =>
          plainSummary(header, engine, { status, metadata }),
        ),
        nextPageToken: page.nextPageToken,
        totalSize: page.total,
      });
    },

    async wait(context, { taskId, timeoutMs }) {
      refuse(timeoutViolations(timeoutMs));
      const image = await settled(context, await visible(context, taskId), timeoutMs);
      return create(WaitTaskResponseSchema, { task: plainTask(image), done: isSettled(image) });
    },

    async cancel(context, taskId) {
      // What is wrong with the id is said in the words of this service.
      if (taskId !== "") await tasks.cancel(context, create(CancelTaskRequestSchema, { id: taskId }));
      return plainTask(await visible(context, taskId));
    },
  };
}

const isSettled = (image: TaskImage): boolean => isTerminal(stateOf(image)) || isInterrupted(stateOf(image));

function timeoutViolations(timeoutMs: number | undefined): FieldViolation[] {
  if (timeoutMs === undefined || (timeoutMs >= 0 && timeoutMs <= LONGEST_WAIT_MS)) return [];
  return [{ field: "timeoutMs", description: `must be 0 to ${LONGEST_WAIT_MS}; leave it out for ${DEFAULT_WAIT_MS}` }];
}
