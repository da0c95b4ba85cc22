/** Fetches agent cards (A2A specification, section 8). */
import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { request } from "undici";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { clip, invalidArgument, SignalboxError } from "../domain/errors.ts";
import { missingFields } from "../domain/required-fields.ts";
import { AgentCallError, type AgentPlace, type CardFetcher } from "../services/agent-port.ts";
import { isObject } from "./agent-answer.ts";
import { destinationOfUrl, type Proof, type Prover } from "./agent-proof.ts";
import { parseJson } from "./http-call.ts";
import { ConnectFailure, createHttpConnections } from "./http-connections.ts";
import { AddressRefused, createUrlGuard, type UrlGuardOptions, withinOwnNetwork } from "./url-guard.ts";

export interface CardFetcherOptions extends UrlGuardOptions {
  /** What the router proves itself with to agents; left out: nothing. */
  prover?: Prover | undefined;
  /** Largest card. Default 1 MiB. */
  maxBytes?: number;
  /** Longest time for a card, redirects included, in milliseconds. Default 10 s. */
  timeoutMs?: number;
}

const MAX_REDIRECTS = 3;

/** The fetcher of the port. `close` ends what runs and drops the connections. */
export function createCardFetcher(options: CardFetcherOptions): CardFetcher & { close(): Promise<void> } {
  const { maxBytes = 1024 * 1024, timeoutMs = 10_000, prover } = options;
  const guard = createUrlGuard(options);
  const http = createHttpConnections(guard);
  const ownHttp = createHttpConnections(withinOwnNetwork(guard));

  /** One request. Undefined where its answer is not worth anything, because it carried a token that is stale. */
  async function ask(at: URL, headers: Record<string, string>, proof: Proof | undefined, signal: AbortSignal) {
    const way = proof?.way ?? "any";
    const connections = way === "any" ? http : way === "own-network" ? ownHttp : createHttpConnections(guard, way);
    const { pathname, search } = at;
    const proven = proof?.headers({ method: "GET", target: () => pathname + search, content: () => "" });
    // Those of a certificate end with what they were made for.
    const end = () => (typeof way === "string" ? undefined : void connections.close());
    try {
      const answer = await request(at, { dispatcher: connections, headers: { ...headers, ...proven }, signal });
      answer.body.on("error", () => {});
      if (answer.statusCode !== 401 || !proof?.wasRefused()) return answer;
      answer.body.destroy();
      return undefined;
    } finally {
      end();
    }
  }

  /** The final answer, after redirects. Undefined for 304. */
  async function get(url: string, { etag, modified }: Validators, agent: AgentPlace | undefined, signal: AbortSignal) {
    // Who has an ETag does not need the other (RFC 9110, section 13.1.3).
    const condition: Record<string, string> =
      etag !== undefined ? { "if-none-match": etag } : modified !== undefined ? { "if-modified-since": modified } : {};
    const isConditional = etag !== undefined || modified !== undefined;
    let at = guard.checkUrl(url, "card_url");
    const { origin } = at;
    for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
      const headers = { accept: "application/json, application/a2a+json", "a2a-version": "1.0", ...condition };
      // What proves us goes to where the card is said to be, and to no other place that a redirect names.
      const prove = async () =>
        agent && at.origin === origin ? prover?.optionalProof(agent, destinationOfUrl(at), { signal }) : undefined;
      const answer = (await ask(at, headers, await prove(), signal)) ?? (await ask(at, headers, await prove(), signal));
      if (!answer) throw unavailable(url, "answered HTTP 401");
      const { statusCode, headers: received, body } = answer;
      const location = headerIn(received.location);
      if (statusCode === 304 && isConditional) {
        body.destroy();
        return undefined;
      }
      if (statusCode === 200) {
        const text = await readBounded(body, maxBytes);
        return { text, etag: headerIn(received.etag), modified: headerIn(received["last-modified"]) };
      }
      body.destroy();
      if (statusCode < 300 || statusCode >= 400 || location === "")
        throw unavailable(url, `answered HTTP ${statusCode}`);
      at = guard.checkUrl(URL.parse(location, at.href)?.href ?? location, "card_url");
    }
    throw unavailable(url, `redirected more than ${MAX_REDIRECTS} times`);
  }

  return {
    async fetch(url, { signal, agent, ...validators }) {
      const timeout = AbortSignal.timeout(timeoutMs);
      try {
        const found = await get(url, validators, agent, AbortSignal.any([signal, timeout]));
        if (!found) return undefined;
        const { text, etag, modified } = found;
        return { ...readCard(text), ...(etag !== "" && { etag }), ...(modified !== "" && { modified }) };
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (error instanceof SignalboxError) throw error;
        if (error instanceof AgentCallError) throw unavailable(url, `was not asked. ${error.message}`, error);
        if (timeout.aborted) throw unavailable(url, `gave no card within ${timeoutMs} ms`, error);
        throw connectError(url, error);
      }
    },
    async close() {
      await Promise.all([http.destroy(), ownHttp.destroy()]);
    },
  };
}

/** With what a card was served before. */
interface Validators {
  etag?: string | undefined;
  modified?: string | undefined;
}

/** The first value of a header; empty when there is none. */
const headerIn = (value: string | string[] | undefined): string => [value ?? ""].flat()[0]!;

async function readBounded(body: AsyncIterable<Uint8Array>, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > maxBytes) throw brokenCard("card", `is larger than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

/** Parses a card, unknown fields ignored, and checks what the contract requires of it. Throws INVALID_ARGUMENT. */
function readCard(text: string): { card: AgentCard; json: JsonObject } {
  const json = parseJson(text);
  if (!isObject(json)) throw brokenCard("card", "is no JSON object. Give the URL of the agent's card");
  if (json.supportedInterfaces === undefined && typeof json.url === "string") {
    throw brokenCard(
      "card.supportedInterfaces",
      "is required. This looks like a card of A2A 0.3; a card of A2A 1.0 lists them",
    );
  }
  let card: AgentCard;
  try {
    card = fromJson(AgentCardSchema, json as JsonObject, { ignoreUnknownFields: true });
  } catch (cause) {
    throw brokenCard("card", `is no AgentCard of A2A 1.0: ${clip((cause as Error).message, 512)}`, cause);
  }
  const missing = missingFields(AgentCardSchema, card);
  if (missing.length === 0) return { card, json: json as JsonObject };
  throw invalidArgument(missing.map(({ field, description }) => ({ field: clip(`card.${field}`), description })));
}

function brokenCard(field: string, description: string, cause?: unknown): SignalboxError {
  return invalidArgument([{ field, description: `${description}.` }], cause);
}

function connectError(url: string, error: unknown): SignalboxError {
  const cause = error instanceof ConnectFailure ? error.cause : error;
  if (cause instanceof AddressRefused)
    return invalidArgument([{ field: "card_url", description: cause.message }], error);
  const code = (cause as { code?: unknown } | undefined)?.code;
  return unavailable(url, `could not be read${typeof code === "string" ? ` (${code})` : ""}`, error);
}

/** `what` goes on from the URL. */
function unavailable(url: string, what: string, cause?: unknown): SignalboxError {
  return new SignalboxError({
    code: "UNAVAILABLE",
    reason: "CARD_UNAVAILABLE",
    message: `${clip(url, 256)} ${what}. Check that the agent runs there and serves its card.`,
    retryAfterMs: 5000,
    cause,
  });
}
