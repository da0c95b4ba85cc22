/** The registry: agents come, change and leave. */
import { create, type JsonObject } from "@bufbuild/protobuf";
import {
  type Agent,
  type ListAgentsRequest,
  type ListAgentsResponse,
  ListAgentsResponseSchema,
  type RegisterAgentRequest,
  type UpdateAgentRequest,
} from "../../gen/signalbox/v1/registry_pb.ts";
import { concurrencyViolations } from "../domain/capability-rules.ts";
import { clip, invalidArgument, SignalboxError } from "../domain/errors.ts";
import { isDnsLabel, RESERVED_IDS, slug } from "../domain/identifiers.ts";
import { lengthViolations, MAX_URI_LENGTH } from "../domain/message-rules.ts";
import { refuse } from "../domain/refusal.ts";
import type { AgentCardSource, AgentChange, AgentRecord, AgentRepository } from "../store/agent-repository.ts";
import type { Recording } from "../store/audit-trail.ts";
import type { CapabilityRepository } from "../store/capability-repository.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { AgentHealthService } from "./agent-health.ts";
import { heartbeatViolations } from "./agent-health.ts";
import type { AgentConnector, AgentPlace, CardFetcher } from "./agent-port.ts";
import type { Audit } from "./audit.ts";
import { type CardRefresh, cardDigest, MAX_ECHO_LENGTH, signatureDetail } from "./card-refresh.ts";
import { etagMismatch, revisionIn } from "./etag.ts";
import { pageLimit, pageToken, readPageToken } from "./paging.ts";
import { createRegistryCapabilities, type RegistryCapabilities } from "./registry-capabilities.ts";
import { createRegistrySearch, type RegistrySearch } from "./registry-search.ts";
import { agentNotFound, agentView, notOwn, type Standings } from "./registry-views.ts";
import type { RequestContext } from "./request-context.ts";
import type { Runtime } from "./runtime.ts";

const DEFAULT_PAGE = 50;
/** The largest revision that the database can hold. */
const MAX_REVISION = 2 ** 31 - 1;
/** What a mask of UpdateAgent may name. */
const CHANGEABLE: readonly string[] = ["card", "card_url", "safe_to_repeat", "max_concurrency", "*"];
/** Names of what was changed that the audit log keeps. */
const MOST_FIELDS = 32;
const CARD_PATH = "/.well-known/agent-card.json";

export interface Registry extends RegistryCapabilities, RegistrySearch {
  register(context: RequestContext, request: RegisterAgentRequest): Promise<Agent>;
  update(context: RequestContext, request: UpdateAgentRequest): Promise<Agent>;
  remove(context: RequestContext, agentId: string): Promise<void>;
  get(context: RequestContext, agentId: string): Promise<Agent>;
  list(context: RequestContext, request: ListAgentsRequest): Promise<ListAgentsResponse>;
  refreshCard(context: RequestContext, agentId: string): Promise<Agent>;
  setDefault(context: RequestContext, agentId: string): Promise<Agent>;
}

interface RegistryDeps {
  repository: AgentRepository;
  capabilities: CapabilityRepository;
  directory: AgentDirectory;
  connector: AgentConnector;
  cards: CardFetcher;
  cardRefresh: CardRefresh;
  health: Pick<AgentHealthService, "of" | "ofAll" | "recheck">;
  reputation: Standings;
  audit: Audit;
  runtime: Runtime;
}

