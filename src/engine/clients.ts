/** The ways out of this process: to agents, to their cards, and to webhooks. */
import { createAgentConnector } from "../outbound/agent-connector.ts";
import { createCardFetcher } from "../outbound/card-fetcher.ts";
import { createKeySetFetcher } from "../outbound/key-set-fetcher.ts";
import { createWebhookSender } from "../outbound/webhook.ts";
import type { AgentConnector, AgentProber, CardFetcher, KeySetFetcher, WebhookSender } from "../services/agent-port.ts";
import type { EngineBase } from "./options.ts";

export interface Clients {
  readonly connector: AgentConnector & AgentProber;
  readonly webhooks: WebhookSender;
  readonly cards: CardFetcher;
  readonly keySets: KeySetFetcher;
}

export function buildClients({ config, inProcess, closing }: EngineBase): Clients {
  const { allowPrivateUrls } = config;
  const connector = createAgentConnector({
    allowPrivateUrls,
    maxMessageBytes: config.limits.messageBytes,
    ...(inProcess && { inProcess }),
  });
  const webhooks = createWebhookSender({ allowPrivateUrls });
  const cards = createCardFetcher({ allowPrivateUrls });
  const keySets = createKeySetFetcher({ allowPrivateUrls });
  for (const client of [connector, webhooks, cards, keySets]) closing.push(() => client.close());
  return { connector, webhooks, cards, keySets };
}
