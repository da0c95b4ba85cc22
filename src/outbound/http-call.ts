/** What the two HTTP bindings share: one HTTP exchange with an agent, its bounded body, its events. */
import { type Agent, request } from "undici";
import { AgentCallError } from "../services/agent-port.ts";
import { brokenConnection, invalidAnswer, unreachableAgent } from "./agent-answer.ts";
import { type AgentCall, listen } from "./agent-call.ts";
import { ConnectFailure } from "./http-connections.ts";
import type { OutgoingRequest } from "./request-signature.ts";
import { createSseParser, SseError, type SseEvent } from "./sse.ts";

export interface HttpRequest {
  method: "GET" | "POST";
  url: string;
  accept: string;
  contentType?: string;
  body?: string;
}

export interface HttpAnswer {
  status: number;
  /** Without parameters, in lower case; empty where the agent gave none. */
  mediaType: string;
  chunks: AsyncIterable<Uint8Array>;
}

/** Sends a request and waits for the head of the answer. Redirects are not followed. Throws AgentCallError. */
export async function callHttp(connections: Agent, call: AgentCall, sent: HttpRequest): Promise<HttpAnswer> {
  const headers: Record<string, string> = { ...call.headers, accept: sent.accept };
  if (sent.contentType !== undefined) headers["content-type"] = sent.contentType;
  try {
    if (call.proof) Object.assign(headers, call.proof.headers(outgoing(sent)));
    const {
      statusCode,
      headers: received,
      body,
    } = await request(sent.url, {
      dispatcher: connections,
      method: sent.method,
      headers,
      body: sent.body ?? null,
      signal: call.signal,
    });
    if (statusCode === 401) call.isUnknownCaller = true;
    // A body that is cut off while nobody reads it must not bring down the process.
    body.on("error", () => {});
    const contentType = [received["content-type"] ?? ""].flat()[0]!;
    return { status: statusCode, mediaType: contentType.split(";", 1)[0]!.trim().toLowerCase(), chunks: body };
  } catch (error) {
    throw httpFailure(call, error);
  }
}

function outgoing({ method, url, body = "" }: HttpRequest): OutgoingRequest {
  const target = () => {
    const { pathname, search } = new URL(url);
    return pathname + search;
  };
  return { method, target, content: () => body };
}

/** The whole body as text. The agent's silence counts from the beginning of the call. Throws AgentCallError. */
export async function readText(answer: HttpAnswer, call: AgentCall, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of answer.chunks) {
      size += chunk.length;
      if (size > maxBytes) throw invalidAnswer(call.rpc, `is larger than ${maxBytes} bytes`, textOf(chunks));
      chunks.push(chunk);
    }
  } catch (error) {
    throw httpFailure(call, error);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
  } catch (cause) {
    throw invalidAnswer(call.rpc, "is not UTF-8", textOf(chunks), cause);
  }
}

const textOf = (chunks: Uint8Array[]): string => Buffer.concat(chunks.slice(0, 8)).toString();

/** The events of a body, each as it comes. Throws AgentCallError. */
export async function* readEvents(
  answer: HttpAnswer,
  call: AgentCall,
  maxBytes: number,
): AsyncGenerator<SseEvent, void> {
  const parse = createSseParser(maxBytes);
  try {
    for await (const chunk of listen(call, answer.chunks)) yield* parse(chunk);
  } catch (error) {
    throw httpFailure(call, error);
  }
}

function httpFailure(call: AgentCall, error: unknown): unknown {
  if (call.signal.aborted) return call.signal.reason;
  if (error instanceof AgentCallError) return error;
  if (error instanceof ConnectFailure) return unreachableAgent(error.cause);
  if (error instanceof SseError) {
    return new AgentCallError("invalid", `The agent's answer to ${call.rpc} cannot be read. ${error.message}`, {
      raw: error.raw,
    });
  }
  return brokenConnection(call.rpc, error);
}

export const isJson = (mediaType: string): boolean => mediaType === "application/json" || mediaType.endsWith("+json");

export const EVENT_STREAM = "text/event-stream";

/** Whether an HTTP status says that the request was carried out. */
export const isSuccess = (status: number): boolean => status >= 200 && status < 300;

/** The agent, or something before it, answered with an HTTP error that has no A2A error in its body. */
export function httpRefusal(rpc: string, status: number, raw: string): AgentCallError {
  const hint =
    status >= 300 && status < 400 ? " A redirect is not followed: the card must name the right address." : "";
  return new AgentCallError("refused", `The agent answered HTTP ${status} to ${rpc}.${hint}`, {
    reason: `HTTP_${status}`,
    raw,
  });
}

/** Parses JSON; undefined for what is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