export function createRegistry(deps: RegistryDeps): Registry {
  const { repository, capabilities, directory, connector, cards, cardRefresh, health, reputation, audit, runtime } =
    deps;
  const { checked } = cardRefresh;

  async function fetchCard(
    url: string,
    field: string,
    signal: AbortSignal,
    agent?: AgentPlace,
  ): Promise<AgentCardSource> {
    try {
      const fetched = await cards.fetch(url, { signal, agent });
      if (!fetched) throw new Error("a card was fetched without a condition and came back unchanged");
      const { card, json, etag, modified } = fetched;
      const source = checked({ card, cardUrl: url, cardEtag: etag, cardModified: modified }, "the card's ");
      return await cardRefresh.verified(source, json, signal);
    } catch (error) {
      if (!(error instanceof SignalboxError) || error.code !== "INVALID_ARGUMENT" || field === "") throw error;
      throw invalidArgument([{ field, description: clip(error.message, MAX_ECHO_LENGTH) }], error);
    }
  }

  /** An agent of the workspace's own. */
  async function existing({ workspaceId }: RequestContext, agentId: string): Promise<AgentRecord> {
    const agent = isDnsLabel(agentId) ? await repository.get(workspaceId, agentId) : undefined;
    if (!agent) throw await notOwn(directory, workspaceId, agentId);
    return agent;
  }

  /** An agent of the workspace, its own or lent to it. */
  async function usable({ workspaceId }: RequestContext, agentId: string): Promise<AgentRecord> {
    const own = isDnsLabel(agentId) ? await repository.get(workspaceId, agentId) : undefined;
    const agent = own ?? (await directory.agents(workspaceId)).byId.get(agentId);
    if (!agent || (!own && !agent.home)) throw agentNotFound(agentId);
    return agent;
  }

  async function show(context: RequestContext, agentId: string): Promise<Agent> {
    const { workspaceId } = context;
    const { defaultAgent } = await directory.agents(workspaceId);
    const agent = await usable(context, agentId);
    await reputation.load(workspaceId);
    const standing = reputation.standing(workspaceId, agentId, undefined);
    return agentView(agent, defaultAgent?.agentId, connector, await health.of(workspaceId, agentId), standing);
  }

  const recording = (context: RequestContext, action: string, agentId: string, detail?: JsonObject): Recording =>
    audit.recording(context, { action, targetType: "agent", targetId: agentId, ...(detail && { detail }) });

  /** What changed is seen by the next request here, and by other replicas within a second. */
  function changed(context: RequestContext): void {
    directory.changed(context.workspaceId);
  }

  return {
    ...createRegistryCapabilities({ agents: repository, capabilities, directory, reputation, audit, runtime }),
    ...createRegistrySearch(directory, connector, health, reputation),

    async register(context, request) {
      const wanted = request.agentId;
      if (wanted !== "") refuse(agentIdViolations(wanted));
      refuse(heartbeatViolations(request.heartbeatTtlMs));
      refuse(concurrencyViolations("maxConcurrency", request.maxConcurrency));
      const source = await sourceOf(request, context.signal);
      const agentId = wanted || slug(source.card.name);
      if (!agentId || RESERVED_IDS.has(agentId)) {
        throw invalidArgument([
          { field: "agentId", description: `no id can be made from the card's name "${source.card.name}"; give one` },
        ]);
      }
      const { safeToRepeat, maxConcurrency, heartbeatTtlMs } = request;
      const agent = { source, safeToRepeat, maxConcurrency, heartbeatTtlMs: heartbeatTtlMs || undefined };
      const record = recording(context, "agent.register", agentId, {
        card: cardDigest(source),
        ...signatureDetail(source),
        safeToRepeat,
        maxConcurrency,
      });
      const stored = await repository.insert(context.workspaceId, agentId, agent, runtime.now(), record);
      if (!stored) throw agentExists(agentId);
      changed(context);
      return show(context, agentId);
    },

    async update(context, request) {
      const { agent } = request;
      if (!agent) throw invalidArgument([{ field: "agent", description: "is required" }]);
      const current = await existing(context, agent.agentId);
      const paths = request.updateMask?.paths ?? [
        ...(agent.card ? ["card"] : []),
        ...(agent.cardUrl ? ["card_url"] : []),
        ...(agent.safeToRepeat ? ["safe_to_repeat"] : []),
        ...(agent.maxConcurrency !== 0 ? ["max_concurrency"] : []),
      ];
      const unknown = paths.filter((path) => !CHANGEABLE.includes(path));
      const revision = agent.etag === "" ? undefined : revisionOf(agent.etag);
      refuse(unknown.map((path) => ({ field: "updateMask", description: `"${clip(path)}" cannot be changed` })));
      const change = await changeOf(context, agent, paths);
      const { source, ...said } = change;
      const facts = {
        fields: paths.slice(0, MOST_FIELDS),
        ...said,
        ...(source && { card: cardDigest(source), ...signatureDetail(source) }),
      };
      const outcome = await repository.update(
        context.workspaceId,
        current.agentId,
        change,
        runtime.now(),
        revision,
        recording(context, "agent.update", current.agentId, facts),
      );
      if (outcome === "missing") throw agentNotFound(current.agentId);
      if (outcome === "changed") {
        throw etagMismatch(`Agent "${current.agentId}" was`, { agentId: current.agentId });
      }
      await cardRefresh.changed(current, change.source?.card ?? current.card);
      if (change.source) await health.recheck(context.workspaceId, current.agentId);
      return show(context, current.agentId);
    },

    async remove(context, agentId) {
      const removed =
        isDnsLabel(agentId) &&
        (await repository.remove(context.workspaceId, agentId, recording(context, "agent.remove", agentId)));
      if (!removed) throw await notOwn(directory, context.workspaceId, agentId);
      changed(context);
      connector.forget(context.workspaceId, agentId);
    },

    get: show,

    async list(context, request) {
      const limit = pageLimit(request.pageSize, DEFAULT_PAGE);
      const [afterId] = readPageToken(request.pageToken, 1, "ListAgents") ?? [];
      const page = { limit: limit + 1, ...(afterId !== undefined && { afterId }) };
      const found = await repository.list(context.workspaceId, page);
      const { defaultAgent, byId } = await directory.agents(context.workspaceId);
      const lent = [...byId.values()].filter((agent) => agent.home && agent.agentId > (afterId ?? ""));
      const together = lent.length === 0 ? found : merged(found, lent);
      const agents = together.slice(0, limit);
      const last = agents.at(-1);
      const ids = agents.map(({ agentId }) => agentId);
      const healths = await health.ofAll(context.workspaceId, ids);
      await reputation.load(context.workspaceId);
      return create(ListAgentsResponseSchema, {
        agents: agents.map((agent) =>
          agentView(
            agent,
            defaultAgent?.agentId,
            connector,
            healths.get(agent.agentId),
            reputation.standing(context.workspaceId, agent.agentId, undefined),
          ),
        ),
        nextPageToken: together.length > limit && last ? pageToken(last.agentId) : "",
      });
    },

    async refreshCard(context, agentId) {
      const agent = await existing(context, agentId);
      if (agent.cardUrl === undefined) throw cardHasNoUrl(agentId);
      const card = await cardRefresh.refresh({ ...agent, cardUrl: agent.cardUrl }, context.signal, { anew: true });
      if (card === agent.card) await repository.touch(context.workspaceId, agentId, runtime.now());
      changed(context);
      return show(context, agentId);
    },

    async setDefault(context, agentId) {
      await usable(context, agentId);
      await repository.setDefault(context.workspaceId, agentId, recording(context, "agent.set-default", agentId));
      changed(context);
      return show(context, agentId);
    },
  };

  /** The change that `paths` name. Fetches the card when it is to come from another URL. */
  async function changeOf(
    { workspaceId, signal }: RequestContext,
    agent: Agent,
    paths: readonly string[],
  ): Promise<AgentChange> {
    const has = (path: string) => paths.includes(path) || paths.includes("*");
    if (has("max_concurrency")) refuse(concurrencyViolations("agent.maxConcurrency", agent.maxConcurrency));
    const said: AgentChange = {
      ...(has("safe_to_repeat") && { safeToRepeat: agent.safeToRepeat }),
      ...(has("max_concurrency") && { maxConcurrency: agent.maxConcurrency }),
    };
    if (has("card_url") && agent.cardUrl !== "") {
      const place = { workspaceId, agentId: agent.agentId };
      return { ...said, source: await fetchCard(agent.cardUrl, "agent.cardUrl", signal, place) };
    }
    if (has("card") && agent.card) {
      const source = checked({ card: agent.card, cardUrl: undefined, cardEtag: undefined }, "agent.card.");
      return { ...said, source: await cardRefresh.verified(source, undefined, signal) };
    }
    if (has("card_url") || has("card") || Object.keys(said).length === 0) {
      const description = "holds no change: give card or cardUrl, or name safeToRepeat or maxConcurrency in updateMask";
      throw invalidArgument([{ field: "agent", description }]);
    }
    return said;
  }

  async function sourceOf({ source }: RegisterAgentRequest, signal: AbortSignal): Promise<AgentCardSource> {
    switch (source.case) {
      case "cardUrl":
        return fetchCard(source.value, "cardUrl", signal);
      case "baseUrl":
        refuse(lengthViolations("baseUrl", source.value, MAX_URI_LENGTH));
        return fetchCard(source.value.replace(/\/+$/, "") + CARD_PATH, "baseUrl", signal);
      case "card":
        return cardRefresh.verified(
          checked({ card: source.value, cardUrl: undefined, cardEtag: undefined }, "card."),
          undefined,
          signal,
        );
      default:
        throw invalidArgument([{ field: "source", description: "give one of cardUrl, baseUrl and card" }]);
    }
  }
}

