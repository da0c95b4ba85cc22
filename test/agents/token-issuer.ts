/** A real OAuth 2.0 and OpenID Connect server (oidc-provider) on a loopback port, that gives clients tokens of their own. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import Provider from "oidc-provider";

export interface TokenIssuer {
  readonly issuer: string;
  readonly tokenUrl: string;
  /** How many tokens were asked for. */
  readonly asked: number;
  /** What comes in the place of answers, as an HTTP status; 0 ends that. */
  breakWith(status: number): void;
  /** Whether a token is one that it gave, and that has not expired; the scopes and the audience of it. */
  tokenOf(text: string): Promise<{ clientId: string; scope: string; audience: string } | undefined>;
  close(): Promise<void>;
}

export interface TokenIssuerOptions {
  clientId: string;
  clientSecret: string;
  method?: "client_secret_basic" | "client_secret_post";
  ttlSeconds?: number;
}

export async function startTokenIssuer(options: TokenIssuerOptions): Promise<TokenIssuer> {
  const { clientId, clientSecret, method = "client_secret_basic", ttlSeconds = 600 } = options;
  const http = createServer();
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const issuer = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: clientId,
        client_secret: clientSecret,
        grant_types: ["client_credentials"],
        redirect_uris: [],
        response_types: [],
        token_endpoint_auth_method: method,
      },
    ],
    scopes: ["tasks:send", "tasks:read"],
    clientAuthMethods: [method],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({ scope: "tasks:send tasks:read", accessTokenFormat: "opaque" }),
      },
    },
    ttl: { ClientCredentials: ttlSeconds },
  });
  let asked = 0;
  let broken = 0;
  const answer = provider.callback();
  http.on("request", (request, response) => {
    if (request.url === "/token") asked += 1;
    if (broken > 0) response.writeHead(broken, { "content-type": "application/json" }).end('{"error":"server_error"}');
    else void answer(request, response);
  });
  return {
    issuer,
    tokenUrl: `${issuer}/token`,
    get asked() {
      return asked;
    },
    breakWith: (status) => {
      broken = status;
    },
    async tokenOf(text) {
      const found = await provider.ClientCredentials.find(text);
      if (!found || found.isExpired) return undefined;
      return { clientId: found.clientId ?? "", scope: found.scope ?? "", audience: String(found.aud ?? "") };
    },
    async close() {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    },
  };
}
