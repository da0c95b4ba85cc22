/**
 * Whether somebody is there at an agent's interface: the cheapest question that each binding has, over a connection that ends
 * with it. gRPC's is asked without its library, which keeps a connection that it cannot finish, and would keep one more with
 * each check of an agent that hangs.
 */
import { connect, type IncomingHttpHeaders } from "node:http2";
import { isIP } from "node:net";
import { fromBinary } from "@bufbuild/protobuf";
import type { Agent } from "undici";
import { HealthCheckResponse_ServingStatus, HealthCheckResponseSchema } from "../../gen/grpc/health/v1/health_pb.ts";
import { AgentCallError } from "../services/agent-port.ts";
import { unreachableAgent } from "./agent-answer.ts";
import type { AgentCall } from "./agent-call.ts";
import type { TlsIdentity, Way } from "./agent-proof.ts";
import { callHttp } from "./http-call.ts";
import { ConnectFailure, guardedLookup } from "./http-connections.ts";
import type { GrpcTarget, UrlGuard } from "./url-guard.ts";

/** Throws AgentCallError, or the reason of the call's signal, when nobody is there. */
export type Probe = (url: string, call: AgentCall, way: Way) => Promise<void>;

/** Of gRPC: what a server answers, or something before it, that cannot serve. */
const CANNOT_SERVE: Readonly<Record<string, string>> = { 4: "DEADLINE_EXCEEDED", 14: "UNAVAILABLE" };
/** What a server may say of itself that is longest: the answer is a few bytes. */
const MOST_BYTES = 1_024;
/** Before each message of gRPC: whether it is compressed, and its length. An empty one is all that is asked. */
const PREFIX_BYTES = 5;
const HEALTH_CHECK = "/grpc.health.v1.Health/Check";

/** By a GET. What is refused, or sent elsewhere, is an answer; so is 501, which knows no GET. */
export async function probeHttp(connections: Agent, url: string, call: AgentCall): Promise<void> {
  const { status } = await callHttp(connections, call, { method: "GET", url, accept: "*/*" });
  refuseStatus(status);
}

/** By grpc.health.v1. An agent that does not know it has answered, and so is there. */
export async function probeGrpc(
  guard: UrlGuard,
  { host, port, tls }: GrpcTarget,
  call: AgentCall,
  identity?: TlsIdentity,
): Promise<void> {
  // Nobody looks up an address, so the guard is asked here.
  if (isIP(host) !== 0) await guard.resolve(host).catch((error: unknown) => Promise.reject(unreachableAgent(error)));
  const { headers, body } = await askHealth(`${tls ? "https" : "http"}://${host}:${port}`, guard, call, identity);
  const code = headers["grpc-status"];
  if (code === undefined) return refuseStatus(Number(headers[":status"]));
  const reason = CANNOT_SERVE[String(code)];
  if (reason !== undefined) throw new AgentCallError("refused", `The agent answered ${reason}.`, { reason });
  if (String(code) === "0" && statusIn(body) === HealthCheckResponse_ServingStatus.NOT_SERVING)
    throw new AgentCallError("refused", "The agent says that it is not serving.");
}

function refuseStatus(status: number): void {
  if (status < 500 || status === 501) return;
  throw new AgentCallError("refused", `The agent answered HTTP ${status}.`, { reason: `HTTP_${status}` });
}

/** Undefined for what is no answer of the health protocol: somebody is there all the same. */
function statusIn(body: Buffer): HealthCheckResponse_ServingStatus | undefined {
  try {
    return fromBinary(HealthCheckResponseSchema, body.subarray(PREFIX_BYTES)).status;
  } catch {
    return undefined;
  }
}

/** The headers and trailers of the answer in one, and its body. */
function askHealth(origin: string, guard: UrlGuard, call: AgentCall, identity?: TlsIdentity) {
  const asking = Buffer.alloc(PREFIX_BYTES);
  const proven = call.proof?.headers({ method: "POST", target: () => HEALTH_CHECK, content: () => asking });
  const session = connect(origin, { lookup: guardedLookup(guard), ...identity });
  let isConnected = false;
  session.once("connect", () => {
    isConnected = true;
  });
  const answer = new Promise<{ headers: IncomingHttpHeaders; body: Buffer }>((resolve, reject) => {
    const fail = (error: unknown) =>
      reject(
        isConnected
          ? new AgentCallError("broken", "The connection to the agent broke during the health check.", { cause: error })
          : unreachableAgent(error instanceof ConnectFailure ? error.cause : error),
      );
    session.on("error", fail);
    session.once("close", () => fail(new Error("closed")));
    const asked = session.request({
      ":method": "POST",
      ":path": HEALTH_CHECK,
      ...proven,
      "content-type": "application/grpc",
      te: "trailers",
    });
    let headers: IncomingHttpHeaders = {};
    const chunks: Buffer[] = [];
    let size = 0;
    const hear = (more: IncomingHttpHeaders) => {
      headers = { ...headers, ...more };
    };
    asked.on("response", hear).on("trailers", hear).on("error", fail);
    asked.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size <= MOST_BYTES) chunks.push(chunk);
    });
    asked.once("end", () => resolve({ headers, body: Buffer.concat(chunks) }));
    asked.end(asking);
  });
  const ended = Promise.withResolvers<never>();
  call.endsWithIt({ abort: ended.reject });
  return Promise.race([answer, ended.promise]).finally(() => session.destroy());
}