/** In the order of their ids. What a page has of the workspace's own goes before what is lent under the same id. */
function merged(own: readonly AgentRecord[], lent: readonly AgentRecord[]): AgentRecord[] {
  const ids = new Set(own.map(({ agentId }) => agentId));
  const all = [...own, ...lent.filter(({ agentId }) => !ids.has(agentId))];
  return all.sort((a, b) => (a.agentId < b.agentId ? -1 : 1));
}

function agentIdViolations(agentId: string) {
  if (RESERVED_IDS.has(agentId)) return [{ field: "agentId", description: `"${agentId}" is reserved; take another` }];
  if (isDnsLabel(agentId)) return [];
  return [{ field: "agentId", description: "must be a DNS label: a-z, 0-9, - inside, 63 characters at most" }];
}

function revisionOf(etag: string): number {
  const revision = Number(revisionIn(etag));
  if (Number.isInteger(revision) && revision >= 0 && revision <= MAX_REVISION) return revision;
  throw invalidArgument([{ field: "agent.etag", description: "is not an etag of this agent; read the agent again" }]);
}

const agentExists = (agentId: string) =>
  new SignalboxError({
    code: "ALREADY_EXISTS",
    reason: "AGENT_EXISTS",
    message: `There is an agent "${agentId}" already. Update it, remove it or end its grant first, or register under another id.`,
    metadata: { agentId },
  });

const cardHasNoUrl = (agentId: string) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "CARD_HAS_NO_URL",
    message: `Agent "${agentId}" was registered with an inline card. Give it a new card with UpdateAgent.`,
    metadata: { agentId },
  });
