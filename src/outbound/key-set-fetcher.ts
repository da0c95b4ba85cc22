/** Fetches the keys of issuers of tokens: discovery, then the JWK Set that it names. */
import { request } from "undici";
import { clip } from "../domain/errors.ts";
import { type KeySetFetcher, MAX_PUBLISHED_KEYS, type PublishedKey } from "../services/identity/key-set-port.ts";
import { isObject } from "./agent-answer.ts";
import { parseJson } from "./http-call.ts";
import { createHttpConnections } from "./http-connections.ts";
import { createUrlGuard, type Lookup } from "./url-guard.ts";

export interface KeySetFetcherOptions {
  /** Whether issuers may be at private and loopback addresses, and speak plain http. */
  allowPrivateUrls: boolean;
  /** Largest answer. Default 256 KiB. */
  maxBytes?: number;
  /** Longest time for one answer, in milliseconds. Default 5 s. */
  timeoutMs?: number;
  /** How names are resolved; as the system does, unless given. */
  lookup?: Lookup;
}

/** The fetcher of the port. `close` ends what runs and drops the connections. */
export function createKeySetFetcher(options: KeySetFetcherOptions): KeySetFetcher & { close(): Promise<void> } {
  const { allowPrivateUrls, maxBytes = 256 * 1024, timeoutMs = 5_000 } = options;
  const guard = createUrlGuard(options);
  const http = createHttpConnections(guard);

  /** Redirects are not followed: an issuer says itself where it is. */
  async function get(url: string): Promise<Answer> {
    const at = guard.checkUrl(url, "url");
    if (at.protocol !== "https:" && !allowPrivateUrls) throw new Error(`${clip(url, 256)} is not https`);
    const signal = AbortSignal.timeout(timeoutMs);
    const { statusCode, body } = await request(at, {
      dispatcher: http,
      headers: { accept: "application/json, application/jwk-set+json" },
      signal,
    });
    body.on("error", () => {});
    if (statusCode !== 200) {
      body.destroy();
      return { status: statusCode, json: undefined };
    }
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      size += chunk.length;
      if (size > maxBytes) throw new Error(`${clip(url, 256)} answered with more than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
    return { status: 200, json: parseJson(Buffer.concat(chunks).toString()) };
  }

  /** Where an issuer has its keys. */
  async function discover(issuer: string): Promise<string> {
    const statuses: string[] = [];
    for (const url of discoveryUrls(issuer)) {
      const { status, json } = await get(url);
      if (status !== 200) {
        statuses.push(`${url} answered HTTP ${status}`);
        continue;
      }
      if (!isObject(json)) throw new Error(`${url} answered with no JSON object`);
      // Else one issuer could speak for another (RFC 8414, section 3.3).
      if (json.issuer !== issuer) {
        throw new Error(
          `${url} is about the issuer ${clip(String(json.issuer), 256)}, which must be the same as in jwt.issuers`,
        );
      }
      if (typeof json.jwks_uri !== "string") throw new Error(`${url} names no jwks_uri`);
      return json.jwks_uri;
    }
    throw new Error(statuses.join(", and "));
  }

  return {
    async fetch(issuer) {
      const url = await discover(issuer);
      const { status, json } = await get(url);
      if (status !== 200) throw new Error(`${clip(url, 256)} answered HTTP ${status}`);
      if (!isObject(json) || !Array.isArray(json.keys)) throw new Error(`${clip(url, 256)} answered with no JWK Set`);
      if (json.keys.length > MAX_PUBLISHED_KEYS) {
        throw new Error(`${clip(url, 256)} has more than ${MAX_PUBLISHED_KEYS} keys`);
      }
      return json.keys.filter((key): key is PublishedKey => isObject(key));
    },
    close: () => http.destroy(),
  };
}

interface Answer {
  status: number;
  /** Undefined for what is no JSON. */
  json: unknown;
}

/** OpenID Connect Discovery 1.0, section 4, and RFC 8414, section 3: one adds to the path of the issuer, the other stands before it. */
function discoveryUrls(issuer: string): string[] {
  const { origin, pathname } = new URL(issuer);
  const path = pathname.replace(/\/$/, "");
  return [
    `${origin}${path}/.well-known/openid-configuration`,
    `${origin}/.well-known/oauth-authorization-server${path}`,
  ];
}
