/** The HTTP+JSON binding (A2A specification, section 11), for every service whose RPCs have `google.api.http` options. */
import type { JsonValue } from "@bufbuild/protobuf";
import { A2AService } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import type { SignalboxError } from "../../domain/errors.ts";
import { eventWriter } from "../event-text.ts";
import { A2A_JSON_TYPE, createBodyReader, JSON_TYPE } from "../http-body.ts";
import { HttpCall } from "../http-call.ts";
import { clientError, errorBody, errorHeaders, httpStatus, methodNotAllowed, verbNotFound } from "../http-errors.ts";
import { discardBody, type HttpRequest, type HttpResponse, sendText } from "../http-exchange.ts";
import { messageFromJson, parseJson, responseWriter } from "../proto-json.ts";
import { type BoundRpc, type BoundRpcs, sequenceOf } from "../rpc/bound.ts";
import { writeSse } from "../sse-writer.ts";
import { requestJson } from "./request-json.ts";
import { createRouteTable, type RouteMatch } from "./route-table.ts";
import { httpRoutes, type Route } from "./routes.ts";

export interface HttpJsonOptions {
  rpcs: BoundRpcs;
  /** Largest request body, in bytes. */
  maxBytes: number;
  /** How long a request body may take, in milliseconds. Default 30 s. */
  bodyTimeoutMs?: number;
  /** How long a stream may be silent before a comment shows that it lives, in milliseconds. Default 15 s. */
  keepAliveMs?: number;
  /** Told of what should never happen; the client sees a masked INTERNAL. */
  onError: (error: unknown) => void;
}

/**
 * Answers a request if one of its routes has the path, and returns a promise that ends with the answer and never
 * rejects. Returns undefined, and touches nothing, if none has.
 * `path` is without base path and agent prefix, with query; `target` is the target that the prefix named.
 */
export type HttpJsonHandler = (
  req: HttpRequest,
  res: HttpResponse,
  path: string,
  target?: string,
) => Promise<void> | undefined;

/** Throws for annotations that are not understood and for two RPCs with one route. */
export function createHttpJsonHandler(options: HttpJsonOptions): HttpJsonHandler {
  const { onError, keepAliveMs = 15_000 } = options;
  const readJsonBody = createBodyReader({ maxBytes: options.maxBytes, timeoutMs: options.bodyTimeoutMs ?? 30_000 });
  const routes = httpRoutes(options.rpcs.values());
  const table = createRouteTable(routes);
  // Our own services have one address; only the standard's have one for each target.
  const tableOfTargets = createRouteTable(routes.filter(({ rpc }) => rpc.service.typeName === A2AService.typeName));
  const writers = new Map(routes.map(({ rpc }) => [rpc, writerOf(rpc)]));

  async function answer(req: HttpRequest, res: HttpResponse, match: RouteMatch, search: string, target?: string) {
    let call: HttpCall | undefined;
    const type = answerType(req);
    try {
      const route = match.routes.get(req.method ?? "");
      if (route === undefined) {
        const unknown = unknownVerb(match, req.method ?? "");
        if (unknown) throw unknown;
        const allowed = [...match.routes.keys()];
        res.setHeader("allow", allowed.join(", "));
        throw methodNotAllowed(req.method ?? "", allowed);
      }
      const { rpc } = route;
      const write = writers.get(rpc)!;
      const query = new URLSearchParams(search);
      call = new HttpCall("http+json", rpc, req, res, query, target);
      const request = await readRequest(req, route, match.values, query, call);
      if (rpc.method.methodKind === "unary") {
        const response = await rpc.unary(request, call);
        sendText(res, 200, type, JSON.stringify(write.answer(response)), call.headersToSend);
        return;
      }
      await writeSse(rpc.stream(request, call), res, {
        keepAliveMs,
        headers: () => call!.headersToSend,
        frame: (item) => ({ data: write.event(item, call!), id: sequenceOf(item) }),
        errorFrame: (thrown) => ({ event: "error", data: JSON.stringify(errorBody(clientError(thrown, onError))) }),
      });
    } catch (thrown) {
      discardBody(req);
      const error = clientError(thrown, onError);
      const headers = [...(call?.headersToSend ?? []), ...errorHeaders(error)];
      sendText(res, httpStatus(error), type, JSON.stringify(errorBody(error)), headers);
    }
  }

  async function readRequest(
    req: HttpRequest,
    route: Route,
    values: readonly string[],
    query: URLSearchParams,
    call: HttpCall,
  ) {
    let body: JsonValue | undefined;
    if (route.body === undefined) discardBody(req);
    else {
      const bytes = await readJsonBody(req);
      call.setContent(bytes);
      if (bytes.length > 0) body = parseJson(bytes);
    }
    return messageFromJson(route.rpc.method.input, requestJson(route, values, query, body));
  }

  return (req, res, path, target) => {
    const mark = path.indexOf("?");
    const match = (target === undefined ? table : tableOfTargets).match(mark < 0 ? path : path.slice(0, mark));
    if (match === undefined) return undefined;
    return answer(req, res, match, mark < 0 ? "" : path.slice(mark), target).catch((error) => {
      onError(error);
      res.destroy();
    });
  };
}

function writerOf({ method }: BoundRpc) {
  const answer = responseWriter(method.output);
  return { answer, event: eventWriter(answer) };
}

/** What to say of a colon that was read as part of an id, because what follows it is no verb, though others there are. */
function unknownVerb({ values, verbs }: RouteMatch, method: string): SignalboxError | undefined {
  const given = /:([A-Za-z]+)$/.exec(values.at(-1) ?? "")?.[1];
  if (given === undefined || verbs.has(given)) return undefined;
  const known = [...verbs].flatMap(([verb, routes]) => (verb !== "" && routes.has(method) ? [verb] : []));
  return known.length > 0 ? verbNotFound(method, given, known) : undefined;
}

/** application/json unless the client sends or accepts A2A's own type. */
function answerType(req: HttpRequest): string {
  const { accept = "", "content-type": sent = "" } = req.headers;
  return `${accept},${sent}`.toLowerCase().includes(A2A_JSON_TYPE) ? A2A_JSON_TYPE : JSON_TYPE;
}
