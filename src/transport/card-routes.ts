/**
 * Agent cards, the catalog of them, and the keys that sign them, over HTTP, with what caches need (A2A specification, sections 8.2
 * and 8.6). A good credential gets what its principal may use, none what is public, and one that is not good is refused.
 */
import { createHash } from "node:crypto";
import { toJson } from "@bufbuild/protobuf";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { canonicalJson } from "../domain/canonical-json.ts";
import { cardPayload } from "../domain/card-payload.ts";
import { invalidArgument } from "../domain/errors.ts";
import { unauthenticated } from "../domain/identity/errors.ts";
import type { Cards, ServedCard } from "../services/cards.ts";
import { CATALOG_PATH, CATALOG_TYPE } from "../services/catalog.ts";
import type { Authenticator } from "../services/identity/authenticator.ts";
import { type AskedBy, askedBy, VARY } from "./card-caller.ts";
import { HttpCredentials } from "./http-credentials.ts";
import { type HttpRequest, type HttpResponse, sendNothing, sendText } from "./http-exchange.ts";

export const CARD_PATH = "/.well-known/agent-card.json";
const KEYS_PATH = "/.well-known/jwks.json";

export interface CardRoutes {
  /** Undefined for an address that is none of theirs. */
  atRouter(req: HttpRequest, res: HttpResponse, pathname: string, query: string): Promise<void> | undefined;
  /** Resolves to false where there is no such card. */
  atTarget(req: HttpRequest, res: HttpResponse, kind: "agent" | "capability", id: string): Promise<boolean>;
}

export interface CardRoutesDeps {
  cards: Cards;
  authenticator: Authenticator;
  /** How long an answer may be kept, in seconds. */
  maxAgeS: number;
}

export function createCardRoutes({ cards, authenticator, maxAgeS }: CardRoutesDeps): CardRoutes {
  const caller = (req: HttpRequest) => askedBy(authenticator, new HttpCredentials(req, req.url ?? ""));

  async function router(req: HttpRequest, res: HttpResponse): Promise<void> {
    const asked = await caller(req);
    sendCard(req, res, await cards.router(asked.caller), asked, maxAgeS);
  }

  async function catalog(req: HttpRequest, res: HttpResponse, query: string): Promise<void> {
    const part = partIn(query);
    const asked = await caller(req);
    const found = await cards.catalog(asked.caller, part);
    if (!found) throw invalidArgument([{ field: "part", description: `there is no such part: see ${CATALOG_PATH}` }]);
    const body = JSON.stringify(found);
    send(req, res, { type: CATALOG_TYPE, body, tag: tagOf(body), headers: audience(asked, maxAgeS) });
  }

  async function keys(req: HttpRequest, res: HttpResponse): Promise<void> {
    const body = JSON.stringify(cards.keySet());
    const headers: [string, string][] = [["cache-control", `public, max-age=${maxAgeS}`]];
    send(req, res, { type: "application/jwk-set+json", body, tag: tagOf(body), headers });
  }

  return {
    atRouter(req, res, pathname, query) {
      if (pathname === CARD_PATH) return router(req, res);
      if (pathname === CATALOG_PATH) return catalog(req, res, query);
      return pathname === KEYS_PATH ? keys(req, res) : undefined;
    },
    async atTarget(req, res, kind, id) {
      const asked = await caller(req);
      // The same for what there is and what there is not.
      if (!asked.caller) throw unauthenticated();
      const card = await cards[kind](asked.caller, id);
      if (card) sendCard(req, res, card, asked, maxAgeS);
      return card !== undefined;
    },
  };
}

/** Which part of the catalog is asked for; undefined for all of it. */
function partIn(query: string): number | undefined {
  const given = new URLSearchParams(query).get("part");
  if (given === null) return undefined;
  if (/^[1-9]\d{0,5}$/.test(given)) return Number(given);
  throw invalidArgument([{ field: "part", description: "is a whole number from 1" }]);
}

/**
 * A card as it is signed, with its signatures. These are others on each server, and say the same: the tag is that of what is signed
 * and of by which key, and weak (RFC 9110, section 8.8.1).
 */
function sendCard(
  req: HttpRequest,
  res: HttpResponse,
  { card, changedAt }: ServedCard,
  asked: AskedBy,
  maxAgeS: number,
): void {
  const payload = cardPayload(card);
  const signed = toJson(AgentCardSchema, card) as { signatures?: { protected: string }[] };
  const { signatures } = signed;
  const body = JSON.stringify(signatures ? { ...payload, signatures } : payload);
  const headers = audience(asked, maxAgeS);
  if (changedAt) headers.push(["last-modified", changedAt.toUTCString()]);
  const tag = tagOf(canonicalJson(payload) + (signatures ?? []).map((each) => each.protected).join(" "));
  send(req, res, { type: "application/json", body, tag: signatures ? `W/${tag}` : tag, headers, changedAt });
}

/** Who may keep an answer, and which requests it answers. */
function audience({ isPublic }: AskedBy, maxAgeS: number): [string, string][] {
  return [
    ["cache-control", `${isPublic ? "public" : "private"}, max-age=${maxAgeS}`],
    ["vary", VARY.join(", ")],
  ];
}

interface Answer {
  readonly type: string;
  readonly body: string;
  readonly tag: string;
  readonly headers: [string, string][];
  readonly changedAt?: Date | undefined;
}

/** Answers GET and HEAD; 304 when the client has it already. */
function send(req: HttpRequest, res: HttpResponse, { type, body, tag, headers, changedAt }: Answer): void {
  const all: [string, string][] = [["etag", tag], ...headers.map((header) => withOthers(res, header))];
  if (isFresh(req, tag, changedAt)) sendNothing(res, 304, all);
  else if (req.method === "HEAD") sendNothing(res, 200, [...all, ["content-type", type]]);
  else sendText(res, 200, type, body, all);
}

/** `Vary` may name the origin already, for pages. */
function withOthers(res: HttpResponse, [name, value]: [string, string]): [string, string] {
  const before = name === "vary" ? res.getHeader(name) : undefined;
  return [name, before === undefined ? value : `${before}, ${value}`];
}

const tagOf = (text: string): string => `"${createHash("sha256").update(text).digest("base64url").slice(0, 27)}"`;

const opaque = (tag: string): string => tag.trim().replace(/^W\//, "");

/** RFC 9110, section 13.2.2: If-Modified-Since counts only where there is no If-None-Match. */
function isFresh(req: HttpRequest, tag: string, changedAt: Date | undefined): boolean {
  const { "if-none-match": tags, "if-modified-since": since } = req.headers;
  if (tags !== undefined) return tags.split(",").some((each) => each.trim() === "*" || opaque(each) === opaque(tag));
  const sinceMs = Date.parse(since ?? "");
  return changedAt !== undefined && !Number.isNaN(sinceMs) && Math.floor(changedAt.getTime() / 1000) * 1000 <= sinceMs;
}
