/** Sending messages and watching tasks (A2A specification, sections 3.1.1, 3.1.2 and 3.1.6). */
import { create } from "@bufbuild/protobuf";
import {
  type SendMessageRequest,
  type SendMessageResponse,
  type StreamResponse,
  StreamResponseSchema,
  type SubscribeToTaskRequest,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { INVALID_ANSWER } from "../domain/cause.ts";
import { invalidAgentResponse, unsupportedOperation } from "../domain/errors.ts";
import { parseTarget } from "../domain/target.ts";
import {
  applyUpdate,
  givenCapabilityId,
  stateOf,
  type TaskImage,
  type TaskUpdate,
  viewTask,
} from "../domain/task-log.ts";
import { isInterrupted, isTerminal, stateName } from "../domain/task-state.ts";
import { type AcceptDeps, createAccept } from "./accept.ts";
import type { RequestContext, StreamCursor } from "./request-context.ts";
import type { IsGuarded } from "./result-policy.ts";
import { type TaskWatch, watchTask } from "./watch.ts";

export interface SendDeps extends AcceptDeps {
  isGuarded: IsGuarded;
  /** How long a stream waits for the agent's first answer before it shows the task, in milliseconds. */
  silenceMs: number;
}

/** An item of a stream, and the number of the log up to which it tells. */
export interface Numbered {
  sequence: number;
  response: StreamResponse;
  /** The capability that the task was given to; undefined when it was given to the agent itself. */
  capabilityId: string | undefined;
}

export interface Sender {
  send(context: RequestContext, request: SendMessageRequest): Promise<SendMessageResponse>;
  stream(context: RequestContext, request: SendMessageRequest): AsyncIterable<Numbered>;
  /**
   * The task as it stands, then its updates. With a cursor: the task as it stood there, then whatever followed, also of a
   * task that has ended.
   */
  subscribe(context: RequestContext, request: SubscribeToTaskRequest, cursor?: StreamCursor): AsyncIterable<Numbered>;
}

export function createSender(deps: SendDeps): Sender {
  const { dispatcher, tasks } = deps;
  const accept = createAccept(deps);

  /** A caller that leaves before it saw the task must be able to find it. */
  function discloseLater(context: RequestContext, taskId: string): void {
    dispatcher.disclose(context.workspaceId, taskId).catch((error: unknown) => {
      context.log.warn({ err: error, taskId }, "a task whose caller left could not be shown");
    });
  }

  /** A capability whose results are held back says in its card that it does not stream (section 3.3.4). */
  async function refuseStream(context: RequestContext, tenant: string): Promise<void> {
    const named = parseTarget(context.addressTarget ?? tenant);
    if (named?.kind !== "capability" || !(await deps.isGuarded(context.workspaceId, named.capabilityId))) return;
    throw unsupportedOperation(
      `The capability "${named.capabilityId}" does not stream, because policy looks at its results before they leave. Use SendMessage and GetTask, or a push notification config.`,
    );
  }

  return {
    async send(context, request) {
      const { image, updates } = await accept(context, request);
      const view = { historyLength: request.configuration?.historyLength };
      try {
        // What nobody may see yet, because its first request waits for it, is waited for.
        if (!request.configuration?.returnImmediately || !image.header.disclosed) {
          // An interrupted task that goes on is WORKING by now: only what follows the message can end the wait.
          while (!isTerminal(stateOf(image)) && !isInterrupted(stateOf(image))) {
            const update = updates.take();
            if (update) {
              refuseRubbish(image, update);
              applyUpdate(image, update);
            } else {
              await updates.news();
            }
          }
        }
      } catch (error) {
        if (context.signal.aborted) discloseLater(context, image.header.taskId);
        throw error;
      } finally {
        updates.end();
      }
      return {
        $typeName: "lf.a2a.v1.SendMessageResponse",
        payload: image.reply ? { case: "message", value: image.reply } : { case: "task", value: viewTask(image, view) },
      };
    },

    async *stream(context, request) {
      await refuseStream(context, request.tenant);
      const { image, updates } = await accept(context, request);
      const { taskId } = image.header;
      const capabilityId = givenCapabilityId(image.header);
      let shown = false;
      try {
        // The task of an earlier request, which has come to a rest.
        if (endsStream(stateOf(image))) {
          yield showTask(image, request.configuration?.historyLength);
          return;
        }
        let pending = toldOf(updates);
        // Whoever leaves while the task is shown has no use for it any more, nor for why it did not come.
        pending.catch(() => {});
        if (!image.header.disclosed && !(await within(deps, pending, context.signal))) {
          // Silence. If the agent answered with a Message in this very moment, that is the first thing to show.
          image.header.disclosed = await dispatcher.disclose(context.workspaceId, taskId);
        }
        if (!image.header.disclosed) {
          const { value } = await pending;
          refuseRubbish(image, value);
          if (value.kind === "reply") {
            yield { sequence: value.seq, response: value.body, capabilityId };
            return;
          }
        }
        shown = true;
        yield showTask(image, request.configuration?.historyLength);
        // One that no agent can take has ended when it is stored.
        if (isTerminal(stateOf(image))) return;
        // What was shown may still be on its way out: from here the image stays as it is.
        for (; ; pending = updates.next()) {
          const { value } = await pending;
          if (isVisible(value)) yield { sequence: value.seq, response: value.body, capabilityId };
          if (endsStream(stateIn(value))) return;
        }
      } finally {
        updates.end();
        if (!shown && context.signal.aborted) discloseLater(context, taskId);
      }
    },

    async *subscribe(context, request, cursor) {
      await refuseStream(context, request.tenant);
      const image = cursor
        ? await tasks.visibleAt(context, request.tenant, request.id, cursor)
        : await tasks.visible(context, request.tenant, request.id);
      const hasEnded = isTerminal(stateOf(image));
      if (hasEnded && !cursor) {
        throw unsupportedOperation(
          `Task "${request.id}" is ${stateName(stateOf(image))}: there is nothing left to watch. Use GetTask.`,
          { taskId: request.id },
        );
      }
      const capabilityId = givenCapabilityId(image.header);
      const updates = watchTask(deps, {
        workspaceId: context.workspaceId,
        taskId: request.id,
        after: image.seq,
        signal: context.signal,
      });
      try {
        yield showTask(image);
        if (hasEnded) return;
        for await (const update of updates) {
          if (isVisible(update)) yield { sequence: update.seq, response: update.body, capabilityId };
          if (isTerminal(stateIn(update))) return;
        }
      } finally {
        updates.end();
      }
    },
  };
}

function showTask(image: TaskImage, historyLength?: number): Numbered {
  const task = viewTask(image, { historyLength });
  return {
    sequence: image.seq,
    response: create(StreamResponseSchema, { payload: { case: "task", value: task } }),
    capabilityId: givenCapabilityId(image.header),
  };
}

/** The next update that says something of the task. What the engine does with it discloses it to nobody. */
async function toldOf(updates: TaskWatch): Promise<IteratorResult<TaskUpdate, never>> {
  for (;;) {
    const next = await updates.next();
    if (next.done || next.value.kind !== "transition") return next;
  }
}

const isVisible = (update: TaskUpdate): boolean => update.kind === "status" || update.kind === "artifact";

/** SendStreamingMessage closes at INPUT_REQUIRED and stays open through AUTH_REQUIRED (sections 11.7 and 7.6.1). */
const endsStream = (state: TaskState): boolean => isTerminal(state) || state === TaskState.INPUT_REQUIRED;

/** The state that an update brings; UNSPECIFIED when it brings none. */
function stateIn({ kind, body: { payload } }: TaskUpdate): TaskState {
  if (kind === "reply") return TaskState.COMPLETED;
  return (payload.case === "statusUpdate" && payload.value.status?.state) || TaskState.UNSPECIFIED;
}

/**
 * A caller who has not seen the task is told that the agent's answer was none. The task stays hidden, unless its agent had
 * reported something of it before: then it is FAILED for all to see.
 */
function refuseRubbish(image: TaskImage, update: TaskUpdate): void {
  if (image.header.disclosed || !update.cause?.startsWith(INVALID_ANSWER)) return;
  throw invalidAgentResponse("The agent's answer was not valid A2A. The router keeps it in its log.", {
    agentId: image.header.agentId,
    taskId: image.header.taskId,
  });
}

/** Whether `pending` settles before the silence ends. Its error, if it has one, is thrown by whoever awaits it. */
async function within(
  { runtime, silenceMs }: SendDeps,
  pending: Promise<unknown>,
  signal: AbortSignal,
): Promise<boolean> {
  const timer = new AbortController();
  const silence = runtime.wait(silenceMs, AbortSignal.any([timer.signal, signal])).then(
    () => false,
    () => true,
  );
  try {
    return await Promise.race([
      pending.then(
        () => true,
        () => true,
      ),
      silence,
    ]);
  } finally {
    timer.abort();
  }
}
