/** Whether somebody is there at an agent's interface: the cheapest question that each binding has. */
import type { Agent } from "undici";
import { Health, HealthCheckResponse_ServingStatus } from "../../gen/grpc/health/v1/health_pb.ts";
import { AgentCallError } from "../services/agent-port.ts";
import type { AgentCall } from "./agent-call.ts";
import type { AgentChannel } from "./agent-channel.ts";
import { callHttp } from "./http-call.ts";

/** Throws AgentCallError, or the reason of the call's signal, when nobody is there. */
export type Probe = (url: string, call: AgentCall) => Promise<void>;

/** What a gRPC server answers, or something before it, that cannot serve. */
const CANNOT_SERVE = new Set(["UNAVAILABLE", "DEADLINE_EXCEEDED"]);
const { SERVICE_UNKNOWN, SERVING, UNKNOWN } = HealthCheckResponse_ServingStatus;
const MAY_SERVE: readonly HealthCheckResponse_ServingStatus[] = [UNKNOWN, SERVING, SERVICE_UNKNOWN];

/** By grpc.health.v1. An agent that does not know it has answered, and so is there. Closes the channel. */
export async function probeGrpc(channel: AgentChannel, call: AgentCall): Promise<void> {
  try {
    const request = { $typeName: "grpc.health.v1.HealthCheckRequest", service: "" } as const;
    const { status } = await channel.unary(Health.method.check, request, call);
    if (!MAY_SERVE.includes(status)) throw new AgentCallError("refused", "The agent says that it is not serving.");
  } catch (error) {
    if (!(error instanceof AgentCallError) || error.kind !== "refused") throw error;
    if (error.reason === undefined || CANNOT_SERVE.has(error.reason)) throw error;
  } finally {
    channel.close();
  }
}

/** By a GET. What is refused, or sent elsewhere, is an answer; so is 501, which knows no GET. */
export async function probeHttp(connections: Agent, url: string, call: AgentCall): Promise<void> {
  const { status } = await callHttp(connections, call, { method: "GET", url, accept: "*/*" });
  if (status < 500 || status === 501) return;
  throw new AgentCallError("refused", `The agent answered HTTP ${status}.`, { reason: `HTTP_${status}` });
}
