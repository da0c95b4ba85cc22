/** HTTP+JSON by fetch. Routes are the standard's own table, not what the server made of it. */
import { readFileSync } from "node:fs";
import { fromJson, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { A2AService } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { CacheService } from "../../../gen/signalbox/v1/cache_pb.ts";
import { MessageService } from "../../../gen/signalbox/v1/message_pb.ts";
import { RegistryService } from "../../../gen/signalbox/v1/registry_pb.ts";
import { RolloutService } from "../../../gen/signalbox/v1/rollout_pb.ts";
import { RoutingService } from "../../../gen/signalbox/v1/routing_pb.ts";
import { TaskService } from "../../../gen/signalbox/v1/task_pb.ts";
import { type Binding, type Call, RpcError, registry } from "./binding.ts";
import { readEvents } from "./server-sent-events.ts";

const contract = JSON.parse(readFileSync(new URL("../../fixtures/a2a-v1-contract.json", import.meta.url), "utf8")) as {
  service: Record<string, { http: string[] }>;
};

/** By RPC, as `VERB /path body=field`. */
const ROUTES: Readonly<Record<string, string[]>> = {
  ...Object.fromEntries(Object.entries(contract.service).map(([rpc, { http }]) => [rpc, http])),
  RegisterAgent: ["POST /v1/agents body=*"],
  UpdateAgent: ["PATCH /v1/agents/{agent.agent_id} body=agent"],
  DeregisterAgent: ["DELETE /v1/agents/{agent_id}"],
  GetAgent: ["GET /v1/agents/{agent_id}"],
  ListAgents: ["GET /v1/agents"],
  RefreshAgentCard: ["POST /v1/agents/{agent_id}:refreshCard body=*"],
  SetDefaultAgent: ["POST /v1/agents/{agent_id}:setDefault body=*"],
  AddCapability: ["POST /v1/agents/{agent_id}/capabilities body=capability"],
  RemoveCapability: ["DELETE /v1/agents/{agent_id}/capabilities/{capability_id}"],
  ListCapabilities: ["GET /v1/capabilities"],
  SearchAgents: ["GET /v1/agents:search"],
  GetTaskExecution: ["GET /v1/tasks/{task_id}/execution"],
  ListTaskTransitions: ["GET /v1/tasks/{task_id}/transitions"],
  PreviewRoute: ["POST /v1/routes:preview body=*"],
  GetRouteDecision: ["GET /v1/tasks/{task_id}/route"],
  GetRollout: ["GET /v1/capabilities/{capability_id}/rollout"],
  UpdateRollout: ["PATCH /v1/capabilities/{rollout.capability_id}/rollout body=rollout"],
  Exchange: ["POST /v1/messages:exchange body=message"],
  ExchangeStream: ["POST /v1/messages:stream body=message"],
  ListExchanges: ["GET /v1/exchanges"],
  GetCacheStats: ["GET /v1/cache/stats"],
  ClearCache: ["POST /v1/cache:clear body=*"],
  GetRoutingSettings: ["GET /v1/routingSettings"],
  UpdateRoutingSettings: ["PATCH /v1/routingSettings body=routing_settings"],
  ReplayRoutes: ["POST /v1/routes:replay body=*"],
  SubmitTask: ["POST /v1/tasks body=*"],
  BatchSubmitTasks: ["POST /v1/tasks:batchSubmit body=*"],
  "TaskService/GetTask": ["GET /v1/tasks/{task_id}"],
  "TaskService/ListTasks": ["GET /v1/tasks"],
  WaitTask: ["GET /v1/tasks/{task_id}:wait"],
  "TaskService/CancelTask": ["POST /v1/tasks/{task_id}:cancel body=*"],
  DeleteTask: ["DELETE /v1/tasks/{task_id}"],
  CleanupTasks: ["POST /v1/tasks:cleanup body=*"],
  WatchTasks: ["GET /v1/tasks:watch"],
};

export const httpJson: Binding = {
  name: "HTTP+JSON",
  services: [A2AService, RegistryService, TaskService, RoutingService, RolloutService, MessageService, CacheService],
  codes: "http",
  connect: ({ httpUrl }) => ({
    async *call(call) {
      const left = new AbortController();
      const { verb, target, body } = httpRequest(call);
      const response = await fetch(httpUrl + target, {
        method: verb,
        headers: { ...(body !== undefined && { "content-type": "application/json" }), ...call.headers },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.any([call.signal, left.signal]),
      });
      try {
        const { output } = call.method;
        for await (const json of read(response)) {
          yield toJson(output, fromJson(output, json, { registry }), { registry });
        }
      } finally {
        left.abort();
      }
    },
    close() {},
  }),
};

async function* read(response: Response): AsyncGenerator<JsonValue, void> {
  const type = response.headers.get("content-type");
  if (type === "text/event-stream") {
    let isFirst = true;
    for await (const { event, data } of readEvents(response.body!)) {
      if (event === "error" && isFirst) throw new Error(`the stream opened before the call was refused: ${data}`);
      if (event === "error") throw errorOf(JSON.parse(data));
      yield JSON.parse(data);
      isFirst = false;
    }
    return;
  }
  if (type !== "application/json") throw new Error(`Content-Type ${type}: ${await response.text()}`);
  const json = (await response.json()) as JsonObject;
  if (!response.ok) throw errorOf(json, response.status);
  yield json;
}

/** Spreads a request over path, query and body. */
function httpRequest({ method, request }: Call): { verb: string; target: string; body?: JsonValue } {
  const rest = structuredClone(request);
  const names = (field: string) => field.split(".").map(camelCase);
  const isTargeted = typeof rest.tenant === "string" && rest.tenant !== "";
  const routes = ROUTES[`${method.parent.name}/${method.name}`] ?? ROUTES[method.name];
  const rule = routes?.find((route) => route.includes("{tenant}") === isTargeted);
  const [, verb = "", template = "", bodyField] = /^(\w+) (\S+)(?: body=(\S+))?$/.exec(rule ?? "") ?? [];
  if (!isTargeted) delete rest.tenant;
  const path = template.replace(/\{([\w.]+)(?:=\*)?\}/g, (_, field: string) => {
    const value = take(rest, names(field));
    if (value === undefined || value === "") throw new Error(`${method.name}: ${field} is empty, and part of the path`);
    return encodeURIComponent(String(value));
  });
  if (bodyField === "*") return { verb, target: path, body: rest };
  const body = bodyField === undefined ? undefined : (take(rest, names(bodyField)) ?? {});
  const query = new URLSearchParams(parameters(rest)).toString();
  return { verb, target: query === "" ? path : `${path}?${query}`, ...(body !== undefined && { body }) };
}

const camelCase = (name: string): string => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** Takes a field out of a request. */
function take(json: JsonObject, [name, ...inner]: string[]): JsonValue | undefined {
  if (inner.length > 0) return take((json[name!] ?? {}) as JsonObject, inner);
  const value = json[name!];
  delete json[name!];
  return value;
}

function parameters(json: JsonObject, prefix = ""): [string, string][] {
  return Object.entries(json).flatMap(([name, value]): [string, string][] => {
    if (Array.isArray(value)) return value.map((item) => [prefix + name, String(item)]);
    if (typeof value === "object" && value !== null) return parameters(value, `${prefix}${name}.`);
    return [[prefix + name, String(value)]];
  });
}

/** Reads an AIP-193 body. `status` is that of the response; a stream that broke had 200. */
function errorOf(json: JsonObject, status?: number): RpcError {
  const { error } = json as { error?: { code: number; status: string; message: string; details: JsonObject[] } };
  if (!error || (status !== undefined && error.code !== status)) {
    throw new Error(`HTTP ${status} with the body ${JSON.stringify(json)}`);
  }
  return new RpcError(`${error.code} ${error.status}`, error.message, error.details);
}
