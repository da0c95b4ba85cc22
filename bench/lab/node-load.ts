/** Load from this process, for machines without h2load. It shares a core with the database, so it takes some of its time. */
import { Agent, request as httpRequest } from "node:http";
import { connect } from "node:http2";
import { type Load, latencies } from "./latency.ts";
import { connectionsFor, headersOf, type LoadRequest, type LoadShape } from "./load-request.ts";

/** Sends a body and resolves with the answer's HTTP status when the answer has ended. */
type Caller = (body: Uint8Array) => Promise<number>;

export async function runNodeClient(
  request: LoadRequest,
  { inFlight, durationMs }: LoadShape,
  signal: AbortSignal,
): Promise<Load> {
  const { connections, streams } = connectionsFor(request, inFlight);
  const lines = Array.from({ length: connections }, () => openLine(request, streams));
  const timesMs: number[] = [];
  const started = performance.now();
  async function keepCalling(call: Caller, body: Uint8Array): Promise<void> {
    while (performance.now() < started + durationMs) {
      signal.throwIfAborted();
      const sent = performance.now();
      const status = await call(body);
      if (status !== 200) throw new Error(`${request.path} answered HTTP ${status}`);
      timesMs.push(performance.now() - sent);
    }
  }
  try {
    const callers = lines.flatMap(({ call }, index) =>
      Array.from({ length: streams }, () => keepCalling(call, request.bodies[index % request.bodies.length]!)),
    );
    await Promise.all(callers);
    const perSecond = (timesMs.length * 1000) / (performance.now() - started);
    return { calls: timesMs.length, perSecond, ...latencies(timesMs) };
  } finally {
    for (const line of lines) line.close();
  }
}

function openLine(request: LoadRequest, streams: number): { call: Caller; close(): void } {
  return request.protocol === "grpc" ? openHttp2(request) : openHttp1(request, streams);
}

function openHttp2(request: LoadRequest): { call: Caller; close(): void } {
  const { authority, tls } = request;
  const session = tls ? connect(`https://${authority}`, tls) : connect(`http://${authority}`);
  const headers = { ":method": "POST", ":path": request.path, ...headersOf(request) };
  return {
    call: (body) =>
      new Promise((resolve, reject) => {
        const stream = session.request(request.headersOf ? { ...headers, ...request.headersOf(body) } : headers);
        let status = 0;
        stream.on("response", (answer) => {
          status = answer[":status"] ?? 0;
        });
        stream.on("error", reject);
        stream.on("close", () => resolve(status));
        stream.resume();
        stream.end(body);
      }),
    close: () => session.destroy(),
  };
}

function openHttp1(request: LoadRequest, streams: number): { call: Caller; close(): void } {
  const agent = new Agent({ keepAlive: true, maxSockets: streams });
  return {
    call: (body) =>
      new Promise((resolve, reject) => {
        const headers = { ...headersOf(request), "content-length": body.length };
        const call = httpRequest(`http://${request.authority}${request.path}`, { method: "POST", agent, headers });
        call.on("response", (answer) => {
          answer.on("error", reject).on("end", () => resolve(answer.statusCode ?? 0));
          answer.resume();
        });
        call.on("error", reject);
        call.end(body);
      }),
    close: () => agent.destroy(),
  };
}
