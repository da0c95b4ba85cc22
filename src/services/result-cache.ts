/**
 * Results of earlier tasks, given again to who asks the same. A result is the log of its task: the table says which task it
 * is, and whoever asks the same has a task of its own, to which the first one's result is reported as an agent would.
 */
import type { Logger } from "pino";
import type { Message, SendMessageRequest } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import { resultOf } from "../domain/cached-result.ts";
import { resultKey } from "../domain/request-digest.ts";
import { DEFAULT_ROLLOUT } from "../domain/rollout.ts";
import { type RoutingWishes, routingWishes } from "../domain/routing-extension.ts";
import { foldTask } from "../domain/task-log.ts";
import { EngineState, isLeased } from "../domain/task-state.ts";
import type { ResultCacheRepository, ResultEntry, ResultTask } from "../store/result-cache-repository.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { AgentDirectory, Offer } from "./agent-directory.ts";
import type { LookupOutcome } from "./lookup-counts.ts";
import type { Admitted } from "./policy.ts";
import type { RequestContext } from "./request-context.ts";
import { ABSENT_MS, followResult } from "./result-follower.ts";
import { type ResultTerms, resultTerms } from "./result-terms.ts";
import type { Rollouts } from "./rollouts.ts";
import type { Route } from "./router.ts";
import { cachedRoute } from "./routing/cached-route.ts";
import type { Runtime } from "./runtime.ts";
import type { SearchPolicy } from "./search-policy.ts";
import type { StandIn } from "./stand-in.ts";
import type { UpdateHub } from "./update-hub.ts";

/** Others may be faster so often before a task is carried without the cache. */
const MOST_TRIES = 3;

/** What the cache has to say of a new task. */
export interface CacheAnswer {
  /** Answers in the agent's place, or waits for the answer; undefined where the agent is asked. */
  readonly standIn?: StandIn;
  /** Where the result comes from, if it is there; else the task is routed as any other. */
  readonly route?: Route;
  /** To be called when the task was refused after all: its result will not come. */
  withdraw(): Promise<void>;
}

export interface ResultCache {
  /**
   * Looks whether the result of a new task, which will be called `taskId`, is there. Undefined: the cache has no part in it.
   * Results come only of agents that the caller may have the task given to without more ado.
   */
  lookup(
    context: RequestContext,
    request: SendMessageRequest,
    taskId: string,
    admitted: Admitted,
  ): Promise<CacheAnswer | undefined>;
}

export interface ResultCacheDeps {
  repository: ResultCacheRepository;
  directory: AgentDirectory;
  /** What steers a capability: a result that came of another steering is not given again. */
  rollouts: Pick<Rollouts, "load" | "of">;
  store: TaskStore;
  hub: UpdateHub;
  runtime: Runtime;
  log: Logger;
  /** Largest log of a task whose result is given again, in bytes. */
  maxBytes: number;
  /** Told how each lookup ended. */
  onLookup: (workspaceId: string, capabilityId: string, outcome: LookupOutcome) => void;
}

/** What is asked for, and on what terms. */
interface Ask {
  readonly workspaceId: string;
  /** Of the agents whose results may be given. */
  readonly offers: readonly Offer[];
  readonly policy: SearchPolicy;
  readonly terms: ResultTerms;
  readonly wishes: RoutingWishes;
  readonly entry: ResultEntry;
}

const NOTHING = async () => {};

