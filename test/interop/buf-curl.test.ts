/** `buf curl` calls the server with no schema at hand: what it knows of the services it asks them by reflection. */
import { fromBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { BUF, runProgram } from "./program.ts";

let agent: TestAgent;
let app: TestApp;

beforeAll(async () => {
  agent = await startTestAgent();
  app = await startTestApp();
  await app.register("test", { cardUrl: agent.cardUrl });
});
afterAll(async () => {
  await app?.stop();
  await agent?.close();
});

const SERVICES = [
  "grpc.health.v1.Health",
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
  "lf.a2a.v1.A2AService",
  "signalbox.v1.ApprovalService",
  "signalbox.v1.AuditService",
  "signalbox.v1.BudgetService",
  "signalbox.v1.CacheService",
  "signalbox.v1.MessageService",
  "signalbox.v1.PolicyService",
  "signalbox.v1.RegistryService",
  "signalbox.v1.ReputationService",
  "signalbox.v1.RolloutService",
  "signalbox.v1.RoutingService",
  "signalbox.v1.TaskService",
  "signalbox.v1.WorkspaceService",
];
const NOT_FOUND = 5;

const LANES = [
  ["gRPC on the gRPC listener", "grpc", () => `http://${app.grpcAddress}`],
  ["gRPC on the HTTP listener", "grpc", () => app.httpUrl],
  ["gRPC-Web on the HTTP listener", "grpcweb", () => app.httpUrl],
  ["Connect on the HTTP listener", "connect", () => app.httpUrl],
] as const;

describe.each(LANES)("%s", (_, protocol, base) => {
  const curl = (path: string, ...args: string[]) =>
    runProgram(BUF, ["curl", "--protocol", protocol, "--http2-prior-knowledge", ...args, base() + path]);

  test.each(["grpc-v1", "grpc-v1alpha"])("lists services and methods by reflection %s", async (version) => {
    const services = await curl("", "--reflect-protocol", version, "--list-services");
    expect(services).toMatchObject({ code: 0, stderr: "" });
    expect(services.stdout.trim().split("\n")).toEqual(SERVICES);
    const { stdout } = await curl("", "--reflect-protocol", version, "--list-methods");
    const methods = stdout.trim().split("\n");
    expect(methods.filter((method) => method.startsWith("lf.a2a.v1.A2AService/"))).toHaveLength(11);
    expect(methods).toContain("signalbox.v1.RegistryService/RegisterAgent");
  });

  test("asks for health", async () => {
    const { code, stdout } = await curl("/grpc.health.v1.Health/Check");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ status: "SERVING" });
  });

  test("sends a message", async () => {
    const { code, stdout } = await curl("/lf.a2a.v1.A2AService/SendMessage", "--data", request("hello buf"));
    expect(code).toBe(0);
    const { task } = JSON.parse(stdout);
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect(task.artifacts).toEqual([{ artifactId: "echo", name: "echo", parts: [{ text: "hello buf" }] }]);
  });

  test("follows a stream", async () => {
    const { code, stdout } = await curl("/lf.a2a.v1.A2AService/SendStreamingMessage", "--data", request("chunks 2"));
    expect(code).toBe(0);
    // One JSON document an item, each from a line "{" to a line "}".
    const items = stdout.trim().split(/(?<=^\})\n/m);
    const kinds = items.map((item) => Object.keys(JSON.parse(item)).join());
    expect(kinds).toEqual(["task", "statusUpdate", "artifactUpdate", "artifactUpdate", "statusUpdate"]);
  });

  test("is told of an error with its details", async () => {
    const { code, stderr } = await curl("/lf.a2a.v1.A2AService/GetTask", "--data", '{"id":"nope"}');
    // buf shifts the gRPC code by three bits, to keep its own failures apart.
    expect(code).toBe(NOT_FOUND << 3);
    const error = JSON.parse(stderr);
    expect(error).toMatchObject({ code: "not_found", message: 'There is no task "nope" that you may see.' });
    expect(error.details.map(({ type }: { type: string }) => type)).toEqual(["google.rpc.ErrorInfo"]);
    expect(fromBinary(ErrorInfoSchema, Buffer.from(error.details[0].value, "base64"))).toMatchObject({
      reason: "TASK_NOT_FOUND",
      domain: "a2a-protocol.org",
      metadata: { taskId: "nope" },
    });
  });
});

function request(text: string): string {
  return JSON.stringify({ message: { messageId: "m1", role: "ROLE_USER", parts: [{ text }] } });
}
