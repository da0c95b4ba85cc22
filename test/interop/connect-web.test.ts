/**
 * What a page does with @connectrpc/connect-web: Connect and gRPC-Web over fetch, and the questions that a browser asks
 * before it lets a page call another origin. The fetch is Node's, which asks no such question itself.
 */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { A2AService, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RegistryService } from "../../gen/signalbox/v1/registry_pb.ts";
import { startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";

const PAGE = "https://app.example.com";

let agent: TestAgent;
let app: TestApp;

beforeAll(async () => {
  agent = await startTestAgent();
  app = await startTestApp({ flags: { "http.cors-origins": `${PAGE},http://localhost:3000` } });
  await app.register("test", { cardUrl: agent.cardUrl });
});
afterAll(async () => {
  await app?.stop();
  await agent?.close();
});

const message = (text: string) => ({
  message: { messageId: "m1", role: Role.USER, parts: [{ content: { case: "text" as const, value: text } }] },
});

const TRANSPORTS = [
  ["Connect in JSON", () => createConnectTransport({ baseUrl: app.httpUrl })],
  ["Connect in binary", () => createConnectTransport({ baseUrl: app.httpUrl, useBinaryFormat: true })],
  ["gRPC-Web in binary", () => createGrpcWebTransport({ baseUrl: app.httpUrl })],
  ["gRPC-Web in JSON", () => createGrpcWebTransport({ baseUrl: app.httpUrl, useBinaryFormat: false })],
] as const;

describe.each(TRANSPORTS)("%s", (_, transport) => {
  test("sends, and reads the task again", async () => {
    const client = createClient(A2AService, transport());
    const { payload } = await client.sendMessage(message("hello web"));
    if (payload.case !== "task") throw new Error(`The answer is a ${payload.case}.`);
    expect(payload.value.status?.state).toBe(TaskState.COMPLETED);
    const again = await client.getTask({ id: payload.value.id });
    expect(again.artifacts[0]?.parts[0]?.content).toEqual({ case: "text", value: "hello web" });
  });

  test("follows a stream", async () => {
    const client = createClient(A2AService, transport());
    const kinds: (string | undefined)[] = [];
    for await (const { payload } of client.sendStreamingMessage(message("chunks 2"))) kinds.push(payload.case);
    expect(kinds).toEqual(["task", "statusUpdate", "artifactUpdate", "artifactUpdate", "statusUpdate"]);
  });

  test("leaves a stream while its task runs on", async () => {
    const client = createClient(A2AService, transport());
    const leaving = new AbortController();
    let taskId = "";
    const stream = client.sendStreamingMessage(message("slow"), { signal: leaving.signal });
    const left = (async () => {
      for await (const { payload } of stream) {
        if (payload.case === "task") taskId = payload.value.id;
        if (payload.case === "statusUpdate") leaving.abort();
      }
    })();
    await expect(left).rejects.toMatchObject({ code: Code.Canceled });
    expect((await client.getTask({ id: taskId })).status?.state).toBe(TaskState.WORKING);
    let last: TaskState | undefined;
    for await (const { payload } of client.subscribeToTask({ id: taskId })) {
      // Not before: what has ended is refused.
      if (payload.case === "task") agent.release();
      if (payload.case === "statusUpdate") last = payload.value.status?.state;
    }
    expect(last).toBe(TaskState.COMPLETED);
  });

  test("is told of errors with their details, in calls and in streams", async () => {
    const client = createClient(A2AService, transport());
    const stream = async () => {
      for await (const _ of client.subscribeToTask({ id: "nope" }));
    };
    for (const call of [() => client.getTask({ id: "nope" }), stream]) {
      const error = ConnectError.from(await call().catch((thrown: unknown) => thrown));
      expect(error.code).toBe(Code.NotFound);
      expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
        { reason: "TASK_NOT_FOUND", domain: "a2a-protocol.org", metadata: { taskId: "nope" } },
      ]);
    }
  });

  test("reaches the other services", async () => {
    expect((await createClient(Health, transport()).check({})).status).toBe(Status.SERVING);
    const { agents } = await createClient(RegistryService, transport()).listAgents({});
    expect(agents.map(({ agentId }) => agentId)).toEqual(["test"]);
  });
});

describe("a page of another origin", () => {
  const ask = (path: string, origin: string, method: string, headers = "content-type") =>
    fetch(app.httpUrl + path, {
      method: "OPTIONS",
      headers: { origin, "access-control-request-method": method, "access-control-request-headers": headers },
    });

  const CALLS = [
    [
      "Connect",
      "/lf.a2a.v1.A2AService/SendMessage",
      "POST",
      "connect-protocol-version,content-type,connect-timeout-ms",
    ],
    ["gRPC-Web", "/lf.a2a.v1.A2AService/SendMessage", "POST", "content-type,grpc-timeout,x-grpc-web,x-user-agent"],
    ["JSON-RPC", "/rpc", "POST", "a2a-extensions,a2a-version,authorization,content-type"],
    ["HTTP+JSON", "/tasks/t1", "GET", "a2a-version,last-event-id"],
    ["the registry", "/v1/agents/test", "DELETE", "authorization"],
    ["the registry", "/v1/agents/test", "PATCH", "content-type"],
  ] as const;

  test.each(CALLS)("may call %s at %s by %s when it is allowed", async (_, path, method, headers) => {
    const answer = await ask(path, PAGE, method, headers);
    expect(answer.status).toBe(204);
    expect(answer.headers.get("access-control-allow-origin")).toBe(PAGE);
    expect(answer.headers.get("vary")).toBe("Origin");
    expect(listed(answer, "access-control-allow-methods")).toContain(method.toLowerCase());
    expect(listed(answer, "access-control-allow-headers")).toEqual(expect.arrayContaining(headers.split(",")));
    expect(Number(answer.headers.get("access-control-max-age"))).toBeGreaterThan(0);
  });

  test("reads the answers, errors too", async () => {
    for (const path of ["/.well-known/agent-card.json", "/tasks/nope", "/nowhere"]) {
      const answer = await fetch(app.httpUrl + path, { headers: { origin: "http://localhost:3000" } });
      expect(answer.headers.get("access-control-allow-origin")).toBe("http://localhost:3000");
      expect(listed(answer, "access-control-expose-headers")).toEqual(
        expect.arrayContaining(["grpc-status", "grpc-message", "grpc-status-details-bin", "etag"]),
      );
    }
  });

  test.each(["https://evil.example.com", "https://app.example.com.evil.com", "http://app.example.com", "null"])(
    "may do nothing as %s, which is not allowed",
    async (origin) => {
      for (const answer of [
        await ask("/rpc", origin, "POST"),
        await fetch(`${app.httpUrl}/tasks`, { headers: { origin } }),
      ]) {
        const said = [...answer.headers.keys()].filter((name) => name.startsWith("access-control-"));
        expect(said).toEqual([]);
        expect(answer.headers.get("vary")).toBe("Origin");
      }
    },
  );
});

/** The names in a header that is a list, in lower case. */
function listed(answer: Response, header: string): string[] {
  return (answer.headers.get(header) ?? "").split(",").map((name) => name.trim().toLowerCase());
}
