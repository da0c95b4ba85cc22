/** Everything on the HTTP listener, in the order in which it is looked for. */

import { internal, SignalboxError } from "../domain/errors.ts";
import { isDnsLabel } from "../domain/identifiers.ts";
import { agentTenant, capabilityTenant, type Target } from "../domain/target.ts";
import type { Cards } from "../services/cards.ts";
import type { Authenticator } from "../services/identity/authenticator.ts";
import type { Credentials } from "../services/identity/credentials.ts";
import { CARD_PATH, createCardRoutes } from "./card-routes.ts";
import { createConnectLane } from "./connect/connect-lane.ts";
import { handleCors } from "./cors.ts";
import { createHostGuard, type HostGuardOptions } from "./host-guard.ts";
import { HttpCredentials } from "./http-credentials.ts";
import { errorBody, errorHeaders, httpStatus, routeNotFound } from "./http-errors.ts";
import { discardBody, type HttpRequest, type HttpResponse, sendText } from "./http-exchange.ts";
import { createHttpJsonHandler } from "./http-json/handler.ts";
import { createJsonRpcHandler } from "./json-rpc/handler.ts";
import type { DeepHealth } from "./ops/deep-health.ts";
import type { MetricsPage } from "./ops/metrics.ts";
import type { BoundRpcs } from "./rpc/bound.ts";

export interface HttpRoutesOptions extends HostGuardOptions {
  rpcs: BoundRpcs;
  cards: Cards;
  metrics: MetricsPage;
  /** Knows who asks for cards. */
  authenticator: Authenticator;
  /** The OpenAPI document of our own routes, as text. */
  openapi: () => Promise<string>;
  /** How each part of the server is. */
  health: () => Promise<DeepHealth>;
  /** Whether the server takes calls, and its database answers. */
  isReady: () => Promise<boolean>;
  /** Throws unless whoever asks for a page of operations (`/metrics`, `/health/deep`) may see it. */
  admitOperator: (credentials: Credentials, path: string) => Promise<void> | void;
  basePath: string;
  compress: boolean;
  maxBytes: number;
  cardMaxAgeS: number;
  onError: (error: unknown) => void;
}

type Handler = (req: HttpRequest, res: HttpResponse) => void;

const JSON_TYPE = "application/json";
const JSON_RPC_PATHS = new Set(["/", "/rpc", "/rpc/"]);
/** `/agents/{agent}` or `/capabilities/{capability}`, and what follows it. */
const TARGET_PREFIX = /^\/(agents|capabilities)\/([^/?]+)(\/[^?]*)?(\?.*)?$/;

