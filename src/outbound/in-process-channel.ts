/**
 * An agent that is a function in this process. The channel plays the server: it keeps the tasks that the function shows,
 * and answers GetTask, SubscribeToTask and CancelTask from them. As with any A2A agent, a caller that leaves does not end
 * the work.
 */
import {
  type Message as AnyMessage,
  clone,
  create,
  type DescMessage,
  type JsonObject,
  type MessageShape,
} from "@bufbuild/protobuf";
import {
  type Message,
  type SendMessageRequest,
  SendMessageResponseSchema,
  type StreamResponse,
  StreamResponseSchema,
  type Task,
  TaskSchema,
  TaskState,
  type TaskStatusUpdateEvent,
  TaskStatusUpdateEventSchema,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { applyStatus } from "../domain/task-log.ts";
import { isInterrupted, isTerminal } from "../domain/task-state.ts";
import { AgentCallError } from "../services/agent-port.ts";
import { checked, refusedCall } from "./agent-answer.ts";
import type { AgentCall } from "./agent-call.ts";
import type { AgentChannel } from "./agent-channel.ts";
import { Run, type RunWatcher } from "./in-process-run.ts";

/** What a function that is an agent is told besides the message. */
export interface HandlerContext {
  /** Aborted when the task is canceled and when the router stops. */
  signal: AbortSignal;
  /** The task that the message continues; undefined for a new one, whose id the function chooses. */
  task: Task | undefined;
  acceptedOutputModes: readonly string[];
  /** Metadata of the client's request. */
  metadata: JsonObject | undefined;
  /** A2A-Extensions and traceparent, as headers by name. */
  headers: Readonly<Record<string, string>>;
}

/**
 * An agent as a function. It answers with one Message or Task, or with a Task and then its updates (section 3.1.2); for a
 * message that continues a task, updates alone will do. What it throws fails the task. What it has given is the router's: it must
 * not change it any more.
 */
export type AgentHandler = (
  message: Message,
  context: HandlerContext,
) => AsyncIterable<StreamResponse> | Promise<StreamResponse>;

/** Tasks kept after their work has ended, for readers that come late and for messages that continue them. */
const KEPT_TASKS = 1000;

export function createInProcessChannel(handler: AgentHandler): AgentChannel {
  /** The latest run of each task. */
  const runs = new Map<string, Run>();
  const atWork = new Set<Run>();
  /** The last that have ended, the oldest where the next one goes. */
  const kept: Run[] = [];
  let oldest = 0;

  function find(rpc: string, taskId: string): Run & { task: Task } {
    const run = runs.get(taskId);
    if (!run?.task) throw refusedCall(rpc, "TASK_NOT_FOUND", `There is no task "${taskId}".`);
    return run as Run & { task: Task };
  }

  /** Begins a run, with the watcher that sees it from its first item. */
  function begin(request: SendMessageRequest, call: AgentCall): { run: Run; items: RunWatcher } {
    const message = request.message!;
    const before = message.taskId === "" ? undefined : find(call.rpc, message.taskId);
    if (before && (!before.ended || isOver(before))) {
      throw refusedCall(call.rpc, "UNSUPPORTED_OPERATION", `The task "${message.taskId}" takes no message now.`);
    }
    before?.task.history.push(message);
    const run = new Run(call.rpc, before?.task);
    if (before) runs.set(message.taskId, run);
    atWork.add(run);
    const items = run.watch(call);
    void work(run, message, new MessageContext(run, request, call, before && clone(TaskSchema, before.task)));
    return { run, items };
  }

  async function work(run: Run, message: Message, context: HandlerContext): Promise<void> {
    try {
      const answer = handler(message, context);
      for await (const item of Symbol.asyncIterator in answer ? answer : [await answer]) {
        if (run.ended) return;
        publish(run, checked(run.rpc, StreamResponseSchema, item));
      }
    } catch (error) {
      if (run.ended) return;
      run.failure = asCallError(run.rpc, error);
      if (run.task && !isOver(run)) applyStatus(run.task, statusUpdate(run.task, TaskState.FAILED));
    } finally {
      end(run);
    }
  }

  function publish(run: Run, item: StreamResponse): void {
    if (item.payload.case === "task") {
      // A function that changes its mind about the name has no task by the first one.
      if (run.task && run.task.id !== item.payload.value.id) runs.delete(run.task.id);
      runs.set(item.payload.value.id, run);
    }
    run.publish(item);
  }

  function end(run: Run): void {
    if (run.ended) return;
    atWork.delete(run);
    run.end();
    if (!run.task) return;
    const before = kept[oldest];
    if (before?.task && runs.get(before.task.id) === before) runs.delete(before.task.id);
    kept[oldest] = run;
    oldest = (oldest + 1) % KEPT_TASKS;
  }

  async function send(request: SendMessageRequest, call: AgentCall): Promise<StreamResponse["payload"]> {
    const { run, items } = begin(request, call);
    const returnImmediately = request.configuration?.returnImmediately === true;
    for await (const { payload } of items) {
      if (payload.case === "message") return payload;
      if (returnImmediately || isOver(run) || isWaiting(run)) break;
    }
    if (!run.task) throw noAnswer(call.rpc);
    return { case: "task", value: clone(TaskSchema, run.task) };
  }

  /** Takes effect at once: what the function may still say is not heard. */
  function cancel(taskId: string, call: AgentCall): Task {
    const run = find(call.rpc, taskId);
    const { task } = run;
    if (task.status?.state !== TaskState.CANCELED) {
      if (isOver(run)) throw refusedCall(call.rpc, "TASK_NOT_CANCELABLE", `The task "${taskId}" has ended.`);
      const value = statusUpdate(task, TaskState.CANCELED);
      publish(run, create(StreamResponseSchema, { payload: { case: "statusUpdate", value } }));
      end(run);
      run.abort();
    }
    return clone(TaskSchema, task);
  }

  function subscribe(taskId: string, call: AgentCall): AsyncIterable<StreamResponse> {
    const run = find(call.rpc, taskId);
    if (isOver(run)) throw refusedCall(call.rpc, "UNSUPPORTED_OPERATION", `The task "${taskId}" has ended.`);
    const items = run.watch(call);
    items.push(create(StreamResponseSchema, { payload: { case: "task", value: clone(TaskSchema, run.task) } }));
    return items;
  }

  return {
    async unary<I extends DescMessage, O extends DescMessage>(
      rpc: { name: string },
      request: MessageShape<I>,
      call: AgentCall,
    ) {
      const asked = request as AnyMessage & SendMessageRequest & { id: string };
      if (rpc.name === "GetTask")
        return clone(TaskSchema, find(call.rpc, asked.id).task) as AnyMessage as MessageShape<O>;
      if (rpc.name === "CancelTask") return cancel(asked.id, call) as AnyMessage as MessageShape<O>;
      const payload = await send(asked, call);
      return create(SendMessageResponseSchema, { payload } as object) as AnyMessage as MessageShape<O>;
    },

    stream<I extends DescMessage, O extends DescMessage>(
      rpc: { name: string },
      request: MessageShape<I>,
      call: AgentCall,
    ) {
      const asked = request as AnyMessage & SendMessageRequest & { id: string };
      const items = rpc.name === "SubscribeToTask" ? subscribe(asked.id, call) : begin(asked, call).items;
      return items as AsyncIterable<AnyMessage> as AsyncIterable<MessageShape<O>>;
    },

    close() {
      for (const run of atWork) run.abort();
    },
  };
}

/** What most functions do not ask for is made when they do. */
class MessageContext implements HandlerContext {
  readonly task: Task | undefined;
  readonly acceptedOutputModes: readonly string[];
  readonly metadata: JsonObject | undefined;
  readonly #run: Run;
  readonly #call: AgentCall;

  constructor(run: Run, { configuration, metadata }: SendMessageRequest, call: AgentCall, task: Task | undefined) {
    this.task = task;
    this.acceptedOutputModes = configuration?.acceptedOutputModes ?? [];
    this.metadata = metadata;
    this.#run = run;
    this.#call = call;
  }

  get signal(): AbortSignal {
    return this.#run.signal;
  }

  get headers(): Readonly<Record<string, string>> {
    return this.#call.headers;
  }
}

function statusUpdate({ id, contextId }: Task, state: TaskState): TaskStatusUpdateEvent {
  return create(TaskStatusUpdateEventSchema, { taskId: id, contextId, status: { state } });
}

const isOver = (run: Run): boolean => isTerminal(run.task?.status?.state ?? TaskState.UNSPECIFIED);
const isWaiting = (run: Run): boolean => isInterrupted(run.task?.status?.state ?? TaskState.UNSPECIFIED);

const noAnswer = (rpc: string): AgentCallError =>
  new AgentCallError("invalid", `The agent ended ${rpc} without an answer.`);

function asCallError(rpc: string, error: unknown): AgentCallError {
  if (error instanceof AgentCallError) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new AgentCallError("refused", `The agent failed in ${rpc}: ${text}`, { reason: "INTERNAL", cause: error });
}
