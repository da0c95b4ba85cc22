/** What operators and their tools ask a server: health, reflection, readiness, metrics. */
import { rm } from "node:fs/promises";
import { createFileRegistry, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import {
  ServerReflection,
  type ServerReflectionRequestSchema,
  type ServerReflectionResponse,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { A2AService } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ApprovalService } from "../../gen/signalbox/v1/approval_pb.ts";
import { AuditService } from "../../gen/signalbox/v1/audit_pb.ts";
import { BudgetService } from "../../gen/signalbox/v1/budget_pb.ts";
import { CacheService } from "../../gen/signalbox/v1/cache_pb.ts";
import { MessageService } from "../../gen/signalbox/v1/message_pb.ts";
import { required_scope } from "../../gen/signalbox/v1/options_pb.ts";
import { PolicyService } from "../../gen/signalbox/v1/policy_pb.ts";
import { RegistryService } from "../../gen/signalbox/v1/registry_pb.ts";
import { ReputationService } from "../../gen/signalbox/v1/reputation_pb.ts";
import { RolloutService } from "../../gen/signalbox/v1/rollout_pb.ts";
import { RoutingService } from "../../gen/signalbox/v1/routing_pb.ts";
import { TaskService } from "../../gen/signalbox/v1/task_pb.ts";
import { WorkspaceService } from "../../gen/signalbox/v1/workspace_pb.ts";
import { createSignalboxClient } from "../../src/sdk/client.ts";
import { startRemotePuppet } from "../agents/remote-puppet.ts";
import { cardOf } from "../agents/rogue-agent.ts";
import { asTask, statusOf } from "../fault/said.ts";
import { stablePort } from "../setup/stable-port.ts";
import { pgliteDirectory } from "../store/backends.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const SERVICES = [
  A2AService,
  RegistryService,
  TaskService,
  RoutingService,
  RolloutService,
  MessageService,
  CacheService,
  PolicyService,
  ApprovalService,
  BudgetService,
  ReputationService,
  AuditService,
  WorkspaceService,
  Health,
  ServerReflection,
  ServerReflectionAlpha,
].map((s) => s.typeName);

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp();
});
afterAll(() => app?.stop());

