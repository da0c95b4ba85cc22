/** An issuer of tokens for tests: a whole OpenID Provider on 127.0.0.1, whose keys can be changed while it runs. */
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, type JWK } from "jose";
import { Provider } from "oidc-provider";

export interface OidcIssuer {
  /** As tokens name it. */
  readonly issuer: string;
  /** An access token by client credentials, for a resource; its claims have `claims` besides. */
  token(resource: string, claims?: Readonly<Record<string, unknown>>): Promise<string>;
  /** Signs with a new key from now on; publishes the old ones as well, unless it forgets them. */
  rotate(how?: "keeps-old" | "forgets-old"): Promise<void>;
  /** Answers nothing from now on, or again. */
  setAway(isAway: boolean): void;
  /** How often its keys were asked for. */
  readonly keyRequests: number;
  close(): Promise<void>;
}

export const CLIENT_ID = "cart";
const CLIENT_SECRET = "a-secret-of-the-tests-with-32-letters";

export async function startOidcIssuer(alg: "RS256" | "ES256" = "RS256"): Promise<OidcIssuer> {
  let handle: RequestListener = () => {};
  let isAway = false;
  let keyRequests = 0;
  let keys: JWK[] = [];
  let more: Readonly<Record<string, unknown>> = {};
  const server = createServer((req, res) => {
    if (req.url?.endsWith("/jwks")) keyRequests += 1;
    if (isAway) req.socket.destroy();
    else handle(req, res);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  async function rotate(how: "keeps-old" | "forgets-old" = "keeps-old"): Promise<void> {
    const { privateKey } = await generateKeyPair(alg, { extractable: true });
    const key: JWK = { ...(await exportJWK(privateKey)), kid: crypto.randomUUID(), use: "sig", alg };
    keys = how === "keeps-old" ? [key, ...keys] : [key];
    const provider = new Provider(issuer, {
      clients: [
        {
          client_id: CLIENT_ID,
          client_secret: CLIENT_SECRET,
          grant_types: ["client_credentials"],
          redirect_uris: [],
          response_types: [],
          ...(alg !== "RS256" && { id_token_signed_response_alg: alg }),
        },
      ],
      jwks: { keys: keys as never },
      ttl: { ClientCredentials: 600 },
      cookies: { keys: ["of the tests"] },
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (_, resource) => ({
            scope: "tasks.read tasks.write",
            audience: resource,
            accessTokenFormat: "jwt",
            accessTokenTTL: 600,
            jwt: { sign: { alg } },
          }),
        },
      },
      extraTokenClaims: () => ({ ...more }),
    });
    handle = provider.callback();
  }
  await rotate();

  return {
    issuer,
    async token(resource, claims = {}) {
      more = claims;
      const response = await fetch(`${issuer}/token`, {
        method: "POST",
        headers: {
          authorization: `Basic ${Buffer.from(`${CLIENT_ID}:${CLIENT_SECRET}`).toString("base64")}`,
          "content-type": "application/x-www-form-urlencoded",
        },
        body: new URLSearchParams({ grant_type: "client_credentials", resource, scope: "tasks.read" }),
      });
      const answer = (await response.json()) as { access_token?: string };
      if (answer.access_token === undefined) throw new Error(`no token: ${JSON.stringify(answer)}`);
      return answer.access_token;
    },
    rotate,
    setAway(away) {
      isAway = away;
    },
    get keyRequests() {
      return keyRequests;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
