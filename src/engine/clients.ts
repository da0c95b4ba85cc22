/** The ways out of this process: to agents, to their cards, and to webhooks. */
import { createAgentConnector } from "../outbound/agent-connector.ts";
import { createProver } from "../outbound/agent-proof.ts";
import { createCardFetcher } from "../outbound/card-fetcher.ts";
import { createCardKeyFetcher } from "../outbound/card-key-fetcher.ts";
import { createWebhookSender } from "../outbound/webhook.ts";
import type {
  AgentConnector,
  AgentProber,
  CardFetcher,
  CardKeyFetcher,
  WebhookSender,
} from "../services/agent-port.ts";
import type { CredentialChecks } from "../services/identity/credential-source.ts";
import { createKnownCredentials, type KnownCredentials } from "../services/identity/known-credentials.ts";
import type { Ground } from "./ground.ts";
import type { EngineBase } from "./options.ts";

export interface Clients {
  readonly credentials: KnownCredentials;
  /** Whether credentials could be used. */
  readonly credentialChecks: CredentialChecks;
  readonly connector: AgentConnector & AgentProber;
  readonly webhooks: WebhookSender;
  readonly cards: CardFetcher;
  readonly cardKeys: CardKeyFetcher;
}

export function buildClients(
  { config, runtime, inProcess, closing }: EngineBase,
  { secrets, repositories }: Ground,
): Clients {
  const { allowPrivateUrls } = config;
  const credentials = createKnownCredentials({ repository: repositories.agentCredentials, box: secrets, runtime });
  const prover = createProver({ allowPrivateUrls, source: credentials, runtime });
  const connector = createAgentConnector({
    allowPrivateUrls,
    prover,
    maxMessageBytes: config.limits.messageBytes,
    ...(inProcess && { inProcess }),
  });
  const webhooks = createWebhookSender({ allowPrivateUrls });
  const cards = createCardFetcher({ allowPrivateUrls, prover });
  const cardKeys = createCardKeyFetcher({ allowPrivateUrls });
  for (const client of [connector, webhooks, cards, cardKeys, prover]) closing.push(() => client.close());
  return { credentials, credentialChecks: prover, connector, webhooks, cards, cardKeys };
}
