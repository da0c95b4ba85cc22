/** HTTP+JSON, with server-sent events for streams (A2A specification, section 11). */
import { type DescMessage, type JsonValue, type MessageShape, toJson } from "@bufbuild/protobuf";
import type { Agent } from "undici";
import { AgentCallError } from "../services/agent-port.ts";
import { decodeJson, invalidAnswer, isObject, reasonOf, refusedCall } from "./agent-answer.ts";
import type { AgentCall } from "./agent-call.ts";
import type { AgentChannel } from "./agent-channel.ts";
import {
  callHttp,
  EVENT_STREAM,
  type HttpAnswer,
  httpRefusal,
  isJson,
  isSuccess,
  parseJson,
  readEvents,
  readText,
} from "./http-call.ts";

/** An RPC as HTTP sees it (section 11.3). What stands in the path is no longer in the body. */
interface Route {
  method: "GET" | "POST";
  path: string;
  body?: Record<string, JsonValue>;
}

function routeOf(rpc: string, { tenant, id, ...rest }: Record<string, JsonValue>): Route {
  const prefix = typeof tenant === "string" ? `/${encodeURIComponent(tenant)}` : "";
  const task = `${prefix}/tasks/${encodeURIComponent(String(id))}`;
  switch (rpc) {
    case "SendMessage":
      return { method: "POST", path: `${prefix}/message:send`, body: rest };
    case "SendStreamingMessage":
      return { method: "POST", path: `${prefix}/message:stream`, body: rest };
    case "GetTask":
      return { method: "GET", path: task };
    case "CancelTask":
      return { method: "POST", path: `${task}:cancel`, body: rest };
    case "SubscribeToTask":
      return { method: "POST", path: `${task}:subscribe` };
    default:
      throw new Error(`${rpc} has no HTTP route here`);
  }
}

/** Answers of servers that know the path of a request, but not with this method, or not at all. */
const NO_SUCH_METHOD = new Set(["HTTP_404", "HTTP_405", "HTTP_501"]);

export function createHttpJsonChannel(connections: Agent, url: string, maxMessageBytes: number): AgentChannel {
  const base = new URL(url);
  const basePath = base.pathname.replace(/\/+$/, "");
  // The specification's text says POST, its contract says GET, and there are agents of either kind.
  let subscribesByGet = false;

  async function open<I extends DescMessage>(
    rpc: { name: string; input: I },
    request: MessageShape<I>,
    call: AgentCall,
    accept: string,
    otherMethod?: "GET",
  ): Promise<HttpAnswer> {
    const route = routeOf(rpc.name, toJson(rpc.input, request) as Record<string, JsonValue>);
    const target = new URL(base);
    target.pathname = basePath + route.path;
    const method = otherMethod ?? route.method;
    const answer = await callHttp(connections, call, {
      method,
      url: target.href,
      accept,
      ...(method === "POST" && { contentType: "application/json" }),
      ...(route.body && { body: JSON.stringify(route.body) }),
    });
    if (isSuccess(answer.status)) return answer;
    throw refusal(rpc.name, answer.status, await readText(answer, call, maxMessageBytes));
  }

  async function openStream<I extends DescMessage>(
    rpc: { name: string; input: I },
    request: MessageShape<I>,
    call: AgentCall,
  ): Promise<HttpAnswer> {
    if (rpc.name !== "SubscribeToTask") return open(rpc, request, call, EVENT_STREAM);
    try {
      if (!subscribesByGet) return await open(rpc, request, call, EVENT_STREAM);
    } catch (error) {
      if (!(error instanceof AgentCallError && NO_SUCH_METHOD.has(error.reason ?? ""))) throw error;
    }
    const answer = await open(rpc, request, call, EVENT_STREAM, "GET");
    subscribesByGet = true;
    return answer;
  }

  return {
    async unary(rpc, request, call) {
      const answer = await open(rpc, request, call, "application/json, application/a2a+json");
      const text = await readText(answer, call, maxMessageBytes);
      if (!isJson(answer.mediaType)) {
        throw invalidAnswer(rpc.name, `is ${answer.mediaType || "of no type"}, not JSON`, text);
      }
      return decodeJson(rpc.name, rpc.output, readObject(rpc.name, text), text);
    },

    async *stream(rpc, request, call) {
      const answer = await openStream(rpc, request, call);
      if (answer.mediaType !== EVENT_STREAM) {
        const text = await readText(answer, call, maxMessageBytes);
        throw invalidAnswer(rpc.name, "is one answer where a stream was asked for", text);
      }
      for await (const { data } of readEvents(answer, call, maxMessageBytes)) {
        const item = readObject(rpc.name, data);
        if (isObject(item.error)) throw refusal(rpc.name, answer.status, data);
        yield decodeJson(rpc.name, rpc.output, item, data);
      }
    },

    close() {},
  };
}

function readObject(rpc: string, text: string): { [name: string]: JsonValue } {
  const value = parseJson(text);
  if (!isObject(value)) throw invalidAnswer(rpc, "is no JSON object", text);
  return value as { [name: string]: JsonValue };
}

/** The error that an agent gives in the form of google.rpc.Status (section 11.6), or that HTTP gives. */
function refusal(rpc: string, status: number, text: string): AgentCallError {
  const body = parseJson(text);
  const error = isObject(body) ? body.error : undefined;
  if (!isObject(error)) return httpRefusal(rpc, status, text);
  const reason = reasonOf(error.details) ?? (typeof error.status === "string" ? error.status : `HTTP_${status}`);
  return refusedCall(rpc, reason, typeof error.message === "string" ? error.message : "", text);
}
