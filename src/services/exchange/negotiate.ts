/** NEGOTIATE: what agents take for a task of a capability, and which offer is the best. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { MessageSchema, SendMessageRequestSchema } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  ExchangeKind,
  type Negotiate,
  type Quote,
  QuoteSchema,
  QuoteSource,
} from "../../../gen/signalbox/v1/message_pb.ts";
import { Access } from "../../../gen/signalbox/v1/registry_pb.ts";
import { RouteSource } from "../../../gen/signalbox/v1/routing_pb.ts";
import { selectOffer } from "../../domain/best-offer.ts";
import { receiverId, strategyOf } from "../../domain/exchange-rules.ts";
import { costMicros, decimalOf } from "../../domain/money.ts";
import { type AgentQuote, givesQuotes, QUOTE_EXTENSION } from "../../domain/quote-extension.ts";
import { latencyQuantileAt } from "../../domain/routing/agent-signals.ts";
import type { Candidate } from "../../domain/routing/candidate.ts";
import { best, choose } from "../../domain/routing/choose.ts";
import type { Weights } from "../../domain/routing/strategy.ts";
import { agentTenant, nobodyOffers, notOfferedBy } from "../../domain/target.ts";
import type { ExchangeRepository } from "../../store/exchange-repository.ts";
import type { AgentDirectory, Offer } from "../agent-directory.ts";
import type { Policy } from "../policy.ts";
import { candidateOf, type DecideDeps } from "../routing/decide.ts";
import { distrustIn } from "../routing/distrust.ts";
import { type Cut, sift } from "../routing/offers.ts";
import type { WorkspaceSettings } from "../routing/workspace-settings.ts";
import type { Act, ActContext } from "./act.ts";
import type { AgentQuotes } from "./agent-quotes.ts";

/** Offers that are quoted, and agents that are asked at once, at most. */
const MOST_QUOTES = 16;
/** How long agents may think, in milliseconds, and which share of the message's time. */
const MOST_THINKING_MS = 5_000;
const THINKING_SHARE = 0.75;
/** How long a quote holds of which its agent does not say it, and how long any holds at most, in milliseconds. */
const USUAL_LIFE_MS = 300_000;
const MOST_LIFE_MS = 86_400_000;
const MOST_NAMED = 16;

export interface NegotiateDeps extends DecideDeps {
  settings: Pick<WorkspaceSettings, "of">;
  policy: Pick<Policy, "admit">;
  directory: AgentDirectory;
  records: Pick<ExchangeRepository, "count" | "addQuotes">;
  quotes: AgentQuotes;
}

/** An offer, what is known of its agent, and what the agent itself said. */
interface Quoted {
  readonly offer: Offer;
  readonly candidate: Candidate;
  readonly own: AgentQuote | undefined;
  /** Why there is no quote of its own where it was asked for one. */
  readonly note: string;
}

