/** Every RPC that a server serves, as its own reflection tells it, and ways to call it that are made of its descriptor alone. */
import { readdirSync } from "node:fs";
import {
  type DescMethod,
  type DescService,
  getOption,
  hasOption,
  type JsonObject,
  type JsonValue,
} from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { http } from "../../gen/google/api/annotations_pb.ts";
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { A2AService } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type Call, type Client, RpcError, type ServerAddress } from "../conformance/bindings/binding.ts";
import { connectInJson, grpcAtHttpPort, grpcWeb } from "../conformance/bindings/connect.ts";
import { grpcJs } from "../conformance/bindings/grpc-js.ts";
import { jsonRpc } from "../conformance/bindings/json-rpc.ts";
import { readEvents } from "../conformance/bindings/server-sent-events.ts";

/** One way to call a server: for each RPC that it has. */
export interface Way {
  readonly name: string;
  has(method: DescMethod): boolean;
  connect(server: ServerAddress): Client;
}

/** HTTP+JSON by the annotation of the RPC. */
const httpByAnnotation: Way = {
  name: "HTTP+JSON",
  has: (method) => hasOption(method, http),
  connect: ({ httpUrl }) => ({
    async *call(call) {
      const { verb, target, body } = httpRequest(call);
      const left = new AbortController();
      const response = await fetch(httpUrl + target, {
        method: verb,
        headers: { ...(body !== undefined && { "content-type": "application/json" }), ...call.headers },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.any([call.signal, left.signal]),
      });
      try {
        if (response.headers.get("content-type") === "text/event-stream") {
          for await (const { event, data } of readEvents(response.body!)) {
            if (event === "error") throw errorOf(JSON.parse(data));
            yield JSON.parse(data);
          }
          return;
        }
        const text = await response.text();
        if (!response.ok) throw errorOf(JSON.parse(text));
        yield text === "" ? {} : JSON.parse(text);
      } finally {
        left.abort();
      }
    },
    close() {},
  }),
};

export const WAYS: readonly Way[] = [
  ...[grpcJs, grpcAtHttpPort, connectInJson, grpcWeb].map(({ name, connect }) => ({ name, connect, has: () => true })),
  httpByAnnotation,
  { name: jsonRpc.name, connect: jsonRpc.connect, has: ({ parent }) => parent.typeName === A2AService.typeName },
];

/** What a call came to: its first answer, or the error. */
export type Outcome =
  | { readonly ok: JsonValue }
  | { readonly code: string; readonly reason: string; readonly message: string };

/** Calls, and leaves with the first answer. */
export async function outcomeOf(client: Client, call: Call): Promise<Outcome> {
  try {
    for await (const item of client.call(call)) return { ok: item };
    return { ok: null };
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    const info = error.details.find((detail) => String(detail["@type"]).endsWith("google.rpc.ErrorInfo"));
    return { code: error.code, reason: String(info?.reason), message: error.message };
  }
}

/** The services that are not open to all, those that the server's reflection names. */
export async function servedServices({ httpUrl }: ServerAddress): Promise<DescService[]> {
  const reflection = createClient(ServerReflection, createGrpcTransport({ baseUrl: httpUrl }));
  const asked = (async function* () {
    yield { host: "", messageRequest: { case: "listServices" as const, value: "" } };
  })();
  const known = await knownServices();
  for await (const { messageResponse } of reflection.serverReflectionInfo(asked)) {
    if (messageResponse.case !== "listServicesResponse") throw new Error("reflection lists no services");
    const names = messageResponse.value.service.map(({ name }) => name).filter((name) => !name.startsWith("grpc."));
    return names.map((name) => known.get(name)!);
  }
  throw new Error("reflection does not answer");
}

async function knownServices(): Promise<Map<string, DescService>> {
  const folder = new URL("../../gen/signalbox/v1/", import.meta.url);
  const files = readdirSync(folder).filter((file) => file.endsWith("_pb.ts"));
  const modules: object[] = await Promise.all(files.map((file) => import(new URL(file, folder).href)));
  const isService = (value: unknown): value is DescService => (value as DescService | undefined)?.kind === "service";
  const services = modules.flatMap((module) => Object.values(module).filter(isService));
  return new Map([A2AService as DescService, ...services].map((service) => [service.typeName, service]));
}

/** A request that names, in each field that its route has in its path, what is nowhere. */
export function emptyRequest(method: DescMethod): JsonObject {
  const request: JsonObject = {};
  if (!hasOption(method, http)) return request;
  for (const field of fieldsInPath(method)) put(request, field, "nowhere");
  return request;
}

export function put(request: JsonObject, path: readonly string[], value: JsonValue): void {
  const [name, ...inner] = path;
  if (inner.length === 0) request[name!] = value;
  else {
    request[name!] ??= {};
    put(request[name!] as JsonObject, inner, value);
  }
}

const FIELD = /\{([\w.]+)(?:=[^}]*)?\}/g;

const namesOf = (field: string): string[] =>
  field.split(".").map((name) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()));

const ruleOf = (method: DescMethod): { verb: string; path: string; body: string } => {
  const { pattern, body } = getOption(method, http);
  if (typeof pattern.value !== "string") throw new Error(`${method.name} has no route of a plain verb`);
  return { verb: pattern.case!.toUpperCase(), path: pattern.value, body };
};

const fieldsInPath = (method: DescMethod): string[][] =>
  [...ruleOf(method).path.matchAll(FIELD)].map(([, field]) => namesOf(field!));

/** Spreads a request over path, query and body. */
function httpRequest({ method, request }: Call): { verb: string; target: string; body?: JsonValue } {
  const rest = structuredClone(request);
  const { verb, path, body } = ruleOf(method);
  const target = path.replace(FIELD, (_, field: string) => encodeURIComponent(String(take(rest, namesOf(field)))));
  if (body === "*") return { verb, target, body: rest };
  const sent = body === "" ? undefined : (take(rest, namesOf(body)) ?? {});
  const query = new URLSearchParams(parameters(rest)).toString();
  return { verb, target: query === "" ? target : `${target}?${query}`, ...(sent !== undefined && { body: sent }) };
}

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

function errorOf({ error }: { error: { code: number; status: string; message: string; details: JsonObject[] } }) {
  return new RpcError(`${error.code} ${error.status}`, error.message, error.details);
}
