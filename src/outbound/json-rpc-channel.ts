/** JSON-RPC 2.0 over HTTP, with server-sent events for streams (A2A specification, section 9). */
import { type DescMessage, type JsonValue, type MessageShape, toJson } from "@bufbuild/protobuf";
import type { Agent } from "undici";
import type { AgentCallError } from "../services/agent-port.ts";
import { decodeJson, invalidAnswer, isObject, reasonOf, refusedCall } from "./agent-answer.ts";
import type { AgentCall } from "./agent-call.ts";
import type { AgentChannel } from "./agent-channel.ts";
import {
  callHttp,
  EVENT_STREAM,
  httpRefusal,
  isJson,
  isSuccess,
  parseJson,
  readEvents,
  readText,
} from "./http-call.ts";

/** Reasons of agents that give a code and no ErrorInfo (section 5.4, and JSON-RPC 2.0, section 5.1). */
const REASON_OF_CODE: Record<number, string> = {
  [-32001]: "TASK_NOT_FOUND",
  [-32002]: "TASK_NOT_CANCELABLE",
  [-32003]: "PUSH_NOTIFICATION_NOT_SUPPORTED",
  [-32004]: "UNSUPPORTED_OPERATION",
  [-32005]: "CONTENT_TYPE_NOT_SUPPORTED",
  [-32006]: "INVALID_AGENT_RESPONSE",
  [-32007]: "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
  [-32008]: "EXTENSION_SUPPORT_REQUIRED",
  [-32009]: "VERSION_NOT_SUPPORTED",
  [-32600]: "INVALID_REQUEST",
  [-32601]: "METHOD_NOT_FOUND",
  [-32602]: "INVALID_PARAMS",
  [-32603]: "INTERNAL_ERROR",
  [-32700]: "PARSE_ERROR",
};

export function createJsonRpcChannel(connections: Agent, url: string, maxMessageBytes: number): AgentChannel {
  let lastId = 0;

  async function post<I extends DescMessage>(schema: I, request: MessageShape<I>, call: AgentCall, accept: string) {
    const id = ++lastId;
    const body = JSON.stringify({ jsonrpc: "2.0", id, method: call.rpc, params: toJson(schema, request) });
    const answer = await callHttp(connections, call, {
      method: "POST",
      url,
      accept,
      contentType: "application/json",
      body,
    });
    return { id, answer };
  }

  return {
    async unary(rpc, request, call) {
      const { id, answer } = await post(rpc.input, request, call, "application/json");
      const text = await readText(answer, call, maxMessageBytes);
      return decodeJson(rpc.name, rpc.output, readResult(rpc.name, id, text, answer), text);
    },

    async *stream(rpc, request, call) {
      const { id, answer } = await post(rpc.input, request, call, `${EVENT_STREAM}, application/json`);
      if (answer.mediaType !== EVENT_STREAM) {
        const text = await readText(answer, call, maxMessageBytes);
        readResult(rpc.name, id, text, answer);
        throw invalidAnswer(rpc.name, "is one answer where a stream was asked for", text);
      }
      for await (const { data } of readEvents(answer, call, maxMessageBytes)) {
        yield decodeJson(rpc.name, rpc.output, readResult(rpc.name, id, data), data);
      }
    },

    close() {},
  };
}

/** The result of a response object. Throws AgentCallError for an error in it, and for what is no response to `id`. */
function readResult(rpc: string, id: number, text: string, head?: { status: number; mediaType: string }): JsonValue {
  const response = parseJson(text);
  if (isObject(response) && isObject(response.error)) {
    // An agent that could not read the request does not know its id.
    if (response.id !== id && response.id != null) throw otherId(rpc, text);
    throw refusal(rpc, response.error, text);
  }
  if (head && !isSuccess(head.status)) throw httpRefusal(rpc, head.status, text);
  if (head && !isJson(head.mediaType)) throw invalidAnswer(rpc, `is ${head.mediaType || "of no type"}, not JSON`, text);
  if (!isObject(response)) throw invalidAnswer(rpc, "is no JSON-RPC response", text);
  if (response.id !== id) throw otherId(rpc, text);
  if (!isObject(response.result)) throw invalidAnswer(rpc, "has neither result nor error", text);
  return response.result as JsonValue;
}

const otherId = (rpc: string, text: string): AgentCallError =>
  invalidAnswer(rpc, "carries the id of another request", text);

function refusal(rpc: string, error: Record<string, unknown>, text: string): AgentCallError {
  const code = Number(error.code);
  const reason = reasonOf(error.data) ?? REASON_OF_CODE[code] ?? `JSON_RPC_${code}`;
  return refusedCall(rpc, reason, typeof error.message === "string" ? error.message : "", text);
}
