/** Agent cards over HTTP, with what caches need (A2A specification, sections 8.2 and 8.6). */
import { createHash } from "node:crypto";
import { toJsonString } from "@bufbuild/protobuf";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { ServedCard } from "../services/cards.ts";
import { type HttpRequest, type HttpResponse, sendNothing, sendText } from "./http-exchange.ts";

/** Answers GET and HEAD for a card; 304 when the client has it already. */
export function sendCard(req: HttpRequest, res: HttpResponse, { card, changedAt }: ServedCard, maxAgeS: number): void {
  const body = toJsonString(AgentCardSchema, card);
  const etag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 27)}"`;
  const headers: [string, string][] = [
    ["etag", etag],
    ["cache-control", `public, max-age=${maxAgeS}`],
    ["last-modified", changedAt.toUTCString()],
  ];
  if (isFresh(req, etag, changedAt)) sendNothing(res, 304, headers);
  else if (req.method === "HEAD") sendNothing(res, 200, [...headers, ["content-type", "application/json"]]);
  else sendText(res, 200, "application/json", body, headers);
}

/** RFC 9110, section 13.2.2: If-Modified-Since counts only where there is no If-None-Match. */
function isFresh(req: HttpRequest, etag: string, changedAt: Date): boolean {
  const { "if-none-match": tags, "if-modified-since": since } = req.headers;
  if (tags !== undefined) {
    return tags.split(",").some((tag) => tag.trim() === "*" || tag.trim().replace(/^W\//, "") === etag);
  }
  const sinceMs = Date.parse(since ?? "");
  return !Number.isNaN(sinceMs) && Math.floor(changedAt.getTime() / 1000) * 1000 <= sinceMs;
}
