/** Fetches the JWK Sets (RFC 7517, section 5) that signatures of cards name. */
import type { JsonValue } from "@bufbuild/protobuf";
import { request } from "undici";
import { clip, SignalboxError } from "../domain/errors.ts";
import type { CardKeyFetcher } from "../services/agent-port.ts";
import { parseJson } from "./http-call.ts";
import { ConnectFailure, createHttpConnections } from "./http-connections.ts";
import { createUrlGuard, type Lookup } from "./url-guard.ts";

export interface CardKeyFetcherOptions {
  /** Whether sets may be at private and loopback addresses. */
  allowPrivateUrls: boolean;
  /** Largest set. Default 64 KiB. */
  maxBytes?: number;
  /** Longest time for a set, in milliseconds. Default 5 s. */
  timeoutMs?: number;
  lookup?: Lookup;
}

/** The fetcher of the port. A redirect is no set: whoever follows one takes keys from elsewhere. */
export function createCardKeyFetcher(options: CardKeyFetcherOptions): CardKeyFetcher & { close(): Promise<void> } {
  const { maxBytes = 64 * 1024, timeoutMs = 5_000 } = options;
  const guard = createUrlGuard(options);
  const http = createHttpConnections(guard);

  async function get(url: string, signal: AbortSignal): Promise<JsonValue> {
    const at = guard.checkUrl(url, "jku");
    const headers = { accept: "application/jwk-set+json, application/json" };
    const { statusCode, body } = await request(at, { dispatcher: http, headers, signal });
    body.on("error", () => {});
    if (statusCode !== 200) {
      body.destroy();
      throw unavailable(url, `answered HTTP ${statusCode}`);
    }
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      size += chunk.length;
      if (size > maxBytes) throw unavailable(url, `has more than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
    const json = parseJson(Buffer.concat(chunks).toString());
    if (json === undefined) throw unavailable(url, "answered no JSON");
    return json as JsonValue;
  }

  return {
    async fetch(url, { signal }) {
      const timeout = AbortSignal.timeout(timeoutMs);
      try {
        return await get(url, AbortSignal.any([signal, timeout]));
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (error instanceof SignalboxError) throw error;
        if (timeout.aborted) throw unavailable(url, `gave no keys within ${timeoutMs} ms`, error);
        const cause = error instanceof ConnectFailure ? error.cause : error;
        const { code } = (cause ?? {}) as { code?: unknown };
        throw unavailable(url, `could not be read${typeof code === "string" ? ` (${code})` : ""}`, error);
      }
    },
    close: () => http.destroy(),
  };
}

/** `what` goes on from the URL. */
const unavailable = (url: string, what: string, cause?: unknown): SignalboxError =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "KEYS_UNAVAILABLE",
    message: `${clip(url, 256)} ${what}.`,
    cause,
  });