describe.each([
  ["gRPC", () => `http://${app.grpcAddress}`],
  ["HTTP", () => app.httpUrl],
])("the %s listener", (_, baseUrl) => {
  const transport = (): Transport => createGrpcTransport({ baseUrl: baseUrl() });

  test("is healthy, as a whole and in each service", async () => {
    const health = createClient(Health, transport());
    for (const service of ["", ...SERVICES]) {
      expect(await health.check({ service })).toMatchObject({ status: Status.SERVING });
    }
  });

  test("does not know the health of a service that it has not", async () => {
    const check = createClient(Health, transport()).check({ service: "no.such.Service" });
    const error = ConnectError.from(await check.catch((thrown: unknown) => thrown));
    expect(error).toMatchObject({ code: Code.NotFound, rawMessage: 'This server has no service "no.such.Service".' });
  });

  test.each([
    ["", Status.SERVING],
    [A2AService.typeName, Status.SERVING],
    ["no.such.Service", Status.SERVICE_UNKNOWN],
  ])("tells a watcher of %j how it is", async (service, status) => {
    for await (const answer of createClient(Health, transport()).watch({ service })) {
      expect(answer.status).toBe(status);
      break;
    }
  });

  describe.each([
    ["v1", ServerReflection],
    ["v1alpha", ServerReflectionAlpha],
  ] as const)("by reflection %s", (_, service) => {
    type Question = NonNullable<MessageInitShape<typeof ServerReflectionRequestSchema>["messageRequest"]>;

    /** Asks all questions on one stream, and returns their answers. */
    async function ask(...questions: Question[]) {
      const requests = questions.map((messageRequest) => ({ host: "h", messageRequest }));
      async function* stream() {
        yield* requests;
      }
      const client = createClient(service as typeof ServerReflection, transport());
      const answers: ServerReflectionResponse["messageResponse"][] = [];
      for await (const { validHost, originalRequest, messageResponse } of client.serverReflectionInfo(stream())) {
        expect({ validHost, originalRequest }).toMatchObject({
          validHost: "h",
          originalRequest: requests[answers.length],
        });
        answers.push(messageResponse);
      }
      return answers;
    }

    async function filesOf(question: Question): Promise<FileDescriptorProto[]> {
      const [answer] = await ask(question);
      if (answer?.case !== "fileDescriptorResponse") throw new Error(`The answer is a ${answer?.case}.`);
      return answer.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
    }

    test("lists its services", async () => {
      const [answer] = await ask({ case: "listServices", value: "*" });
      expect(answer).toMatchObject({
        case: "listServicesResponse",
        value: { service: SERVICES.map((name) => ({ name })) },
      });
    });

    test.each(["lf.a2a.v1.A2AService", "lf.a2a.v1.A2AService.GetTask", "lf.a2a.v1.Task", "lf.a2a.v1.Task.status"])(
      "gives the file of %s with all that it imports",
      async (value) => {
        const file = await filesOf({ case: "fileContainingSymbol", value });
        // The file comes first; this throws when an import of it is missing.
        const registry = createFileRegistry(file[0]!, (wanted) => file.find(({ name }) => name === wanted));
        expect(registry.getService(A2AService.typeName)?.methods.map(({ name }) => name)).toEqual(
          A2AService.methods.map(({ name }) => name),
        );
      },
    );

    test("gives a file by its name and by an extension in it", async () => {
      const named = await filesOf({ case: "fileByFilename", value: "signalbox/v1/registry.proto" });
      expect(named.map(({ name }) => name)).toContain("signalbox/v1/registry.proto");
      const containingType = required_scope.extendee.typeName;
      const extensionNumber = required_scope.number;
      const extended = await filesOf({
        case: "fileContainingExtension",
        value: { containingType, extensionNumber },
      });
      expect(extended.map(({ name }) => name)).toContain("signalbox/v1/options.proto");
      const [numbers] = await ask({ case: "allExtensionNumbersOfType", value: containingType });
      expect(numbers).toMatchObject({ value: { extensionNumber: expect.arrayContaining([extensionNumber]) } });
    });

    test("says what it does not know, and answers on", async () => {
      const answers = await ask(
        { case: "fileContainingSymbol", value: "no.such.Symbol" },
        { case: "fileByFilename", value: "no/such/file.proto" },
        { case: "allExtensionNumbersOfType", value: "no.such.Message" },
        { case: "listServices", value: "" },
      );
      const unknown = { case: "errorResponse", value: { errorCode: Code.NotFound } };
      expect(answers).toMatchObject([unknown, unknown, unknown, { case: "listServicesResponse" }]);
    });
  });
});

