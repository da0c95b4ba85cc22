/** Accepts messages: validate, authorize, ask the policy, look for an earlier result, route, store. The way of every message. */
import type { Logger } from "pino";
import { type Message, type SendMessageRequest, SendMessageRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type RouteDecision, RouteDecisionSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import { decisionFacts } from "../domain/audit/decision-facts.ts";
import { isBudgetExceeded } from "../domain/budget/budget-errors.ts";
import type { DelegatingTask } from "../domain/budget/hold.ts";
import { encode } from "../domain/encode.ts";
import { invalidArgument, unsupportedOperation } from "../domain/errors.ts";
import { type Viewer, viewerOf } from "../domain/identity/visibility.ts";
import { checkExtensions, checkMediaTypes, sendViolations } from "../domain/message-rules.ts";
import { refuse } from "../domain/refusal.ts";
import { missingFields } from "../domain/required-fields.ts";
import { type Delivery, stateOf, type TaskImage } from "../domain/task-log.ts";
import { isTerminal } from "../domain/task-state.ts";
import { UPDATES_EXTENSION } from "../domain/updates-extension.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { AgentEndpoint } from "./agent-port.ts";
import { endpointOf } from "./another-agent.ts";
import type { Approvals } from "./approvals/approvals.ts";
import type { Budgets, Reservation } from "./budget-port.ts";
import type { Delegations } from "./delegations.ts";
import { messageToEnded } from "./dispatch-errors.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Work } from "./further-messages.ts";
import type { Idempotency, KeyHold } from "./idempotency.ts";
import { bothOf, type TaskLimits } from "./limits/workspace-limits.ts";
import type { TaskRequest } from "./new-tasks.ts";
import type { Admitted, Policy } from "./policy.ts";
import type { PushConfigs } from "./push-configs.ts";
import { createRejectTask } from "./rejected-tasks.ts";
import type { RequestContext } from "./request-context.ts";
import type { CacheAnswer, ResultCache } from "./result-cache.ts";
import type { Route, Router } from "./router.ts";
import { NoRouteError } from "./routing/no-route.ts";
import type { Runtime } from "./runtime.ts";
import type { Tasks } from "./tasks.ts";
import { accessNeeded, type Trust } from "./trust.ts";
import type { UpdateHub } from "./update-hub.ts";
import { type TaskWatch, watchTask } from "./watch.ts";

export interface AcceptDeps {
  store: TaskStore;
  hub: UpdateHub;
  router: Router;
  policy: Policy;
  budgets: Budgets;
  /** Told of each task that is refused for what it costs, be it before it is stored or there. */
  onBudgetRefused: () => void;
  /** What the workspace of a message may use. */
  limits: TaskLimits;
  delegations: Delegations;
  trust: Trust;
  dispatcher: Dispatcher;
  idempotency: Idempotency;
  cache: ResultCache;
  tasks: Tasks;
  pushConfigs: PushConfigs;
  approvals: Pick<Approvals, "answer">;
  runtime: Runtime;
  /** How long a task may take from its acceptance to its end, unless its client asks for less, in milliseconds. */
  taskTimeoutMs: number;
}

/** A message that is stored, and what comes of it. */
export interface Accepted {
  image: TaskImage;
  updates: TaskWatch;
}

/** What is known of a task before it is routed. */
interface NewTask {
  readonly message: Message;
  readonly taskId: string;
  readonly parent: DelegatingTask | undefined;
  readonly admitted: Admitted;
  readonly cached: CacheAnswer | undefined;
  readonly keyHold: KeyHold | undefined;
  /** Of its workspace's quota. */
  readonly place: Reservation | undefined;
}

export type Accept = (context: RequestContext, request: SendMessageRequest) => Promise<Accepted>;

export function createAccept(deps: AcceptDeps): Accept {
  const { router, policy, dispatcher, tasks, runtime } = deps;
  const reject = createRejectTask(deps);

  const watch = ({ workspaceId, signal }: RequestContext, taskId: string, after: number, fresh: boolean) =>
    watchTask(deps, { workspaceId, taskId, after, fresh, signal });

  /** What has a key is done once: who sends it again is shown what came of it. */
  async function once(context: RequestContext, request: SendMessageRequest, key: string): Promise<Accepted> {
    const message = messageIn(request);
    const known = message.taskId === "" ? undefined : await tasks.changeable(context, request.tenant, message.taskId);
    // To decide once more changes nothing, and is no part of the history, by which keys know what came of them.
    const decided = known && (await decide(context, message, known));
    if (decided) return decided;
    const place = { taskId: known?.header.taskId ?? runtime.newId(), afterSeq: known?.seq ?? 0 };
    const done = await deps.idempotency.once(context, request, key, place, (keyHold) =>
      known ? proceed(context, request, keyHold) : begin(context, request, place.taskId, keyHold),
    );
    if ("first" in done) return done.first;
    const { image } = done;
    return { image, updates: watch(context, image.header.taskId, image.seq, false) };
  }

  async function begin(
    context: RequestContext,
    request: SendMessageRequest,
    taskId = runtime.newId(),
    keyHold?: KeyHold,
  ): Promise<Accepted> {
    const message = messageIn(request);
    const place = await deps.limits.begin(context, taskId);
    let cached: CacheAnswer | undefined;
    try {
      const parent = await deps.delegations.parentOf(context, request);
      const admitted = await policy.admit(context, request, message, parent);
      cached = await deps.cache.lookup(context, request, taskId, admitted);
      return await admit(context, request, { message, taskId, parent, admitted, cached, keyHold, place });
    } catch (error) {
      // Unless the task may be stored.
      place?.release();
      if (isBudgetExceeded(error)) deps.onBudgetRefused();
      await cached?.withdraw();
      throw error;
    }
  }

  async function admit(
    context: RequestContext,
    request: SendMessageRequest,
    { message, taskId, parent, admitted, cached, keyHold, place }: NewTask,
  ): Promise<Accepted> {
    const known = message.contextId !== "";
    const contextId = known ? message.contextId : runtime.newId();
    let route: Route;
    try {
      route = cached?.route ?? (await router.route(context, request, message, contextId, admitted));
    } catch (error) {
      if (!(error instanceof NoRouteError) || !error.rejection) throw error;
      keyHold?.check();
      const given = { taskId, message, contextId, why: error.message, decision: error.rejection, keyHold };
      const image = await reject(context, request, given);
      // It has ended before anybody had it.
      place?.release();
      await cached?.withdraw();
      return { image, updates: watch(context, image.header.taskId, image.seq, true) };
    }
    const { agent, wishes, decision, approval: terms } = route;
    if (parent) await checkDelegate(context, parent, route);
    const { workspaceId } = context;
    const pushConfig = request.configuration?.taskPushNotificationConfig;
    const pushing = pushConfig && (await deps.pushConfigs.prepare(context, pushConfig));
    const createdAt = runtime.now();
    const lifeMs = Math.min(
      deps.taskTimeoutMs,
      wishes.deadlineMs ?? Number.POSITIVE_INFINITY,
      (parent?.deadlineAt?.getTime() ?? Number.POSITIVE_INFINITY) - createdAt.getTime(),
    );
    const isAnswered = cached?.standIn?.isReady ?? false;
    const upstreamContextId = known
      ? await deps.store.findUpstreamContext(workspaceId, {
          contextId,
          agentId: agent.agentId,
          viewer: selfAsViewer(context),
        })
      : undefined;
    const references = await referencesIn(context, message);
    const reserved = bothOf(place, await deps.budgets.reserve({ context, route, taskId, parent, isAnswered }));
    const header: TaskRequest = {
      workspaceId,
      taskId,
      contextId,
      owner: context.principal.id,
      agentId: agent.agentId,
      ...capabilityOf(route),
      createdAt,
      deadlineAt: new Date(createdAt.getTime() + lifeMs),
      priority: wishes.priority ?? "NORMAL",
      disclosed: request.configuration?.returnImmediately ?? false,
      hasPush: pushing !== undefined,
      ...(reserved && { holds: reserved.holds }),
      ...(parent && { parent: { taskId: parent.taskId, agentId: parent.agentId, depth: parent.depth } }),
      upstreamTaskId: undefined,
      upstreamContextId,
    };
    const stored = { ...message, taskId: header.taskId, contextId: header.contextId };
    // Listening begins before the task does, so that its first update is heard.
    const updates = watch(context, header.taskId, 1, true);
    try {
      keyHold?.check();
      const work = new AcceptedWork(context, request, endpointOf(route), stored, references);
      const image = await dispatcher.begin(header, work, {
        decision: encode(RouteDecisionSchema, decision),
        facts: decisionFacts(decision),
        ...(keyHold && { reservedBy: keyHold.replicaId }),
        ...(terms && { approval: { terms, principalId: context.principal.id, policyVersion: versionOf(decision) } }),
        ...(cached?.standIn && !terms && { standIn: cached.standIn }),
        ...(reserved && { reserved }),
        ...(pushing && { beforeStart: (held) => pushing.store(workspaceId, header.taskId, "start", held) }),
      });
      updates.taskIsStored();
      // Whoever asks for the same would wait as long as this one does.
      if (terms) await cached?.withdraw();
      return { image, updates };
    } catch (error) {
      updates.end();
      // Unless the task may be stored.
      reserved?.release();
      throw error;
    }
  }

  /** Who delegates must be trusted with what it asks for. */
  async function checkDelegate({ workspaceId }: RequestContext, { agentId }: DelegatingTask, { capability }: Route) {
    await deps.trust.load(workspaceId);
    const refusal = deps.trust.refusal({ workspaceId, agentId, access: accessNeeded(capability), as: "caller" });
    if (refusal) throw refusal;
  }

  /** The tasks that a message refers to and that its sender sees. */
  async function referencesIn({ workspaceId, principal }: RequestContext, { referenceTaskIds }: Message) {
    if (referenceTaskIds.length === 0) return NO_REFERENCES;
    return deps.store.seenTaskIds(workspaceId, referenceTaskIds, viewerOf(principal));
  }

  /** What a message to a task does to its approval; undefined where it is no matter of approvals. */
  async function decide(context: RequestContext, message: Message, image: TaskImage): Promise<Accepted | undefined> {
    const { taskId, contextId } = image.header;
    if (message.contextId !== "" && message.contextId !== contextId) {
      throw invalidArgument([
        { field: "message.contextId", description: `is not the context of task "${taskId}"; leave it out` },
      ]);
    }
    const decided = await deps.approvals.answer(context, image, message);
    return decided && { image: decided, updates: watch(context, taskId, decided.seq, false) };
  }

  async function proceed(context: RequestContext, request: SendMessageRequest, keyHold?: KeyHold): Promise<Accepted> {
    const message = messageIn(request);
    const image = await tasks.changeable(context, request.tenant, message.taskId);
    const { header } = image;
    const decided = await decide(context, message, image);
    if (decided) return decided;
    if (isTerminal(stateOf(image))) throw messageToEnded(image);
    const offer = await router.offer(header);
    if (!offer) {
      throw unsupportedOperation(`Agent "${header.agentId}", which works on this task, has left. Begin a new task.`);
    }
    const agent = endpointOf(offer);
    checkExtensions(context.extensions, agent.card);
    checkMediaTypes(message, agent.card);
    await deps.limits.proceed(context.workspaceId);
    await policy.proceed(context, request, message, header, offer);
    const pushConfig = request.configuration?.taskPushNotificationConfig;
    await (pushConfig && (await deps.pushConfigs.prepare(context, pushConfig)))?.store(
      context.workspaceId,
      header.taskId,
      "now",
    );
    const stored = { ...message, contextId: header.contextId };
    const references = await referencesIn(context, message);
    const work = new AcceptedWork(context, request, agent, stored, references);
    keyHold?.check();
    const accepted = await dispatcher.proceed(image, work, context.signal);
    return { image: accepted, updates: watch(context, header.taskId, accepted.seq, false) };
  }

  return async (context, request) => {
    const key = deps.idempotency.keyOf(context, request);
    if (key !== undefined) return once(context, request, key);
    return request.message?.taskId ? proceed(context, request) : begin(context, request);
  };
}

const NO_REFERENCES: readonly string[] = [];

/** Whoever sees all tasks goes on with none but its own contexts, and those that are shared with it. */
const selfAsViewer = ({ principal }: RequestContext): Viewer => ({ id: principal.id, roles: [...principal.roles] });

/** The version of the policy by which a route was decided; 0 where there is none. */
const versionOf = ({ policy }: RouteDecision): number => policy?.policyVersion ?? 0;

/** For what its agent has a task, and what was asked for where that is something else: through it the task is found. */
function capabilityOf({ capability, decision }: Route): Pick<TaskRequest, "capabilityId" | "origin"> {
  const asked = decision.capabilityId || undefined;
  const capabilityId = capability?.capabilityId;
  return capabilityId === asked ? { capabilityId } : { capabilityId, origin: { agentIds: [], capabilityId: asked } };
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
  readonly principal: string;
  readonly actors: readonly string[];
  readonly #context: RequestContext;

  constructor(
    context: RequestContext,
    request: SendMessageRequest,
    agent: AgentEndpoint,
    message: Message,
    references: readonly string[],
  ) {
    this.agent = agent;
    this.message = message;
    this.delivery = deliveryOf(context, request);
    if (references.length > 0) this.delivery.references = references;
    this.principal = context.principal.id;
    this.actors = context.principal.actors;
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