export function createHttpRoutes(options: HttpRoutesOptions): Handler {
  const { rpcs, metrics, basePath, maxBytes, onError } = options;
  const cards = createCardRoutes({ ...options, maxAgeS: options.cardMaxAgeS });
  const httpJson = createHttpJsonHandler({ rpcs, maxBytes, onError });
  const jsonRpc = createJsonRpcHandler({ rpcs, maxBytes, onError });
  const connect = createConnectLane({ rpcs, maxBytes, compress: options.compress, fallback: notFound });
  const refusal = createHostGuard(options);

  function route(req: HttpRequest, res: HttpResponse, path: string): Promise<void> {
    const mark = path.indexOf("?");
    const pathname = mark < 0 ? path : path.slice(0, mark);
    if (req.method === "POST" && JSON_RPC_PATHS.has(pathname)) return jsonRpc(req, res);
    const [, kind, id, rest = "", query = ""] = TARGET_PREFIX.exec(path) ?? [];
    if (id !== undefined)
      return atTarget(req, res, kind === "agents" ? "agent" : "capability", decode(id), rest, query);
    return atRouter(req, res, path, pathname);
  }

  async function atRouter(req: HttpRequest, res: HttpResponse, path: string, pathname: string): Promise<void> {
    if (req.method === "GET" || req.method === "HEAD") {
      if (await operations(req, res, pathname)) return;
      const card = cards.atRouter(req, res, pathname, path.slice(pathname.length + 1));
      if (card) return card;
    }
    const target = req.url ?? "";
    await (httpJson(req, res, path) ?? connect(withUrl(req, path), res, target));
  }

  /** A full A2A agent at the address of an agent, or of a capability. */
  async function atTarget(
    req: HttpRequest,
    res: HttpResponse,
    kind: Target["kind"],
    id: string,
    rest: string,
    query: string,
  ): Promise<void> {
    if (!isDnsLabel(id)) return notFound(req, res);
    const target = kind === "agent" ? agentTenant(id) : capabilityTenant(id);
    if (rest === CARD_PATH && (req.method === "GET" || req.method === "HEAD")) {
      return (await cards.atTarget(req, res, kind, id)) ? undefined : notFound(req, res);
    }
    if (req.method === "POST" && (rest === "" || JSON_RPC_PATHS.has(rest))) return jsonRpc(req, res, target);
    // Nothing of the standard is right here: what is known of the agent is.
    if (kind === "agent" && (rest === "" || rest === "/")) {
      return httpJson(req, res, `/agents/${id}${query}`) ?? notFound(req, res);
    }
    await (httpJson(req, res, rest + query, target) ?? notFound(req, res));
  }

  async function operations(req: HttpRequest, res: HttpResponse, pathname: string): Promise<boolean> {
    switch (pathname) {
      case "/healthz":
      case "/health":
        sendText(res, 200, JSON_TYPE, '{"status":"ok"}');
        return true;
      case "/readyz": {
        const isReady = await options.isReady();
        // Whoever may know why asks /health/deep.
        sendText(res, isReady ? 200 : 503, JSON_TYPE, isReady ? '{"status":"ready"}' : '{"status":"not ready"}');
        return true;
      }
      case "/v1/openapi.json":
        sendText(res, 200, JSON_TYPE, await options.openapi());
        return true;
      case "/health/deep": {
        await options.admitOperator(new HttpCredentials(req, req.url ?? ""), pathname);
        const health = await options.health();
        sendText(res, health.status === "unhealthy" ? 503 : 200, JSON_TYPE, JSON.stringify(health));
        return true;
      }
      case "/metrics":
        await options.admitOperator(new HttpCredentials(req, req.url ?? ""), pathname);
        sendText(res, 200, metrics.contentType, await metrics.render());
        return true;
      default:
        return false;
    }
  }

  return (req, res) => {
    const refused = refusal(req);
    if (refused) return sendError(req, res, refused);
    const path = stripBasePath(req.url ?? "/", basePath);
    if (path === undefined) return notFound(req, res);
    if (handleCors(req, res, options.corsOrigins)) return;
    route(req, res, path).catch((thrown: unknown) => {
      if (!(thrown instanceof SignalboxError)) onError(thrown);
      sendError(req, res, thrown instanceof SignalboxError ? thrown : internal(thrown));
    });
  };
}

function notFound(req: HttpRequest, res: HttpResponse): void {
  const [pathname = "/"] = (req.url ?? "/").split("?", 1);
  sendError(req, res, routeNotFound(req.method ?? "", pathname));
}

function sendError(req: HttpRequest, res: HttpResponse, error: SignalboxError): void {
  discardBody(req);
  sendText(res, httpStatus(error), JSON_TYPE, JSON.stringify(errorBody(error)), errorHeaders(error));
}

/** The path below the base path, or undefined when it is not below it. */
function stripBasePath(url: string, basePath: string): string | undefined {
  if (basePath === "") return url;
  if (!url.startsWith(basePath)) return undefined;
  const rest = url.slice(basePath.length);
  if (rest === "" || rest.startsWith("?")) return `/${rest}`;
  return rest.startsWith("/") ? rest : undefined;
}

/** connect-node reads the path from the request itself. */
function withUrl(req: HttpRequest, path: string): HttpRequest {
  req.url = path;
  return req;
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return "";
  }
}
