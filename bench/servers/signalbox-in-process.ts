/**
 * Signalbox without its listeners, called as they call it, and one agent in the process. Arguments: its PostgreSQL database, and
 * settings as `audit.enabled=false`.
 * Asked with InFlight, it sends messages, so many at once, each until its task is COMPLETED, and answers with the tasks per
 * second and how long each took.
 */
import { create, fromJson } from "@bufbuild/protobuf";
import pg from "pg";
import { pino } from "pino";
import { AgentCardSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  AddCapabilityRequestSchema,
  CapabilitySchema,
  RegisterAgentRequestSchema,
} from "../../gen/signalbox/v1/registry_pb.ts";
import { loadConfig } from "../../src/config/load.ts";
import { capabilityTenant } from "../../src/domain/target.ts";
import { startEngine } from "../../src/engine.ts";
import { anonymousPrincipal } from "../../src/services/identity/authenticator.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { inProcessCard } from "../../test/e2e/running-app.ts";
import { type InFlight, keepInFlight } from "../lab/keep-in-flight.ts";
import { type Load, latencies } from "../lab/latency.ts";
import { messageOf } from "../tasks/send.ts";
import { clerk } from "./agents.ts";
import { announce } from "./announce.ts";

const AGENT = "clerk";
const [url = "", ...settings] = process.argv.slice(2);
const log = pino({ level: "silent" });
const principal = anonymousPrincipal("admin");
const flags = { "database.url": url, ...Object.fromEntries(settings.map((setting) => setting.split("=", 2))) };
const config = loadConfig({ flags, env: {}, cwd: import.meta.dirname });
const engine = await startEngine({ config, log, runtime: systemRuntime(), inProcess: new Map([[AGENT, clerk]]) });
const card = fromJson(AgentCardSchema, inProcessCard(AGENT) as never);
const agent = create(RegisterAgentRequestSchema, { agentId: AGENT, source: { case: "card", value: card } });
await engine.registry.register(newCall(), agent);
const capability = create(CapabilitySchema, { capabilityId: AGENT, costPerTask: "0.01" });
await engine.registry.addCapability(newCall(), create(AddCapabilityRequestSchema, { agentId: AGENT, capability }));
/** Where one server is compared with another by its settings, tasks are for a capability, which costs. */
const tenant = settings.length > 0 ? capabilityTenant(AGENT) : "";

/** A call's context, as transport makes it. */
function newCall(): RequestContext {
  return {
    principal,
    workspaceId: principal.workspaceId,
    requestId: crypto.randomUUID(),
    signal: new AbortController().signal,
    extensions: [],
    traceparent: undefined,
    addressTarget: undefined,
    idempotencyKey: undefined,
    noStore: false,
    log,
  };
}

let sent = 0;

async function sendOne(): Promise<void> {
  sent += 1;
  const { payload } = await engine.sender.send(newCall(), { ...messageOf("Do it."), tenant });
  const state = payload.case === "task" ? payload.value.status?.state : undefined;
  if (state !== TaskState.COMPLETED) throw new Error(`a task ended as ${state}`);
}

/** Counted past the server, whose lists count no more than 10,000 exactly. */
async function completedTasks(): Promise<number> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    const { rows } = await client.query("select count(*)::int as n from tasks where a2a_state = $1", [
      TaskState.COMPLETED,
    ]);
    return rows[0].n as number;
  } finally {
    await client.end();
  }
}

async function run(load: InFlight): Promise<Load> {
  const timesMs: number[] = [];
  const started = performance.now();
  await keepInFlight(load, async () => {
    const began = performance.now();
    await sendOne();
    timesMs.push(performance.now() - began);
  });
  const perSecond = (timesMs.length * 1000) / (performance.now() - started);
  const stored = await completedTasks();
  if (stored !== sent) throw new Error(`of ${sent} tasks ${stored} are stored as completed`);
  return { calls: timesMs.length, perSecond, ...latencies(timesMs) };
}

announce({}, { answer: run, stop: () => engine.stop(0) });
