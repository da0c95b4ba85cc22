/**
 * Which agent takes a task. The first that says something decides where to look: the address, the tenant, the routing
 * extension, the text of the message, the workspace's default; what is found there, fits the message and is where a rollout
 * wants it is chosen among by a strategy. When that is nobody, the rollout may name who is asked next.
 */
import { fromBinary } from "@bufbuild/protobuf";
import type { Message, SendMessageRequest } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type RouteDecision, RouteDecisionSchema, RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import type { Capability } from "../domain/capability.ts";
import { invalidArgument, type SignalboxError } from "../domain/errors.ts";
import type { ApprovalTerms } from "../domain/policy/verdict.ts";
import type { FallbackCondition } from "../domain/rollout.ts";
import { givenCondition } from "../domain/rollout-rules.ts";
import type { StrategyName } from "../domain/routing/strategy.ts";
import { type RoutingWishes, routingWishes } from "../domain/routing-extension.ts";
import { heldForCapabilityId, type TaskHeader } from "../domain/task-log.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { AgentEndpoint } from "./agent-port.ts";
import { endpointOf } from "./another-agent.ts";
import type { Admitted, Policy } from "./policy.ts";
import type { RequestContext } from "./request-context.ts";
import type { AgentAvailability } from "./routing/availability.ts";
import { createBreather } from "./routing/breather.ts";
import { type DecideDeps, decide, undecided } from "./routing/decide.ts";
import { distrustIn } from "./routing/distrust.ts";
import { type FallbackDeps, type Found, findWithFallback, nextInChain, type Quest } from "./routing/fallback.ts";
import { NoRouteError, noRoute, nothingFits } from "./routing/no-route.ts";
import type { Ask, Cut, Possible } from "./routing/offers.ts";
import { alone, type ResolvedTarget, type Search } from "./routing/searches.ts";
import { traceOf } from "./routing/steer.ts";
import { textOf } from "./routing/text.ts";
import { createTurns } from "./routing/turns.ts";
import { createWhereToLook } from "./routing/where-to-look.ts";
import type { WorkspaceRouting, WorkspaceSettings } from "./routing/workspace-settings.ts";

/** Where a task goes. */
export interface Rerouted extends Possible {
  /** Without the task's id. Its `capability_id` is what the task is remembered by, whoever takes it. */
  readonly decision: RouteDecision;
}

/** Where a new task goes. */
export interface Route extends Rerouted {
  readonly wishes: RoutingWishes;
  /** On what terms the policy wants it approved first. */
  readonly approval?: ApprovalTerms | undefined;
}

export interface Router {
  /**
   * What a request names by its address or its `tenant`; undefined when it names nothing. A capability with a rollout of its
   * own is known also while nobody offers it. Throws TARGET_NOT_FOUND.
   */
  target(context: RequestContext, tenant: string): Promise<ResolvedTarget | undefined>;
  /**
   * The agent that takes a new task. `key` is what should stay with one agent: the task's context. `admitted` says which agents
   * the policy allows.
   *
   * @throws SignalboxError INVALID_ARGUMENT (the extension's values, or what contradicts the target), TARGET_NOT_FOUND,
   * NO_ROUTE (a NoRouteError), AGENT_UNAVAILABLE, POLICY_DENIED where the policy refuses all agents that could take it, or what
   * the only agent in question answers to such a message.
   */
  route(
    context: RequestContext,
    request: SendMessageRequest,
    message: Message,
    key: string,
    admitted: Admitted,
  ): Promise<Route>;
  /**
   * What `route` would decide, without taking anybody's turn. Where some were in question and none can take the task, that is
   * the decision, with what cut them; where nobody was, it throws what `route` throws.
   *
   * @throws SignalboxError POLICY_DENIED for what the caller may not ask for.
   */
  preview(context: RequestContext, request: SendMessageRequest, message: Message): Promise<RouteDecision>;
  /**
   * Who is asked next, by the fallback chain, for a task that was given to an agent and cannot stay there. Those of `exclude`
   * and the agent that has it are passed over. Undefined when there is nobody, or when the client has named the agent: nobody
   * else will do then.
   */
  reroute(
    task: TaskHeader,
    message: Message,
    condition: FallbackCondition,
    exclude: Iterable<string>,
  ): Promise<Rerouted | undefined>;
  /** The agent of a task that exists, and what it has it for; undefined when it has left. */
  offer(task: TaskHeader): Promise<Possible | undefined>;
  /** The same agent, as the task was given to it. */
  endpoint(task: TaskHeader): Promise<AgentEndpoint | undefined>;
  /** How long, as is declared, the agent of a task takes for what it has it for, in milliseconds. */
  averageLatencyMs(task: TaskHeader): Promise<number | undefined>;
}

