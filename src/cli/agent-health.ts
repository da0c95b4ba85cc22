/** How `signalbox agents` shows how an agent does. */
import { toJson } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { type AgentHealth, AgentHealthSchema, CircuitState } from "../../gen/signalbox/v1/registry_pb.ts";
import { facts, json } from "./printable.ts";
import type { Cli } from "./run.ts";
import type { ServerOptions } from "./server-call.ts";

export const timeText = (time: Timestamp | undefined): string => (time ? timestampDate(time).toISOString() : "");

/** In one word, for a table; empty where the server does not say it. */
export const healthWord = (health: AgentHealth | undefined): string => (health ? (health.healthy ? "yes" : "no") : "");

/** The circuit in one word; an agent that is passed over for another reason says that instead. */
export function circuitWord(health: AgentHealth | undefined): string {
  if (!health) return "";
  const { circuitState, ejectedUntil } = health;
  if (circuitState === CircuitState.CLOSED && ejectedUntil) return "ejected";
  return stateWord(circuitState);
}

/** The number, when the server knows more states than this program. */
function stateWord(state: CircuitState): string {
  const name = Object.entries(CircuitState).find(([, value]) => value === state)?.[0];
  return (name ?? String(state)).toLowerCase().replace("_", "-");
}

export function healthFacts(health: AgentHealth | undefined): [name: string, value: string | undefined][] {
  if (!health) return [];
  const { healthy, reason, failureCount, circuitState, circuitOpenUntil, ejectedUntil, inFlight } = health;
  const { latencyP50Ms, latencyP95Ms, errorRate, heartbeatTtlMs } = health;
  const until = (time: Timestamp | undefined) => (time ? ` until ${timeText(time)}` : "");
  return [
    ["Healthy", healthy ? "yes" : `no${reason && `: ${reason}`}`],
    ["Failed checks", failureCount > 0 ? `${failureCount} in a row` : ""],
    // Of one that is healthy still it is no reason for that, but what its last check has found.
    [failureCount > 0 ? "Last failure" : "Note", healthy ? reason : ""],
    ["Last check", timeText(health.lastCheckTime)],
    ["Last success", timeText(health.lastSuccessTime)],
    ["Heartbeat", heartbeatTtlMs > 0 ? `every ${heartbeatTtlMs / 1000} s,${until(health.heartbeatExpireTime)}` : ""],
    ["Circuit", `${stateWord(circuitState)}${until(circuitOpenUntil)}`],
    ["Ejected", until(ejectedUntil).trim()],
    ["In flight", String(inFlight)],
    ["Latency", latencyP50Ms > 0 ? `p50 ${Math.round(latencyP50Ms)} ms, p95 ${Math.round(latencyP95Ms)} ms` : ""],
    ["Errors", `${Math.round(errorRate * 100)}%`],
  ];
}

export const showHealth = ({ io }: Cli, health: AgentHealth, options: ServerOptions): void =>
  io.out(options.json ? json(toJson(AgentHealthSchema, health)) : facts(healthFacts(health)));