export function negotiate(deps: NegotiateDeps): Act<"negotiate"> {
  const { runtime, records } = deps;

  return async (asked, act) => {
    const { workspaceId, principal } = act.context;
    const { correlationId } = act.message;
    const exchange = { ownerId: principal.id, correlationId };
    const { fit, cuts, isApprovedFirst } = await possible(asked, act);
    const strategy = strategyOf(asked)!;
    const seed = Math.floor(runtime.random() * 2 ** 32);
    const weights = weightsOf(asked) ?? (await deps.settings.of(workspaceId)).weights;
    const options = { key: correlationId, turn: 0, seed, weights };
    // What the registry says decides who is quoted where there are more than can be.
    const known = fit.map((offer) => quotable(workspaceId, offer));
    const nearest =
      known.length <= MOST_QUOTES
        ? known.map((_, i) => i)
        : best(known, choose(known, strategy, options).scores, MOST_QUOTES);
    const round = await records.count(workspaceId, exchange, ExchangeKind.NEGOTIATE);
    // Before it is approved nobody hears of the work.
    const quoteOf = (offer: Offer, candidate: Candidate): Promise<Quoted> | Quoted =>
      isApprovedFirst && givesQuotes(offer.agent.card)
        ? { offer, candidate, own: undefined, note: "The agent is not asked before the task is approved." }
        : quote(offer, candidate, asked, act, round);
    const quoted = await Promise.all(nearest.map((i) => quoteOf(fit[i]!, known[i]!)));

    const limits = {
      maxCostMicros: asked.maxCost === "" ? undefined : costMicros(asked.maxCost),
      maxLatencyMs: Number(asked.maxLatencyMs) || undefined,
    };
    const candidates = quoted.map(({ candidate }) => candidate);
    const { order, chosen, scores, reasons } = selectOffer(candidates, limits, strategy, options);
    const views = quoted.map((one, i) => quoteView(one, scores[i] ?? 0));
    await records.addQuotes(workspaceId, exchange, views);
    return {
      case: "negotiate",
      value: {
        quotes: order.map((i) => views[i]!),
        bestQuoteId: chosen === undefined ? "" : views[chosen]!.quoteId,
        strategy,
        reasons: [...reasons],
        round,
        offerCount: fit.length,
        cuts: cuts.map(({ reason, agentIds }) => ({
          reason,
          count: agentIds.length,
          agentIds: agentIds.slice(0, MOST_NAMED),
        })),
      },
    };
  };

  /** What is known of an offer. Its latency is one to count on: what routing goes by fades while no task ends. */
  function quotable(workspaceId: string, offer: Offer): Candidate {
    const nowMs = runtime.elapsedMs();
    const load = deps.loads.of(workspaceId, offer.agent.agentId);
    const median = load && latencyQuantileAt(load.signals, 0.5, nowMs);
    return {
      ...candidateOf(deps, workspaceId, offer, nowMs),
      latencyMs: median ?? offer.capability.averageLatencyMs,
    };
  }

  /** The offers in question that could take the message, and what cut the others. */
  async function possible(asked: Negotiate, { context, message }: ActContext) {
    const capabilityId = asked.capabilityId || receiverId(message.receiver, "capability")!;
    const agentId = asked.agentId || receiverId(message.receiver, "agent");
    const { byCapability } = await deps.directory.agents(context.workspaceId);
    const offers = byCapability.get(capabilityId);
    if (!offers) throw nobodyOffers(capabilityId, byCapability.keys());
    const named = agentId === undefined ? offers : offers.filter(({ agent }) => agent.agentId === agentId);
    if (named.length === 0) throw notOfferedBy(agentId!, capabilityId, agentTenant(agentId!));
    const about = asked.message ?? create(MessageSchema);
    const admitted = await deps.policy.admit(context, create(SendMessageRequestSchema), about, undefined);
    await deps.trust.load(context.workspaceId);
    const { judge } = admitted.search(RouteSource.EXTENSION, capabilityId);
    const { fit, cuts } = sift(named, {
      message: about,
      judge,
      extensions: [...context.extensions, QUOTE_EXTENSION],
      wishes: { labels: asked.labels },
      distrust: distrustIn(deps.trust, context.workspaceId),
    });
    // All of them, or none: who needs no approval comes first.
    const isApprovedFirst = fit[0] !== undefined && judge?.of(fit[0]).effect === "REQUIRE_APPROVAL";
    return { fit: fit as Offer[], cuts: cuts as Cut[], isApprovedFirst };
  }

  async function quote(
    offer: Offer,
    candidate: Candidate,
    asked: Negotiate,
    { context, message }: ActContext,
    round: number,
  ): Promise<Quoted> {
    if (!givesQuotes(offer.agent.card)) return { offer, candidate, own: undefined, note: "" };
    const timeoutMs = Math.max(1, Math.floor(Math.min(MOST_THINKING_MS, Number(message.timeoutMs) * THINKING_SHARE)));
    const { correlationId } = message;
    const own = await deps.quotes.ask(context, offer, { asked, correlationId, round, timeoutMs });
    if (typeof own === "string") return { offer, candidate, own: undefined, note: own };
    const latencyMs = own.latencyMs ?? candidate.latencyMs;
    return { offer, candidate: { ...candidate, costMicros: own.costMicros, latencyMs }, own, note: "" };
  }

  function quoteView({ offer: { capability }, candidate, own, note }: Quoted, score: number): Quote {
    const now = runtime.now().getTime();
    const until = Math.min(own?.validUntil?.getTime() ?? now + USUAL_LIFE_MS, now + MOST_LIFE_MS);
    const { maxLatencyMs, availability, access, safeToRepeat, maxConcurrency = 0 } = capability;
    return create(QuoteSchema, {
      quoteId: runtime.newId(),
      agentId: candidate.agentId,
      capabilityId: capability.capabilityId,
      cost: decimalOf(candidate.costMicros),
      latencyMs: candidate.latencyMs ?? 0,
      terms: {
        serviceLevel: { maxLatencyMs: BigInt(maxLatencyMs), availability },
        access: Access[access],
        safeToRepeat,
        maxConcurrency,
        inFlight: candidate.inFlight,
        errorRate: candidate.errorRate,
        ...(own?.terms && { agentTerms: own.terms }),
      },
      source: own ? QuoteSource.AGENT : QuoteSource.CAPABILITY,
      note,
      score: Number.isFinite(score) ? score : 0,
      expireTime: timestampFromDate(new Date(until)),
    });
  }
}

function weightsOf({ weights }: Negotiate): Weights | undefined {
  if (!weights) return undefined;
  const { load, latency, cost, errors, reputation } = weights;
  return { load, latency, cost, errors, reputation };
}