export interface RouterDeps extends DecideDeps, FallbackDeps {
  directory: AgentDirectory;
  policy: Pick<Policy, "admit" | "readmit">;
  settings: Pick<WorkspaceSettings, "of">;
  /** What chooses where neither a message nor its workspace says. */
  strategy: StrategyName;
  /** The bytes of the decision that was stored with a task; undefined when none was. */
  readDecision: (workspaceId: string, taskId: string) => Promise<Uint8Array | undefined>;
  /** Which agents take no new tasks; left out, all do. */
  availability?: Pick<AgentAvailability, "troubles" | "chosen">;
}

/** No agent takes a task. */
interface Nowhere {
  readonly error: SignalboxError;
  /** What is kept of where an agent was looked for. */
  readonly decision: RouteDecision;
  /** Whether anything said where to look. */
  readonly wasNamed: boolean;
  /** Whether the workspace wants a task that is REJECTED. */
  readonly rejects: boolean;
}

export function createRouter(deps: RouterDeps): Router {
  const { directory, rollouts } = deps;
  const { target, searchesFor } = createWhereToLook(deps);
  const turnOf = createTurns();
  const breathe = createBreather(deps.runtime);

  async function route(...asked: Parameters<Router["route"]>): Promise<Route> {
    const [context, request, message, key, admitted] = asked;
    const found = await look(context, request, message, key, admitted, false);
    if (!("error" in found)) return found;
    const { error, decision, rejects } = found;
    if (rejects && error instanceof NoRouteError) error.rejection = decision;
    throw error;
  }

  async function preview(...[context, request, message]: Parameters<Router["preview"]>): Promise<RouteDecision> {
    const admitted = await deps.policy.admit(context, request, message, undefined);
    const found = await look(context, request, message, message.contextId, admitted, true);
    if ("error" in found && !found.wasNamed) throw found.error;
    return found.decision;
  }

  async function look(
    context: RequestContext,
    request: SendMessageRequest,
    message: Message,
    key: string,
    admitted: Admitted,
    isPreview: boolean,
  ): Promise<Route | Nowhere> {
    const wishes = routingWishes(request.metadata);
    if (Array.isArray(wishes)) throw invalidArgument(wishes);
    const { workspaceId, extensions } = context;
    const named = await target(context, request.tenant);
    const agents = await directory.agents(workspaceId);
    const loading = rollouts.load(workspaceId);
    if (loading) await loading;
    const trusting = deps.trust.load(workspaceId);
    if (trusting) await trusting;
    const settings = await deps.settings.of(workspaceId);
    const ask: Ask = {
      message,
      extensions,
      wishes,
      troubles: deps.availability?.troubles(workspaceId),
      distrust: distrustIn(deps.trust, workspaceId),
    };
    // A preview that names no context is of any one: a canary's share of previews shows the canary.
    const task = { workspaceId, agents, key: key || deps.runtime.newId() };
    // Checking data against schemas is what can take long.
    const hasData = message.parts.some(({ content }) => content.case === "data");
    // Where nothing fits anywhere, what was looked for first is what the client hears of.
    let nothing: { search: Search; cuts: readonly Cut[] } | undefined;
    for (const search of await searchesFor(context, named, { agents, wishes, message })) {
      const policy = admitted.search(search.source, search.capabilityId);
      const quest: Quest = { ...task, ask: { ...ask, judge: policy.judge } };
      const found = hasData
        ? await breathe(() => findWithFallback(deps, quest, search))
        : findWithFallback(deps, quest, search);
      if (found.steered.fit.length > 0) {
        const route = settle(quest, settings, search, found, isPreview);
        const approval = policy.note(route.decision, route);
        return { ...route, wishes, ...(approval && { approval }) };
      }
      nothing ??= { search, cuts: found.steered.cuts };
    }
    const text = textOf(message);
    const error = nothing ? nothingFits(nothing.cuts, agents, text) : noRoute(agents, text);
    const { source, matches = [], capabilityId } = nothing?.search ?? { source: RouteSource.UNSPECIFIED };
    const decision = undecided(deps, { source, capabilityId, settings, cuts: nothing?.cuts ?? [], matches });
    return { error, decision, wasNamed: nothing !== undefined, rejects: settings.rejects };
  }

  /** Chooses among those who fit. `asked` is what was looked for first, which the task is remembered by. */
  function settle(
    { workspaceId, ask, key }: Quest,
    settings: WorkspaceRouting,
    asked: Search,
    found: Found,
    isPreview: boolean,
  ): Rerouted {
    const { search, steered, by } = found;
    const { chosen, decision } = decide(deps, {
      workspaceId,
      source: asked.source,
      capabilityId: asked.capabilityId,
      strategy: ask.wishes.strategy ?? settings.strategy ?? deps.strategy,
      settings,
      key,
      turn: turnOf(`${workspaceId} ${search.capabilityId ?? ""}`, !isPreview),
      fit: steered.fit,
      cuts: steered.cuts,
      matches: asked.matches ?? [],
      rollout: traceOf(steered, by && { step: by.step, condition: givenCondition(by.condition) }),
    });
    if (!isPreview) deps.availability?.chosen(workspaceId, chosen.agent.agentId);
    return { ...chosen, decision };
  }

  async function reroute(
    task: TaskHeader,
    message: Message,
    condition: FallbackCondition,
    exclude: Iterable<string>,
  ): Promise<Rerouted | undefined> {
    const { workspaceId, capabilityId, delivery } = task;
    await rollouts.load(workspaceId);
    await deps.trust.load(workspaceId);
    const { fallbackChain } = rollouts.of(workspaceId, capabilityId);
    if (!fallbackChain.some(({ conditions }) => conditions.includes(condition))) return undefined;
    const wishes = routingWishes(delivery.metadata);
    if (Array.isArray(wishes) || wishes.agent !== undefined) return undefined;
    const stored = await deps.readDecision(workspaceId, task.taskId);
    const before = stored && fromBinary(RouteDecisionSchema, stored);
    if (!before || (before.capabilityId === "" && before.source !== RouteSource.DEFAULT)) return undefined;
    const agents = await directory.agents(workspaceId);
    const troubles = deps.availability?.troubles(workspaceId);
    const { source, matches } = before;
    const policy = (await deps.policy.readmit(task, before)).search(source);
    const { judge } = policy;
    const distrust = distrustIn(deps.trust, workspaceId);
    const ask: Ask = { message, extensions: delivery.extensions ?? [], wishes, troubles, judge, distrust };
    const quest: Quest = { workspaceId, agents, ask, key: task.contextId };
    const asked: Search = { source, matches, offers: [], ...(capabilityId !== undefined && { capabilityId }) };
    const passed = new Set([task.agentId, ...exclude]);
    const next = nextInChain(deps, quest, asked, condition, passed);
    if (!next) return undefined;
    const cuts: readonly Cut[] = [
      { reason: "FAILED", agentIds: [...passed], refusal: undefined },
      ...next.steered.cuts,
    ];
    const settings = await deps.settings.of(workspaceId);
    const rerouted = settle(quest, settings, asked, { ...next, steered: { ...next.steered, cuts } }, false);
    policy.note(rerouted.decision, rerouted);
    return rerouted;
  }

  /** What the agent of a task offers where the task was given to a capability. */
  async function capabilityOf({ workspaceId, agentId, capabilityId }: TaskHeader): Promise<Capability | undefined> {
    if (capabilityId === undefined) return undefined;
    const { capabilities } = await directory.agents(workspaceId);
    return capabilities.get(agentId)?.find((each) => each.capabilityId === capabilityId);
  }

  /** The agent of a task, and what it offers now. */
  async function offerNow(task: TaskHeader): Promise<Possible | undefined> {
    const agent = await directory.agent(task.workspaceId, task.agentId);
    if (!agent) return undefined;
    // Whoever has it for what its client asked for, without offering that, is not asked for anything else.
    if (heldForCapabilityId(task) === undefined) return alone(agent, await directory.agents(task.workspaceId));
    return { agent, capability: await capabilityOf(task) };
  }

  async function offer(task: TaskHeader): Promise<Possible | undefined> {
    const now = await offerNow(task);
    const { workspaceId, agentId, createdAt, upstreamTaskId } = task;
    const isSinceThen = now !== undefined && now.agent.createdAt <= createdAt;
    if (isSinceThen || upstreamTaskId === undefined) return now;
    // Its agent has it already: what ends with a grant is that it gets new ones, and who has its id now never had the task.
    const then = await directory.agentAt(workspaceId, agentId, createdAt);
    if (then) return { agent: then, capability: undefined };
    // Nor does a lender's agent hear of what somebody else was given, before it was lent.
    return now?.agent.home ? undefined : now;
  }

  return {
    target,
    route,
    preview,
    reroute,
    offer,
    async endpoint(task) {
      const found = await offer(task);
      return found && endpointOf(found);
    },
    averageLatencyMs: async (task) => (await capabilityOf(task))?.averageLatencyMs,
  };
}
