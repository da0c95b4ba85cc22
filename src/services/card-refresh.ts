/** Keeps the cards of agents as their servers have them. */
import { hash } from "node:crypto";
import { equals, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { type AgentCard, AgentCardSchema, AgentInterfaceSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { CardSignatureState } from "../../gen/signalbox/v1/registry_pb.ts";
import { cardViolations } from "../domain/card-rules.ts";
import { signatureWord } from "../domain/card-signature.ts";
import { clip, invalidArgument } from "../domain/errors.ts";
import { refuse } from "../domain/refusal.ts";
import { missingFields } from "../domain/required-fields.ts";
import type { AgentHealthRepository } from "../store/agent-health-repository.ts";
import type { AgentCardSource, AgentRecord, AgentRepository } from "../store/agent-repository.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { AgentConnector, CardFetcher } from "./agent-port.ts";
import type { Audit } from "./audit.ts";
import { type CardVerifier, isSameEvidence } from "./card-verifier.ts";
import type { Runtime } from "./runtime.ts";

/** How much of what others wrote a refusal repeats, in characters. */
export const MAX_ECHO_LENGTH = 512;

export interface CardRefresh {
  /** A card that this router can work with: whole, of sensible size, and with an interface that it speaks. Else INVALID_ARGUMENT. */
  checked(source: AgentCardSource, at: string): AgentCardSource;
  /** The same, with what its signatures are worth. `json` is the card as its server sent it, if one did. */
  verified(source: AgentCardSource, json: JsonObject | undefined, signal: AbortSignal): Promise<AgentCardSource>;
  /**
   * Fetches the card of an agent that has a URL, if it is another one than before, and stores it if it says something else.
   * Resolves with the card that holds then: the agent's own one where nothing changed. Throws what CardFetcher and `checked`
   * throw; the stored card stays then. `anew`: its signatures are looked at again also where it is the same; so are those
   * whose key was not known.
   */
  refresh(
    agent: AgentRecord & { cardUrl: string },
    signal: AbortSignal,
    options?: { anew?: boolean },
  ): Promise<AgentCard>;
  /**
   * What an agent's card says is another: it is seen by the next request, and by other replicas within a second. Where its
   * tasks go elsewhere now, the checks that it failed are forgotten.
   */
  changed(agent: AgentRecord, next: AgentCard): Promise<void>;
}

export interface CardRefreshDeps {
  repository: AgentRepository;
  health: Pick<AgentHealthRepository, "moved">;
  directory: AgentDirectory;
  connector: AgentConnector;
  cards: CardFetcher;
  verifier: CardVerifier;
  audit: Audit;
  runtime: Runtime;
}

/** SHA-256 of a card as it is stored. */
export const cardDigest = ({ card }: Pick<AgentCardSource, "card">): string =>
  hash("sha256", toBinary(AgentCardSchema, card), "hex");

/** What the audit log says of a card's signatures; nothing where it has none. */
export const signatureDetail = ({ signature }: Pick<AgentCardSource, "signature">): { signature?: string } =>
  signature ? { signature: signatureWord(signature) } : {};

/** Whether tasks go elsewhere by the one card than by the other. */
export function isMoved(connector: Pick<AgentConnector, "pick">, before: AgentCard, now: AgentCard): boolean {
  const [from, to] = [connector.pick(before), connector.pick(now)];
  return from === undefined || to === undefined ? from !== to : !equals(AgentInterfaceSchema, from, to);
}

export function createCardRefresh(deps: CardRefreshDeps): CardRefresh {
  const { repository, health, directory, connector, cards, verifier, audit, runtime } = deps;

  function checked(source: AgentCardSource, at: string): AgentCardSource {
    const { card } = source;
    const violations = [...missingFields(AgentCardSchema, card), ...cardViolations(card)];
    refuse(violations.map(({ field, description }) => ({ field: at + field, description })));
    if (!connector.pick(card)) {
      const offered = card.supportedInterfaces.map((i) => `${i.protocolBinding} ${i.protocolVersion}`).join(", ");
      throw invalidArgument([
        {
          field: `${at}supportedInterfaces`,
          description: `offers ${clip(offered, MAX_ECHO_LENGTH)}; this router speaks GRPC, JSONRPC and HTTP+JSON of protocol version 1.0`,
        },
      ]);
    }
    return source;
  }

  /** Connections are kept as long as the card says what it said. */
  async function changed({ workspaceId, agentId, card }: AgentRecord, next: AgentCard): Promise<void> {
    if (isMoved(connector, card, next)) await health.moved(workspaceId, agentId);
    directory.changed(workspaceId);
    if (!equals(AgentCardSchema, card, next)) connector.forget(workspaceId, agentId);
  }

  async function verified(
    source: AgentCardSource,
    json: JsonObject | undefined,
    signal: AbortSignal,
  ): Promise<AgentCardSource> {
    const signature = await verifier.verify({ ...source, json }, signal);
    return signature ? { ...source, signature } : source;
  }

  return {
    checked,
    verified,
    changed,
    async refresh(agent, signal, { anew = false } = {}) {
      const { workspaceId, agentId, cardUrl, cardEtag, cardModified, cardSignature, revision } = agent;
      // Its key may be known by now, or not any more. What is signed is the card as it is served: it is fetched whole.
      const isOpen = anew || cardSignature?.state === CardSignatureState.UNTRUSTED;
      const condition = isOpen ? {} : { etag: cardEtag, modified: cardModified };
      const fetched = await cards.fetch(cardUrl, { signal, ...condition, agent: { workspaceId, agentId } });
      if (!fetched) return agent.card;
      const served = { cardUrl, cardEtag: fetched.etag, cardModified: fetched.modified };
      const isSame = equals(AgentCardSchema, agent.card, fetched.card);
      const looked = await verified({ card: fetched.card, ...served }, fetched.json, signal);
      if (isSame && isSameEvidence(looked.signature, cardSignature)) {
        const isSameVersion = served.cardEtag === cardEtag && served.cardModified === cardModified;
        if (!isSameVersion) await repository.touch(workspaceId, agentId, runtime.now(), served);
        return agent.card;
      }
      const source = checked(looked, "the card's ");
      // Whoever has asked for it: it is the agent that has another card.
      const deed = {
        action: "agent.card",
        targetType: "agent",
        targetId: agentId,
        detail: { card: cardDigest(source), ...signatureDetail(source) },
      };
      const record = audit.recordingOfRouter(workspaceId, deed);
      const outcome = await repository.update(workspaceId, agentId, { source }, runtime.now(), revision, record);
      // Somebody else was faster, and has told so.
      if (outcome !== "updated") return (await repository.get(workspaceId, agentId))?.card ?? agent.card;
      await changed(agent, source.card);
      return source.card;
    },
  };
}
