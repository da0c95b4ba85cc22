/** One client of the fault suite: begins a task, follows it over all replicas, cancels, leaves and answers as planned. */
import { setTimeout } from "node:timers/promises";
import { create, type JsonObject } from "@bufbuild/protobuf";
import {
  type Message,
  MessageSchema,
  Role,
  type SendMessageRequest,
  SendMessageRequestSchema,
  type StreamResponse,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ROUTING_EXTENSION } from "../../src/domain/routing-extension.ts";
import { isTerminal } from "../../src/domain/task-state.ts";
import { type Caller, createCaller, headersOf, isRefusal, type Lane } from "./calls.ts";
import type { Cluster } from "./cluster.ts";
import type { Plan } from "./plan.ts";
import type { Recorder } from "./recorder.ts";

/** Answers to questions that a client gives at most. */
const MOST_ANSWERS = 4;

export interface SessionDeps {
  cluster: Cluster;
  recorder: Recorder;
  random: () => number;
  signal: AbortSignal;
  /** Told when the router has acknowledged the task. */
  onAcknowledged: () => void;
}

/** Where a client stands with its task. */
interface Place {
  taskId: string;
  /** The number of the last item that it has. */
  after?: number;
  state: TaskState;
}

/** Resolves when the client has seen its task come to rest, or will never hear of it again. */
export async function runSession(deps: SessionDeps, plan: Plan): Promise<void> {
  const { recorder, signal } = deps;
  const what = `${plan.way} "${plan.text}"`;
  let about = what;
  const caller = createCaller(deps, () => about);
  /** What it does beside following the task. */
  const beside: Promise<unknown>[] = [];

  function acknowledged(message: ReturnType<Recorder["message"]>, taskId: string): void {
    if (!recorder.acknowledged.has(taskId)) {
      deps.onAcknowledged();
      for (const ms of plan.cancelsAfterMs) beside.push(cancel(taskId, ms));
      if (plan.addsAfterMs !== undefined) beside.push(add(taskId, plan.addsAfterMs));
      // They are awaited at the end, however they have ended by then.
      for (const work of beside) work.catch(() => {});
    }
    recorder.acknowledge(message, taskId);
    about = `${what} ${taskId}`;
  }

  async function add(taskId: string, afterMs: number): Promise<void> {
    await setTimeout(afterMs, undefined, { signal });
    const own = createCaller(deps, () => `add to ${about}`);
    await sendFurther(taskId, own);
  }

  async function cancel(taskId: string, afterMs: number): Promise<void> {
    await setTimeout(afterMs, undefined, { signal });
    const note = recorder.answersOf(taskId);
    const own = createCaller(deps, () => `cancel ${about}`);
    const answer = await own.persist((lane) => lane.cancelTask({ id: taskId }, { headers: headersOf(), signal }));
    if (!isRefusal(answer)) return note(answer.status?.state);
    if (answer.reason !== "TASK_NOT_CANCELABLE") recorder.surprise(`cancel ${about}: ${answer.reason}`);
  }

  // --- beginning

  /** Undefined when the client left without knowing its task, or there is none. */
  async function begin(): Promise<Place | undefined> {
    const left = new AbortController();
    if (plan.leavesAfterMs !== undefined)
      setTimeout(plan.leavesAfterMs, undefined, { signal }).then(
        () => left.abort(),
        () => {},
      );
    const options = { headers: headersOf(), signal: AbortSignal.any([signal, left.signal]) };
    for (;;) {
      const message = recorder.message();
      about = `${what} ${message.messageId}`;
      const request = requestOf(plan, message.messageId);
      const place: { known?: Place } = {};
      const answer = await caller.once(async (lane) => {
        if (plan.way === "stream") return streamTo(lane, request, options, message, place);
        const { payload } = await lane.sendMessage(request, options);
        if (payload.case !== "task") return true;
        acknowledged(message, payload.value.id);
        const state = payload.value.status?.state ?? TaskState.SUBMITTED;
        recorder.answersOf(payload.value.id)(state);
        place.known = { taskId: payload.value.id, state };
        return true;
      });
      if (place.known || left.signal.aborted || answer !== undefined) {
        if (isRefusal(answer) && answer.reason !== "INVALID_AGENT_RESPONSE")
          recorder.surprise(`${about}: ${answer.reason}`);
        return place.known;
      }
      await caller.pause();
    }
  }

  async function streamTo(
    lane: Lane,
    request: SendMessageRequest,
    options: { headers: Record<string, string>; signal: AbortSignal },
    message: ReturnType<Recorder["message"]>,
    place: { known?: Place },
  ): Promise<true> {
    const seen = recorder.stream("", undefined);
    for await (const item of lane.sendStreamingMessage(request, options)) {
      const { payload } = item;
      if (payload.case === "message") return true;
      if (payload.case === "task") {
        seen.taskId = payload.value.id;
        acknowledged(message, payload.value.id);
      }
      const after = seen.note(item);
      const taskId = payload.case === "task" ? payload.value.id : place.known!.taskId;
      place.known = { taskId, after, state: stateIn(item) ?? place.known?.state ?? TaskState.SUBMITTED };
    }
    return true;
  }

  // --- following

  /** Watches until the task ends or asks, over as many connections as it takes. */
  async function follow(place: Place): Promise<void> {
    const note = recorder.answersOf(place.taskId);
    for (;;) {
      const { taskId, after } = place;
      const answer = await caller.once(async (lane) => {
        const seen = recorder.stream(taskId, after);
        let items = 0;
        for await (const item of lane.subscribeToTask({ id: taskId }, { headers: headersOf(after), signal })) {
          place.after = seen.note(item);
          items += 1;
          // A resumed stream begins with the task as it stood.
          if (item.payload.case === "task" && after !== undefined) continue;
          place.state = stateIn(item) ?? place.state;
          if (isTerminal(place.state) || place.state === TaskState.INPUT_REQUIRED) return true;
          if (plan.hopsEvery !== undefined && items > plan.hopsEvery) return true;
        }
        return true;
      });
      if (isRefusal(answer)) {
        // What has ended is not watched without a cursor.
        const task = await caller.persist((lane) => lane.getTask({ id: taskId }, { headers: headersOf(), signal }));
        if (isRefusal(task)) return recorder.surprise(`get ${about}: ${task.reason}`);
        note(task.status?.state);
        place.state = task.status?.state ?? place.state;
        if (!isTerminal(place.state)) recorder.surprise(`${about}: ${answer.reason}, and the task has not ended`);
        return;
      }
      if (isTerminal(place.state) || place.state === TaskState.INPUT_REQUIRED) return;
      if (answer === undefined) await caller.pause();
    }
  }

  // --- answering

  /** Each try is another message: an answer that was lost may have been heard all the same. */
  async function sendFurther(taskId: string, caller: Caller): Promise<void> {
    const returnImmediately = deps.random() < 0.5;
    for (;;) {
      const message = recorder.message(taskId);
      const request = create(SendMessageRequestSchema, {
        message: userMessage(message.messageId, "blue", taskId),
        configuration: { returnImmediately },
      });
      const answer = await caller.once((lane) => lane.sendMessage(request, { headers: headersOf(), signal }));
      if (isRefusal(answer)) {
        if (answer.reason !== "UNSUPPORTED_OPERATION") recorder.surprise(`answer ${about}: ${answer.reason}`);
        return;
      }
      if (answer) {
        message.acknowledged = true;
        if (answer.payload.case === "task") recorder.answersOf(taskId)(answer.payload.value.status?.state);
        return;
      }
      await caller.pause();
    }
  }

  async function converse(place: Place): Promise<void> {
    for (let answers = 0; ; answers++) {
      if (!isTerminal(place.state) && (place.state !== TaskState.INPUT_REQUIRED || answers > 0)) await follow(place);
      if (place.state !== TaskState.INPUT_REQUIRED || !plan.answers || answers === MOST_ANSWERS) return;
      await sendFurther(place.taskId, caller);
      place.state = TaskState.WORKING;
    }
  }

  try {
    const place = await begin();
    if (place) await converse(place);
    await Promise.all(beside);
  } catch (error) {
    recorder.surprise(`${about}: ${signal.aborted ? "waited in vain" : String(error)}`);
  }
}

function requestOf(plan: Plan, messageId: string): SendMessageRequest {
  const { priority, deadlineMs } = plan;
  const wishes: JsonObject = { priority, ...(deadlineMs !== undefined && { deadlineMs }) };
  return create(SendMessageRequestSchema, {
    tenant: `a.${plan.agent.agentId}`,
    message: userMessage(messageId, plan.text),
    configuration: { returnImmediately: plan.way === "immediate" },
    metadata: { [ROUTING_EXTENSION]: wishes },
  });
}

const userMessage = (messageId: string, text: string, taskId = ""): Message =>
  create(MessageSchema, {
    messageId,
    taskId,
    role: Role.USER,
    parts: [{ content: { case: "text", value: text } }],
  });

const stateIn = ({ payload }: StreamResponse): TaskState | undefined =>
  payload.case === "task" || payload.case === "statusUpdate" ? payload.value.status?.state : undefined;
