/** The JSON-RPC 2.0 binding of A2A (specification, section 9). */
import type { JsonValue, Message } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import type { HandlerContext } from "@connectrpc/connect";
import { A2AService } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { TaskService } from "../../../gen/signalbox/v1/task_pb.ts";
import { eventWriter } from "../event-text.ts";
import { createBodyReader, JSON_TYPE } from "../http-body.ts";
import { HttpCall } from "../http-call.ts";
import { clientError, errorHeaders, httpStatus, methodNotAllowed } from "../http-errors.ts";
import { discardBody, type HttpRequest, type HttpResponse, sendNothing, sendText } from "../http-exchange.ts";
import { messageFromJson, responseWriter } from "../proto-json.ts";
import { type BoundRpc, type BoundRpcs, sequenceOf } from "../rpc/bound.ts";
import { writeSse } from "../sse-writer.ts";
import { errorText, type JsonRpcRequest, NO_ID, readRequest, resultText } from "./envelope.ts";
import { errorObject, methodNotFound } from "./errors.ts";

export interface JsonRpcOptions {
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
 * Answers a request; ends with the answer and never rejects. HTTP says 200 once the body is JSON; 405, 408, 413 and 415
 * before. `target` is the target that the address named.
 */
export type JsonRpcHandler = (req: HttpRequest, res: HttpResponse, target?: string) => Promise<void>;

interface Method {
  rpc: BoundRpc;
  write: (message: Message) => JsonValue;
  writeEvent: (item: Message, context: HandlerContext) => string;
}

/** Our own methods beside the standard's, for who comes from a simple gateway. */
const OWN_METHODS: ReadonlyMap<string, string> = new Map([
  ["task.send", `${TaskService.typeName}/${TaskService.method.submitTask.name}`],
  ["task.status", `${TaskService.typeName}/${TaskService.method.getTask.name}`],
  ["task.cancel", `${TaskService.typeName}/${TaskService.method.cancelTask.name}`],
]);

/** Serves the RPCs of A2AService that are among `rpcs`, and at the router's own address those of `OWN_METHODS`. */
export function createJsonRpcHandler(options: JsonRpcOptions): JsonRpcHandler {
  const { onError, keepAliveMs = 15_000 } = options;
  const readJsonBody = createBodyReader({ maxBytes: options.maxBytes, timeoutMs: options.bodyTimeoutMs ?? 30_000 });
  const methods = new Map<string, Method>();
  for (const rpc of options.rpcs.values()) {
    if (rpc.service.typeName !== A2AService.typeName) continue;
    // Where there is nothing to say the reference implementations answer null, not an empty object.
    const isEmpty = rpc.method.output.typeName === EmptySchema.typeName;
    methods.set(rpc.method.name, methodOf(rpc, isEmpty ? () => null : responseWriter(rpc.method.output)));
  }
  const ownMethods = new Map(methods);
  for (const [name, rpcName] of OWN_METHODS) {
    const rpc = options.rpcs.get(rpcName);
    if (rpc) ownMethods.set(name, methodOf(rpc, responseWriter(rpc.method.output)));
  }

  async function answer(req: HttpRequest, res: HttpResponse, target: string | undefined): Promise<void> {
    let body: Buffer;
    try {
      if (req.method !== "POST") {
        res.setHeader("allow", "POST");
        throw methodNotAllowed(req.method ?? "", ["POST"]);
      }
      body = await readJsonBody(req);
    } catch (thrown) {
      discardBody(req);
      const error = clientError(thrown, onError);
      sendText(res, httpStatus(error), JSON_TYPE, errorText(NO_ID, errorObject(error)), errorHeaders(error));
      return;
    }

    let id: string | undefined = NO_ID;
    let call: HttpCall | undefined;
    try {
      const request = readRequest(body, (known) => {
        id = known;
      });
      id = request.id;
      const known = target === undefined ? ownMethods : methods;
      const method = known.get(request.method);
      if (method === undefined) throw methodNotFound(request.method, [...known.keys()]);
      call = new HttpCall("json-rpc", method.rpc, req, res, queryOf(req), target);
      call.setContent(body);
      await dispatch(method, request, call, res);
    } catch (thrown) {
      const error = clientError(thrown, onError);
      const headers = [...(call?.headersToSend ?? []), ...errorHeaders(error)];
      if (id === undefined) sendNothing(res, 204, headers);
      else sendText(res, 200, JSON_TYPE, errorText(id, errorObject(error)), headers);
    }
  }

  async function dispatch(
    { rpc, write, writeEvent }: Method,
    { id, params }: JsonRpcRequest,
    call: HttpCall,
    res: HttpResponse,
  ) {
    const request = messageFromJson(rpc.method.input, params);
    const unary = rpc.method.methodKind === "unary";
    if (id === undefined) {
      // A notification wants to be done, and no answer (JSON-RPC 2.0, section 4.1). Of a stream, done is its first item.
      if (unary) await rpc.unary(request, call);
      else for await (const _ of rpc.stream(request, call)) break;
      sendNothing(res, 204, call.headersToSend);
      return;
    }
    if (unary) {
      const result = JSON.stringify(write(await rpc.unary(request, call)));
      sendText(res, 200, JSON_TYPE, resultText(id, result), call.headersToSend);
      return;
    }
    await writeSse(rpc.stream(request, call), res, {
      keepAliveMs,
      headers: () => call.headersToSend,
      frame: (item) => ({ data: resultText(id, writeEvent(item, call)), id: sequenceOf(item) }),
      errorFrame: (thrown) => ({ data: errorText(id, errorObject(clientError(thrown, onError))) }),
    });
  }

  return (req, res, target) =>
    answer(req, res, target).catch((error) => {
      onError(error);
      res.destroy();
    });
}

const methodOf = (rpc: BoundRpc, write: Method["write"]): Method => ({ rpc, write, writeEvent: eventWriter(write) });

const NO_QUERY: URLSearchParams = new URLSearchParams();

function queryOf(req: HttpRequest): URLSearchParams {
  const url = req.url ?? "";
  const mark = url.indexOf("?");
  return mark < 0 ? NO_QUERY : new URLSearchParams(url.slice(mark));
}
