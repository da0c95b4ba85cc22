/** Fetches tokens of the client credentials grant (RFC 6749, section 4.4), and finds where an issuer gives them (OpenID discovery). */
import { request } from "undici";
import { AgentCallError } from "../services/agent-port.ts";
import { isObject } from "./agent-answer.ts";
import { parseJson } from "./http-call.ts";
import { ConnectFailure, createHttpConnections } from "./http-connections.ts";
import { createUrlGuard, type UrlGuardOptions, withinOwnNetwork } from "./url-guard.ts";

/** Who asks for tokens: an OAuth2Credential, or an OidcCredential. One object is one revision of one credential. */
export interface TokenClient {
  readonly tokenUrl?: string;
  readonly issuer?: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly scopes: readonly string[];
  readonly resource: string;
}

export interface FetchedToken {
  readonly token: string;
  /** From when it was asked for, in milliseconds. */
  readonly lifeMs: number;
}

export interface TokenFetcher {
  /** Throws AgentCallError: "refused" where those who give out tokens do not give this client one, "unreachable" where asking again can help. */
  fetch(client: TokenClient): Promise<FetchedToken>;
  /** Ends what runs, and drops the connections. */
  close(): Promise<void>;
}

/** Longest time for an answer, in milliseconds, and the largest one, in bytes. */
const TIMEOUT_MS = 10_000;
const MAX_BYTES = 65_536;
/** Longest token, in characters. */
const MAX_TOKEN = 16_384;
/** Of a token whose life is not told, and the longest that is believed, in milliseconds. */
const UNTOLD_LIFE_MS = 300_000;
const MAX_LIFE_MS = 86_400_000;

type AuthMethod = "client_secret_basic" | "client_secret_post";

export function createTokenFetcher(options: UrlGuardOptions): TokenFetcher {
  const guard = createUrlGuard(options);
  // A client secret goes in the clear no further than the owner's own network.
  const secure = createHttpConnections(guard);
  const clear = createHttpConnections(withinOwnNetwork(guard));

  async function exchange(url: URL, form: string | undefined, headers: Record<string, string>): Promise<Answer> {
    const isTls = url.protocol === "https:";
    if (!isTls && !options.allowPrivateUrls) throw unreachable(new Error("no TLS at the token endpoint"));
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    try {
      const { statusCode, body } = await request(url, {
        dispatcher: isTls ? secure : clear,
        method: form === undefined ? "GET" : "POST",
        headers: { accept: "application/json", ...headers },
        body: form ?? null,
        signal,
      });
      body.on("error", () => {});
      const chunks: Buffer[] = [];
      let size = 0;
      for await (const chunk of body as AsyncIterable<Buffer>) {
        size += chunk.length;
        if (size > MAX_BYTES) throw new Error(`the answer is larger than ${MAX_BYTES} bytes`);
        chunks.push(chunk);
      }
      const json = parseJson(Buffer.concat(chunks).toString());
      return { status: statusCode, json: isObject(json) ? json : {} };
    } catch (error) {
      throw unreachable(error instanceof ConnectFailure ? error.cause : error);
    }
  }

  /** Of an issuer. */
  async function discover(issuer: string): Promise<{ url: URL; method: AuthMethod }> {
    const at = checked(`${issuer.replace(/\/+$/, "")}/.well-known/openid-configuration`);
    const { status, json } = await exchange(at, undefined, {});
    if (status !== 200) throw unreachable(new Error(`the issuer's configuration: HTTP ${status}`));
    if (json.issuer !== issuer) throw refused(new Error("the configuration is that of another issuer"));
    if (typeof json.token_endpoint !== "string") throw refused(new Error("the issuer names no token endpoint"));
    const methods = json.token_endpoint_auth_methods_supported;
    const posts = Array.isArray(methods) && !methods.includes(BASIC) && methods.includes(POST);
    return { url: checked(json.token_endpoint), method: posts ? POST : BASIC };
  }

  function checked(url: string): URL {
    try {
      return guard.checkUrl(url, "token_url");
    } catch (error) {
      throw refused(error);
    }
  }

  return {
    async fetch(client) {
      const { clientId, clientSecret, scopes, resource } = client;
      const { url, method } =
        client.issuer === undefined ? { url: checked(client.tokenUrl!), method: BASIC } : await discover(client.issuer);
      const form = new URLSearchParams({ grant_type: "client_credentials" });
      if (scopes.length > 0) form.set("scope", scopes.join(" "));
      if (resource !== "") form.set("resource", resource);
      const headers: Record<string, string> = { "content-type": "application/x-www-form-urlencoded" };
      if (method === BASIC) headers.authorization = basic(clientId, clientSecret);
      else {
        form.set("client_id", clientId);
        form.set("client_secret", clientSecret);
      }
      return tokenIn(await exchange(url, form.toString(), headers));
    },
    async close() {
      await Promise.all([secure.destroy(), clear.destroy()]);
    },
  };
}

const BASIC = "client_secret_basic";
const POST = "client_secret_post";

interface Answer {
  readonly status: number;
  readonly json: Record<string, unknown>;
}

/** RFC 6749, section 2.3.1: each half is encoded as a form is, before both are put together. */
function basic(id: string, secret: string): string {
  const encoded = (text: string) => new URLSearchParams([["", text]]).toString().slice(1);
  return `Basic ${Buffer.from(`${encoded(id)}:${encoded(secret)}`).toString("base64")}`;
}

function tokenIn({ status, json }: Answer): FetchedToken {
  if (status !== 200) {
    const code = typeof json.error === "string" && /^[\w.-]{1,64}$/.test(json.error) ? ` (${json.error})` : "";
    const cause = new Error(`the token endpoint answered HTTP ${status}${code}`);
    const canHelp = status >= 500 || status === 429 || status === 408;
    throw canHelp ? unreachable(cause) : refused(cause);
  }
  const { access_token: token, token_type: type, expires_in: seconds } = json;
  if (typeof token !== "string" || token.length > MAX_TOKEN || !/^[\x21-\x7e]+$/.test(token)) {
    throw refused(new Error("the token endpoint gave no token that a header can carry"));
  }
  if (typeof type !== "string" || type.toLowerCase() !== "bearer") {
    throw refused(new Error("the token endpoint gave a token that is no bearer token"));
  }
  const told = Number(seconds);
  const lifeMs = seconds !== undefined && told > 0 ? Math.min(told * 1000, MAX_LIFE_MS) : UNTOLD_LIFE_MS;
  return { token, lifeMs };
}

const unreachable = (cause: unknown) =>
  new AgentCallError("unreachable", "The agent could not be reached: no token for it could be fetched.", { cause });

const refused = (cause: unknown) =>
  new AgentCallError("refused", "The agent was not called: no token for it is given to this router.", {
    reason: "TOKEN_REFUSED",
    cause,
  });
