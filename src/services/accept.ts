/** Accepts messages: validate, authorize, policy, route, admit, store. The way of every message. */
import type { Logger } from "pino";
import { type Message, type SendMessageRequest, SendMessageRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteDecisionSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import { encode } from "../domain/encode.ts";
import { invalidArgument, unsupportedOperation } from "../domain/errors.ts";
import { checkExtensions, checkMediaTypes, sendViolations } from "../domain/message-rules.ts";
import { missingFields } from "../domain/required-fields.ts";
import { type Delivery, stateOf, type TaskImage } from "../domain/task-log.ts";
import { isTerminal } from "../domain/task-state.ts";
import { UPDATES_EXTENSION } from "../domain/updates-extension.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { AgentEndpoint } from "./agent-port.ts";
import { messageToEnded } from "./dispatch-errors.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Work } from "./further-messages.ts";
import type { TaskRequest } from "./new-tasks.ts";
import type { Policy } from "./policy.ts";
import type { PushConfigs } from "./push-configs.ts";
import type { RequestContext } from "./request-context.ts";
import { endpointFor, type Router } from "./router.ts";
import type { Runtime } from "./runtime.ts";
import { refuse, type Tasks } from "./tasks.ts";
import type { UpdateHub } from "./update-hub.ts";
import { type TaskWatch, watchTask } from "./watch.ts";

export interface AcceptDeps {
  store: TaskStore;
  hub: UpdateHub;
  router: Router;
  policy: Policy;
  dispatcher: Dispatcher;
  tasks: Tasks;
  pushConfigs: PushConfigs;
  runtime: Runtime;
  /** How long a task may take from its acceptance to its end, unless its client asks for less, in milliseconds. */
  taskTimeoutMs: number;
}

/** A message that is stored, and what comes of it. */
export interface Accepted {
  image: TaskImage;
  updates: TaskWatch;
}

export type Accept = (context: RequestContext, request: SendMessageRequest) => Promise<Accepted>;

export function createAccept(deps: AcceptDeps): Accept {
  const { router, policy, dispatcher, tasks, runtime } = deps;

  const watch = ({ workspaceId, signal }: RequestContext, taskId: string, after: number, fresh: boolean) =>
    watchTask(deps, { workspaceId, taskId, after, fresh, signal });

  async function begin(context: RequestContext, request: SendMessageRequest): Promise<Accepted> {
    const message = messageIn(request);
    const known = message.contextId !== "";
    const contextId = known ? message.contextId : runtime.newId();
    const route = await router.route(context, request, message, contextId);
    const { agent, capability, wishes, decision } = route;
    await policy.admit(context, agent);
    const { workspaceId } = context;
    const pushConfig = request.configuration?.taskPushNotificationConfig;
    const pushing = pushConfig && (await deps.pushConfigs.prepare(pushConfig));
    const createdAt = runtime.now();
    const lifeMs = Math.min(deps.taskTimeoutMs, wishes.deadlineMs ?? Number.POSITIVE_INFINITY);
    const header: TaskRequest = {
      workspaceId,
      taskId: runtime.newId(),
      contextId,
      agentId: agent.agentId,
      capabilityId: capability?.capabilityId,
      createdAt,
      deadlineAt: new Date(createdAt.getTime() + lifeMs),
      priority: wishes.priority ?? "NORMAL",
      disclosed: request.configuration?.returnImmediately ?? false,
      hasPush: pushing !== undefined,
      upstreamTaskId: undefined,
      upstreamContextId: known
        ? await deps.store.findUpstreamContext(workspaceId, message.contextId, agent.agentId)
        : undefined,
    };
    const stored = { ...message, taskId: header.taskId, contextId: header.contextId };
    // Listening begins before the task does, so that its first update is heard.
    const updates = watch(context, header.taskId, 1, true);
    try {
      const work = new AcceptedWork(context, request, endpointFor(agent, capability), stored);
      const image = await dispatcher.begin(header, work, {
        decision: encode(RouteDecisionSchema, decision),
        ...(pushing && { beforeStart: () => pushing.store(workspaceId, header.taskId, "start") }),
      });
      updates.taskIsStored();
      return { image, updates };
    } catch (error) {
      updates.end();
      throw error;
    }
  }

  async function proceed(context: RequestContext, request: SendMessageRequest): Promise<Accepted> {
    const message = messageIn(request);
    const image = await tasks.visible(context, request.tenant, message.taskId);
    const { header } = image;
    if (message.contextId !== "" && message.contextId !== header.contextId) {
      throw invalidArgument([
        { field: "message.contextId", description: `is not the context of task "${header.taskId}"; leave it out` },
      ]);
    }
    if (isTerminal(stateOf(image))) throw messageToEnded(image);
    const agent = await router.agent(context, header.agentId);
    if (!agent) {
      throw unsupportedOperation(`Agent "${header.agentId}", which works on this task, has left. Begin a new task.`);
    }
    checkExtensions(context.extensions, agent.card);
    checkMediaTypes(message, agent.card);
    await policy.admit(context, agent);
    const pushConfig = request.configuration?.taskPushNotificationConfig;
    await (pushConfig && (await deps.pushConfigs.prepare(pushConfig)))?.store(
      context.workspaceId,
      header.taskId,
      "now",
    );
    const stored = { ...message, contextId: header.contextId };
    const work = new AcceptedWork(context, request, agent, stored);
    const accepted = await dispatcher.proceed(image, work, context.signal);
    return { image: accepted, updates: watch(context, header.taskId, accepted.seq, false) };
  }

  return (context, request) => (request.message?.taskId ? proceed(context, request) : begin(context, request));
}

/** The message of a request in which nothing is wrong. */
function messageIn(request: SendMessageRequest): Message {
  const missing = missingFields(SendMessageRequestSchema, request);
  const beyond = sendViolations(request);
  refuse(missing.length === 0 ? beyond : [...missing, ...beyond]);
  const { message } = request;
  if (!message) throw invalidArgument([{ field: "message", description: "is required" }]);
  return message;
}

class AcceptedWork implements Work {
  readonly agent: AgentEndpoint;
  readonly message: Message;
  readonly delivery: Delivery;
  readonly #context: RequestContext;

  constructor(context: RequestContext, request: SendMessageRequest, agent: AgentEndpoint, message: Message) {
    this.agent = agent;
    this.message = message;
    this.delivery = deliveryOf(context, request);
    this.#context = context;
  }

  get log(): Logger {
    return this.#context.log;
  }
}

function deliveryOf({ extensions, traceparent }: RequestContext, { configuration, metadata }: SendMessageRequest) {
  const modes = configuration?.acceptedOutputModes ?? [];
  const delivery: Delivery = {
    extensions: extensions.length === 0 ? extensions : extensions.filter((uri) => uri !== UPDATES_EXTENSION),
  };
  if (modes.length > 0) delivery.acceptedOutputModes = modes;
  if (metadata) delivery.metadata = metadata;
  if (traceparent !== undefined) delivery.traceparent = traceparent;
  return delivery;
}
