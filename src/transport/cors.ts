/** CORS for browsers: which pages may call, and what they may send and read (Connect, gRPC-Web, HTTP+JSON, JSON-RPC). */
import { cors } from "@connectrpc/connect";
import { type HttpRequest, type HttpResponse, sendNothing } from "./http-exchange.ts";

const PREFLIGHT_MAX_AGE_S = 7200;
const ALLOWED_METHODS = [...new Set([...cors.allowedMethods, "PATCH", "DELETE"])].join(", ");
const ALLOWED_HEADERS = [
  ...cors.allowedHeaders,
  "Authorization",
  "A2A-Version",
  "A2A-Extensions",
  "Last-Event-ID",
  "Signalbox-After-Sequence",
  "Idempotency-Key",
  "Cache-Control",
  "X-Request-Id",
  "Traceparent",
].join(", ");
const EXPOSED_HEADERS = [...cors.exposedHeaders, "A2A-Extensions", "ETag", "Retry-After", "X-Request-Id"].join(", ");

/**
 * Sets the headers that let a page read the answer; answers a preflight and returns true. `origins` are those of
 * `http.cors-origins`; `*` among them means every page.
 */
export function handleCors(req: HttpRequest, res: HttpResponse, origins: readonly string[]): boolean {
  const { origin } = req.headers;
  if (origin === undefined || origins.length === 0) return false;
  res.setHeader("vary", "Origin");
  const allowed = origins.includes("*") || origins.includes(origin);
  if (allowed) {
    res.setHeader("access-control-allow-origin", origins.includes("*") ? "*" : origin);
    res.setHeader("access-control-expose-headers", EXPOSED_HEADERS);
  }
  if (req.method !== "OPTIONS" || req.headers["access-control-request-method"] === undefined) return false;
  if (allowed) {
    res.setHeader("access-control-allow-methods", ALLOWED_METHODS);
    res.setHeader("access-control-allow-headers", ALLOWED_HEADERS);
    res.setHeader("access-control-max-age", String(PREFLIGHT_MAX_AGE_S));
  }
  sendNothing(res, 204);
  return true;
}
