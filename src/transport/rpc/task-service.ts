/** signalbox.v1.TaskService: tasks in plain words, and what the engine does with them. */

import { create } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { StatusSchema } from "../../../gen/google/rpc/status_pb.ts";
import {
  BatchSubmitTasksResponseSchema,
  CleanupTasksResponseSchema,
  type TaskService,
  type WatchTasksResponse,
} from "../../../gen/signalbox/v1/task_pb.ts";
import { GRPC_CODE, packedErrorDetails } from "../../domain/error-details.ts";
import { SignalboxError, withMetadata } from "../../domain/errors.ts";
import type { ContextShares } from "../../services/identity/context-shares.ts";
import type { PlainTasks } from "../../services/plain-tasks.ts";
import type { TaskCleanup } from "../../services/task-cleanup.ts";
import type { TaskEvents } from "../../services/task-events.ts";
import type { TaskExecutions } from "../../services/task-executions.ts";
import { requestContextOf } from "./bind.ts";
import { setSequence } from "./bound.ts";
import { headerOf } from "./call-context.ts";

export interface TaskServiceDeps {
  contextShares: ContextShares;
  plainTasks: PlainTasks;
  taskCleanup: TaskCleanup;
  taskEvents: TaskEvents;
  taskExecutions: TaskExecutions;
}

export function createTaskService(deps: TaskServiceDeps): ServiceImpl<typeof TaskService> {
  const { contextShares, plainTasks, taskCleanup, taskEvents, taskExecutions } = deps;
  return {
    submitTask: (request, context) => plainTasks.submit(requestContextOf(context), request),
    batchSubmitTasks: async (request, context) => {
      const results = await plainTasks.submitAll(requestContextOf(context), request);
      return create(BatchSubmitTasksResponseSchema, {
        results: results.map((result) => ({
          result:
            result instanceof SignalboxError
              ? { case: "error" as const, value: statusOf(result) }
              : { case: "task" as const, value: result },
        })),
      });
    },
    getTask: ({ taskId }, context) => plainTasks.get(requestContextOf(context), taskId),
    listTasks: (request, context) => plainTasks.list(requestContextOf(context), request),
    waitTask: (request, context) => plainTasks.wait(requestContextOf(context), request),
    cancelTask: ({ taskId }, context) => plainTasks.cancel(requestContextOf(context), taskId),
    deleteTask: async ({ taskId }, context) => {
      await taskCleanup.remove(requestContextOf(context), taskId);
      return create(EmptySchema);
    },
    cleanupTasks: async (request, context) => {
      const count = await taskCleanup.removeOld(requestContextOf(context), request);
      return create(CleanupTasksResponseSchema, { deletedCount: BigInt(count) });
    },
    watchTasks: (request, context) => {
      // Browsers send back the last id that they saw.
      const cursor = request.cursor || (headerOf(context, "last-event-id") ?? "");
      return withCursors(taskEvents.watch(requestContextOf(context), request, cursor));
    },
    getTaskExecution: (request, context) => taskExecutions.get(requestContextOf(context), request),
    listTaskTransitions: (request, context) => taskExecutions.transitions(requestContextOf(context), request),
    shareContext: (request, context) => contextShares.share(requestContextOf(context), request),
    unshareContext: async (request, context) => {
      await contextShares.unshare(requestContextOf(context), request);
      return create(EmptySchema);
    },
    listContextShares: (request, context) => contextShares.list(requestContextOf(context), request),
  };
}

const statusOf = (error: SignalboxError) =>
  create(StatusSchema, { code: GRPC_CODE[error.code], message: error.message, details: packedErrorDetails(error) });

/** Gives each item its cursor beside the body; a stream that breaks says in its error where to go on. */
async function* withCursors(items: AsyncIterable<WatchTasksResponse>): AsyncGenerator<WatchTasksResponse> {
  let last: string | undefined;
  try {
    for await (const item of items) {
      last = item.cursor;
      yield setSequence(item, item.cursor);
    }
  } catch (error) {
    if (last === undefined || !(error instanceof SignalboxError)) throw error;
    throw withMetadata(error, { cursor: last });
  }
}