describe("over HTTP", () => {
  test.each([
    ["/healthz", { status: "ok" }],
    ["/readyz", { status: "ready" }],
  ])("%s says that all is well", async (path, body) => {
    const answer = await fetch(app.httpUrl + path);
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual(body);
    expect((await fetch(app.httpUrl + path, { method: "HEAD" })).status).toBe(200);
  });

  test("/metrics is a page of Prometheus, and counts calls", async () => {
    const calls = { service: Health.typeName, method: "Check", protocol: "grpc", code: "OK" };
    const count = async () => sum(await readMetrics(), "signalbox_rpc_duration_seconds_count", calls);
    const before = await count();
    await createClient(Health, createGrpcTransport({ baseUrl: `http://${app.grpcAddress}` })).check({});
    expect(await count()).toBe(before + 1);

    const metrics = await readMetrics();
    expect(sum(metrics, "signalbox_ready")).toBe(1);
    expect(sum(metrics, "signalbox_running_tasks")).toBe(0);
    expect(sum(metrics, "signalbox_build_info", { backend: "postgres" })).toBe(1);
    for (const name of ["signalbox_outbox_lag_rows", "signalbox_outbox_lag_seconds"]) {
      expect(metrics).toContainEqual({ name, labels: { duty: "push" }, value: 0 });
    }
    expect(sum(metrics, "signalbox_replicas")).toBe(1);
    for (const [name, labels] of [
      ["signalbox_waiting_tasks", {}],
      ["signalbox_attempts_failed_total", {}],
      ["signalbox_tasks_taken_total", { how: "claimed" }],
      ["signalbox_tasks_taken_total", { how: "rescued" }],
    ] as const) {
      expect(metrics).toContainEqual({ name, labels, value: 0 });
    }
    expect(sum(metrics, "process_cpu_seconds_total")).toBeGreaterThan(0);
  });

  test("/metrics counts the tasks that wait, those that were taken, and attempts that others follow", async () => {
    const dataDir = await pgliteDirectory();
    const puppet = await startRemotePuppet();
    const start = () =>
      startTestApp({ flags: { "data.dir": dataDir, "limits.running-tasks": "1", "task.attempts": "2" } });
    let server = await start();
    onTestFinished(async () => {
      await server.stop();
      await puppet.close();
      await rm(dataDir, { recursive: true, force: true });
    });
    const value = async (name: string, labels = {}) => sum(await readMetrics(server), `signalbox_${name}`, labels);

    const client = createSignalboxClient({ baseUrl: server.httpUrl });
    const absent = cardOf("JSONRPC", `http://127.0.0.1:${await stablePort()}`);
    await client.registry.registerAgent({ agentId: "absent", source: { case: "card", value: absent } });
    await client.registry.registerAgent({ agentId: "puppet", source: { case: "card", value: puppet.card } });
    expect(statusOf(asTask(await client.send("hello", { agent: "absent" })))).toMatch(/^FAILED/);
    expect(await value("attempts_failed_total")).toBe(1);
    expect(await value("tasks_taken_total", { how: "claimed" })).toBe(1);

    const begin = (text: string) => client.send(text, { agent: "puppet", wait: false });
    await begin("first");
    const first = await puppet.turn();
    first.name();
    await begin("second");
    expect(await value("waiting_tasks")).toBe(1);
    first.status("COMPLETED");
    const second = await puppet.turn();
    second.name();
    expect(await value("waiting_tasks")).toBe(0);
    expect(await value("tasks_taken_total", { how: "claimed" })).toBe(2);
    expect(await value("tasks_taken_total", { how: "rescued" })).toBe(0);

    await server.stop();
    server = await start();
    expect(await value("tasks_taken_total", { how: "rescued" })).toBe(1);
  });
});

interface Sample {
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

/** Reads the page as Prometheus would: each metric has a help and a type before its samples. */
async function readMetrics(server = app): Promise<Sample[]> {
  const answer = await fetch(`${server.httpUrl}/metrics`);
  expect(answer.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
  const page = await answer.text();
  expect(page).toMatch(/\n$/);
  const types = new Map<string, string>();
  const samples: Sample[] = [];
  for (const line of page.split("\n")) {
    const type = /^# TYPE (\w+) (counter|gauge|histogram|summary)$/.exec(line);
    if (type) types.set(type[1]!, type[2]!);
    if (line === "" || line.startsWith("#")) continue;
    const [, name = "", labels = "", value = ""] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    expect(types.has(name) || types.has(name.replace(/_(bucket|sum|count)$/, "")), line).toBe(true);
    expect(name, line).toMatch(/^(signalbox|process|nodejs)_/);
    expect(value, line).toMatch(/^(NaN|[+-]?Inf|[-+.e\d]+)$/i);
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [key, text]);
    samples.push({ name, labels: Object.fromEntries(pairs), value: Number(value) });
  }
  return samples;
}

/** The sum over the samples of that name with these labels among theirs. */
function sum(samples: readonly Sample[], name: string, labels: Readonly<Record<string, string>> = {}): number {
  const wanted = Object.entries(labels);
  return samples
    .filter((sample) => sample.name === name && wanted.every(([key, text]) => sample.labels[key] === text))
    .reduce((total, { value }) => total + value, 0);
}
