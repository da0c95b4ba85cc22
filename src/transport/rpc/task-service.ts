/** signalbox.v1.TaskService over what operators see of tasks. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { TaskService } from "../../../gen/signalbox/v1/task_pb.ts";
import type { TaskExecutions } from "../../services/task-executions.ts";
import { requestContextOf } from "./bind.ts";

export function createTaskService(executions: TaskExecutions): ServiceImpl<typeof TaskService> {
  return {
    getTaskExecution: (request, context) => executions.get(requestContextOf(context), request),
    listTaskTransitions: (request, context) => executions.transitions(requestContextOf(context), request),
  };
}
