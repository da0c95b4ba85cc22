/** Keeps the cards of agents as their servers have them. */
import { equals } from "@bufbuild/protobuf";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { cardViolations } from "../domain/card-rules.ts";
import { clip, invalidArgument } from "../domain/errors.ts";
import { refuse } from "../domain/refusal.ts";
import { missingFields } from "../domain/required-fields.ts";
import type { AgentCardSource, AgentRecord, AgentRepository } from "../store/agent-repository.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { AgentConnector, CardFetcher } from "./agent-port.ts";
import type { Runtime } from "./runtime.ts";

/** How much of what others wrote a refusal repeats, in characters. */
export const MAX_ECHO_LENGTH = 512;

export interface CardRefresh {
  /** A card that this router can work with: whole, of sensible size, and with an interface that it speaks. Else INVALID_ARGUMENT. */
  checked(source: AgentCardSource, at: string): AgentCardSource;
  /**
   * Fetches the card of an agent that has a URL, if it is another one than before, and stores it if it says something else.
   * Throws what CardFetcher and `checked` throw; the stored card stays then.
   */
  refresh(agent: AgentRecord & { cardUrl: string }, signal: AbortSignal): Promise<"changed" | "unchanged">;
  /** What an agent's card says is another: it is seen by the next request, and by other replicas within a second. */
  changed(agent: AgentRecord, next: AgentCard): void;
}

export interface CardRefreshDeps {
  repository: AgentRepository;
  directory: AgentDirectory;
  connector: AgentConnector;
  cards: CardFetcher;
  runtime: Runtime;
}

export function createCardRefresh({ repository, directory, connector, cards, runtime }: CardRefreshDeps): CardRefresh {
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
  function changed({ workspaceId, agentId, card }: AgentRecord, next: AgentCard): void {
    directory.changed(workspaceId);
    if (!equals(AgentCardSchema, card, next)) connector.forget(workspaceId, agentId);
  }

  return {
    checked,
    changed,
    async refresh(agent, signal) {
      const { workspaceId, agentId, cardUrl, cardEtag, cardModified, revision } = agent;
      const fetched = await cards.fetch(cardUrl, { signal, etag: cardEtag, modified: cardModified });
      if (!fetched) return "unchanged";
      const served = { cardUrl, cardEtag: fetched.etag, cardModified: fetched.modified };
      if (equals(AgentCardSchema, agent.card, fetched.card)) {
        const isSameVersion = served.cardEtag === cardEtag && served.cardModified === cardModified;
        if (!isSameVersion) await repository.touch(workspaceId, agentId, runtime.now(), served);
        return "unchanged";
      }
      const source = checked({ card: fetched.card, ...served }, "the card's ");
      await repository.update(workspaceId, agentId, { source }, runtime.now(), revision);
      changed(agent, source.card);
      return "changed";
    },
  };
}
