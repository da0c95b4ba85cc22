/** A task in plain words: what its parts hold, without messages and parts. Pure. */
import { timestampFromDate, type Value } from "@bufbuild/protobuf/wkt";
import {
  type Task as A2ATask,
  type Message,
  type Part,
  TaskState,
  type TaskStatus,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ApprovalVerdict } from "../../gen/signalbox/v1/approval_pb.ts";
import { type Task, TaskPriority } from "../../gen/signalbox/v1/task_pb.ts";
import { awaitedApproval } from "./approval.ts";
import { cachedFrom } from "./cached-result.ts";
import { PRIORITIES, type Priority, type TaskHeader, type TaskImage } from "./task-log.ts";
import { type EngineState, isTerminal } from "./task-state.ts";

/** Priorities as the contract numbers them. */
export const PRIORITY_NUMBER: Record<Priority, TaskPriority> = {
  BACKGROUND: TaskPriority.BACKGROUND,
  LOW: TaskPriority.LOW,
  NORMAL: TaskPriority.NORMAL,
  HIGH: TaskPriority.HIGH,
  CRITICAL: TaskPriority.CRITICAL,
};

/** The priority that a number of the contract stands for; undefined for none. */
export const priorityOf = (number: number): Priority | undefined =>
  PRIORITIES.find((name) => PRIORITY_NUMBER[name] === number);

/** A task with what it was given and what came of it. Shares its artifacts with the image. */
export function plainTask({ header, state, task, reply }: TaskImage): Task {
  const [first] = task.history;
  const input = first && contentOf([first]);
  // An agent that gives no artifact answers by what it says.
  const said = reply ?? (task.status?.state === TaskState.COMPLETED ? task.status.message : undefined);
  const output = contentOf(task.artifacts) ?? (said && contentOf([said]));
  return {
    ...plainSummary(header, state, task),
    ...(input && { input }),
    ...(output && { output }),
    artifacts: [...task.artifacts],
  };
}

/** The same without its log, as lists have it. */
export function plainSummary(
  header: TaskHeader,
  state: EngineState,
  { status, metadata }: Pick<A2ATask, "metadata"> & { status?: TaskStatus | undefined },
): Task {
  const a2aState = status?.state ?? TaskState.SUBMITTED;
  const changed = status?.timestamp;
  const message = status?.message ? textOf(status.message.parts) : "";
  const approvalId = status && awaitedApproval({ state, header, task: { status } });
  const failed = a2aState === TaskState.FAILED || a2aState === TaskState.REJECTED;
  return {
    $typeName: "signalbox.v1.Task",
    taskId: header.taskId,
    contextId: header.contextId,
    agentId: header.agentId,
    capabilityId: header.capabilityId ?? "",
    // The numbers are the same in the domain and in the contract; a test says so.
    state,
    a2aState,
    priority: PRIORITY_NUMBER[header.priority],
    createTime: timestampFromDate(header.createdAt),
    ...(changed && { updateTime: changed, ...(isTerminal(a2aState) && { endTime: changed }) }),
    artifacts: [],
    message,
    error: failed ? message || "The agent gave no reason." : "",
    attempt: header.attempt,
    cachedFrom: cachedFrom(metadata),
    parentTaskId: header.parent?.taskId ?? "",
    delegationDepth: header.parent?.depth ?? 0,
    approvalId: approvalId ?? "",
    approvalVerdicts: approvalId === undefined ? [] : [ApprovalVerdict.APPROVE, ApprovalVerdict.REJECT],
  };
}

/** The data of parts, or else their text; undefined when they have neither. */
function contentOf(holders: readonly Pick<Message, "parts">[]): Value | undefined {
  const data = holders.flatMap(({ parts }) =>
    parts.flatMap(({ content }) => (content.case === "data" ? [content.value] : [])),
  );
  if (data.length === 1) return data[0];
  if (data.length > 1)
    return asValue({ case: "listValue", value: { $typeName: "google.protobuf.ListValue", values: data } });
  const texts = holders.filter(({ parts }) => parts.some(({ content }) => content.case === "text"));
  if (texts.length === 0) return undefined;
  return asValue({ case: "stringValue", value: texts.map(({ parts }) => textOf(parts)).join("\n") });
}

const asValue = (kind: Value["kind"]): Value => ({ $typeName: "google.protobuf.Value", kind });

/** Agents that stream cut their text where it happens to be: pieces follow each other without a break. */
const textOf = (parts: readonly Part[]): string =>
  parts.map(({ content }) => (content.case === "text" ? content.value : "")).join("");