export function createResultCache(deps: ResultCacheDeps): ResultCache {
  const { repository, directory, rollouts, store, runtime, log } = deps;

  /** What of a request the cache can be asked for; undefined where it has no part in it. */
  async function askOf(
    ...[context, request, taskId, admitted]: Parameters<ResultCache["lookup"]>
  ): Promise<Ask | undefined> {
    const { message } = request;
    const asked = message && isSelfContained(message) ? capabilityAsked(context, request) : undefined;
    if (!message || !asked) return undefined;
    const { capabilityId, wishes } = asked;
    const { workspaceId } = context;
    const offers = (await directory.agents(workspaceId)).byCapability.get(capabilityId);
    const terms = offers && resultTerms(offers);
    if (!terms || terms.ttlMs === 0 || wishes.noStore || context.noStore) return undefined;
    const { ttlMs } = terms;
    await rollouts.load(workspaceId);
    const steering = rollouts.of(workspaceId, capabilityId);
    const steered = steering === DEFAULT_ROLLOUT ? "" : ` ${JSON.stringify(steering)}`;
    const generation = terms.generation + steered;
    const principalId = terms.isShared ? undefined : context.principal.id;
    let key: Uint8Array;
    try {
      key = resultKey({ workspaceId, capabilityId, generation, principalId }, request, context.extensions);
    } catch (err) {
      // What JSON cannot hold has no canonical form.
      log.debug({ err }, "a message without a canonical form is not looked up");
      return undefined;
    }
    const policy = admitted.search(asked.source, capabilityId);
    const { judge } = policy;
    const allowed = judge ? offers.filter((offer) => judge.of(offer).effect === "ALLOW") : offers;
    if (allowed.length === 0) return undefined;
    return {
      workspaceId,
      offers: allowed,
      policy,
      terms,
      wishes,
      entry: { key, capabilityId, taskId, ttlMs, createdAt: runtime.now() },
    };
  }

  /** Whether the result of a task may be given now. */
  function isOfUse({ offers, terms }: Ask, { agentId, state, since, bytes }: NonNullable<ResultTask["task"]>): boolean {
    const isFresh = runtime.now().getTime() - since.getTime() < terms.ttlMs;
    const isOffered = offers.some(({ agent }) => agent.agentId === agentId);
    return state === EngineState.COMPLETED && isFresh && isOffered && bytes <= deps.maxBytes;
  }

  async function hit(ask: Ask, { taskId, task }: ResultTask): Promise<CacheAnswer | undefined> {
    const offer = ask.offers.find(({ agent }) => agent.agentId === task?.agentId);
    const stored = offer && (await store.load(ask.workspaceId, taskId));
    const result = stored && resultOf(foldTask(stored.header, stored.updates), ask.entry.taskId);
    if (!offer || !result) return undefined;
    const route = cachedRoute(offer, ask.wishes, runtime.now());
    ask.policy.note(route.decision, route);
    return {
      standIn: { isReady: true, answer: async () => result },
      route,
      withdraw: NOTHING,
    };
  }

  function follow(ask: Ask, taskId: string): CacheAnswer {
    const { workspaceId, entry } = ask;
    const following = {
      workspaceId,
      taskId,
      for: entry.taskId,
      isOfUse: (task: NonNullable<ResultTask["task"]>) => isOfUse(ask, task),
    };
    const answer: StandIn["answer"] = (options) => followResult(deps, following, options);
    return { standIn: { isReady: false, answer }, withdraw: NOTHING };
  }

  function lead({ workspaceId, entry }: Ask): CacheAnswer {
    return {
      async withdraw() {
        await repository.withdraw(workspaceId, entry).catch((err: unknown) => {
          log.warn({ err }, "an entry of the result cache is left without a task; it will be replaced");
        });
      },
    };
  }

  async function settle(ask: Ask): Promise<[LookupOutcome, CacheAnswer | undefined]> {
    const { workspaceId, entry } = ask;
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const known = await repository.enter(workspaceId, entry);
      if (!known) return ["miss", lead(ask)];
      const { task } = known;
      if (!task && runtime.now().getTime() - known.createdAt.getTime() < ABSENT_MS) {
        return ["follow", follow(ask, known.taskId)];
      }
      if (task && isLeased(task.state)) return ["follow", follow(ask, known.taskId)];
      // It waits for something, and may wait long.
      if (task && WAITS.has(task.state)) return ["miss", undefined];
      const found = task && isOfUse(ask, task) ? await hit(ask, known) : undefined;
      if (found) return ["hit", found];
      if (await repository.replace(workspaceId, known.taskId, entry)) return ["miss", lead(ask)];
    }
    return ["miss", undefined];
  }

  return {
    async lookup(...asked) {
      const ask = await askOf(...asked);
      if (!ask) return undefined;
      const [outcome, answer] = await settle(ask);
      deps.onLookup(ask.workspaceId, ask.entry.capabilityId, outcome);
      return answer;
    },
  };
}

const WAITS: ReadonlySet<EngineState> = new Set([
  EngineState.QUEUED,
  EngineState.SCHEDULED,
  EngineState.INPUT_REQUIRED,
]);

/**
 * Whether a message is all that its answer depends on, as far as the router knows: it belongs to no conversation, refers to
 * no task, and holds nothing that only a newer version of the contract has a name for.
 */
const isSelfContained = ({ contextId, taskId, referenceTaskIds, parts, $unknown }: Message): boolean =>
  contextId === "" &&
  taskId === "" &&
  referenceTaskIds.length === 0 &&
  !$unknown &&
  parts.every((part) => !part.$unknown);

/** The capability that a request names, as the router will read it. What the router refuses is left to it. */
function capabilityAsked(
  { addressTarget }: RequestContext,
  { tenant, metadata }: SendMessageRequest,
): { capabilityId: string; wishes: RoutingWishes; source: RouteSource } | undefined {
  const named = addressTarget ?? tenant;
  const isCapability = named.startsWith("c.");
  if (named === "" ? !metadata : !isCapability || (tenant !== "" && tenant !== named)) return undefined;
  const wishes = routingWishes(metadata);
  if (Array.isArray(wishes)) return undefined;
  const capabilityId = isCapability ? named.slice(2) : wishes.capability;
  if (capabilityId === undefined || (wishes.capability ?? capabilityId) !== capabilityId) return undefined;
  const source = addressTarget ? RouteSource.ADDRESS : isCapability ? RouteSource.TENANT : RouteSource.EXTENSION;
  return { capabilityId, wishes, source };
}
