/**
 * The OpenAPI document: it keeps the rules of OpenAPI 3.1, a running server has every route that it names, and what the
 * server answers fits the schemas that it gives.
 */
import { readFileSync } from "node:fs";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { beforeAll, describe, expect, test } from "vitest";
import { RegistryService } from "../../gen/signalbox/v1/registry_pb.ts";
import { RoutingService } from "../../gen/signalbox/v1/routing_pb.ts";
import { TaskService } from "../../gen/signalbox/v1/task_pb.ts";
import { readEvents } from "../conformance/bindings/server-sent-events.ts";
import { act } from "../conformance/scripted-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

interface Operation {
  operationId: string;
  tags: string[];
  summary: string;
  description: string;
  parameters: { name: string; in: string; required?: boolean; schema: object }[];
  requestBody?: { content: Record<string, { schema: object }> };
  responses: Record<string, { $ref?: string; description?: string; content?: Record<string, { schema: object }> }>;
}

const text = readFileSync(new URL("../../docs/openapi.json", import.meta.url), "utf8");
const document = JSON.parse(text) as {
  openapi: string;
  info: { title: string; version: string };
  tags: { name: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object>; responses: Record<string, { content: object }> };
};
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, operation, name: `${method} ${path}` })),
);

const ajv = new Ajv2020({ strict: false, validateFormats: false });
ajv.addSchema({ ...document, $id: "openapi" });
const checkOf = (schema: object): ValidateFunction =>
  ajv.compile(JSON.parse(JSON.stringify(schema).replaceAll('"$ref":"#', '"$ref":"openapi#')));

describe("the document", () => {
  test("is of version 3.1, with a title, a version and paths below /v1", () => {
    expect(document.openapi).toMatch(/^3\.1\.\d+$/);
    expect(document.info).toMatchObject({ title: "Signalbox", version: expect.stringMatching(/^\d+\.\d+\.\d+/) });
    for (const path of Object.keys(document.paths)) expect(path).toMatch(/^\/v1\/[^?#]+$/);
    // Two templates that differ in the names of their variables only are the same path.
    const shapes = Object.keys(document.paths).map((path) => path.replace(/\{[^}]*\}/g, "{}"));
    expect(new Set(shapes).size).toBe(shapes.length);
  });

  test("has references that lead somewhere, and no schema that nobody refers to", () => {
    const refs = [...text.matchAll(/"\$ref": "#\/([^"]+)"/g)].map(([, ref]) => ref!);
    expect(refs.length).toBeGreaterThan(50);
    for (const ref of refs) {
      const found = ref.split("/").reduce<unknown>((at, key) => (at as Record<string, unknown>)?.[key], document);
      expect(found, ref).toBeTypeOf("object");
    }
    const used = new Set(refs);
    expect(Object.keys(document.components.schemas).filter((name) => !used.has(`components/schemas/${name}`))).toEqual(
      [],
    );
  });

  test("names each operation once", () => {
    const names = operations.map(({ operation }) => operation.operationId);
    expect(new Set(names).size).toBe(names.length);
  });

  test.each(operations)("$name is whole", ({ path, method, operation }) => {
    const variables = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name);
    const parameters = operation.parameters.map(({ in: place, name }) => `${place} ${name}`);
    expect(new Set(parameters).size).toBe(parameters.length);
    const inPath = operation.parameters.filter((parameter) => parameter.in === "path");
    expect(inPath.map(({ name }) => name)).toEqual(variables);
    expect(inPath.every(({ required }) => required)).toBe(true);
    if (method === "get" || method === "delete") expect(operation.requestBody).toBeUndefined();
    for (const { schema } of operation.parameters) checkOf(schema);
    const bodies = Object.values(operation.requestBody?.content ?? {});
    for (const { schema } of bodies) checkOf(schema);
    expect(operation.summary.length).toBeGreaterThan(5);
    expect(operation.description).toMatch(/Scope: `[a-z]+\.(read|write|admin)`\.$/);
    expect(document.tags.map(({ name }) => name)).toContain(operation.tags[0]);
    expect(operation.responses["200"]).toMatchObject({ description: expect.stringMatching(/./) });
    expect(operation.responses.default).toEqual({ $ref: "#/components/responses/Error" });
  });

  test("says what enums, 64-bit numbers, times and free data are", () => {
    const { schemas } = document.components;
    expect(schemas["signalbox.v1.EngineState"]).toMatchObject({
      type: "string",
      enum: expect.arrayContaining(["ENGINE_STATE_QUEUED"]),
      description: expect.stringContaining("`ENGINE_STATE_QUEUED`: Waits for a replica"),
    });
    expect(schemas["signalbox.v1.Task"]).toMatchObject({
      properties: {
        createTime: { type: "string", format: "date-time", description: "When it was accepted." },
        input: { description: expect.stringContaining("What it was given") },
        artifacts: { type: "array", items: { $ref: "#/components/schemas/lf.a2a.v1.Artifact" } },
      },
    });
    expect(schemas["signalbox.v1.SubmitTaskRequest"]).toMatchObject({
      properties: {
        deadlineMs: { type: "string", format: "int64" },
        labels: { type: "object", additionalProperties: { type: "string" } },
      },
    });
  });
});

describe("a running server", () => {
  let app: TestApp;
  let taskId: string;
  const error = checkOf(
    (document.components.responses.Error as never as { content: Record<string, { schema: object }> }).content[
      "application/json"
    ]!.schema,
  );

  beforeAll(async () => {
    app = await startTestApp({ backend: "pglite", agents: { actor: act } });
    const response = await fetch(`${app.httpUrl}/v1/tasks`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ capabilityId: "actor", text: "complete", wait: true }),
    });
    const submitted = (await response.json()) as { taskId: string };
    expectFit("post", "/v1/tasks", submitted);
    taskId = submitted.taskId;
    const credential = await fetch(`${app.httpUrl}/v1/agents/actor/credential`, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ bearer: { token: "a-token-of-the-test" } }),
    });
    expectFit("put", "/v1/agents/{agentId}/credential", await credential.json());
    return () => app.stop();
  });

  function expectFit(method: string, path: string, body: unknown, type = "application/json"): void {
    const { schema } = document.paths[path]![method]!.responses["200"]!.content![type]!;
    const check = checkOf(schema);
    expect(check(body), `${JSON.stringify(body)}\n${JSON.stringify(check.errors)}`).toBe(true);
  }

  test("serves the document", async () => {
    const response = await fetch(`${app.httpUrl}/v1/openapi.json`);
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(await response.text()).toBe(text);
  });

  const served = [RegistryService, RoutingService, TaskService].map(({ name }) => name);
  const gets = operations.filter(({ method, operation }) => method === "get" && served.includes(operation.tags[0]!));

  test("has its services in the document", () => {
    expect(document.tags.map(({ name }) => name)).toEqual(expect.arrayContaining(served));
    expect(gets.length).toBeGreaterThan(8);
  });

  test.each(gets)("answers $name as it says", async ({ path, operation }) => {
    const ids: Record<string, string> = { taskId, agentId: "actor", capabilityId: "actor" };
    const address = app.httpUrl + path.replace(/\{([^}]+)\}/g, (_, name: string) => ids[name]!);
    if (operation.responses["200"]!.content!["text/event-stream"]) {
      const leaving = new AbortController();
      const response = await fetch(address, { signal: leaving.signal });
      expect(response.headers.get("content-type")).toBe("text/event-stream");
      const { value } = await readEvents(response.body!).next();
      expectFit("get", path, JSON.parse(value!.data), "text/event-stream");
      leaving.abort();
      return;
    }
    const response = await fetch(address);
    expect(response.status).toBe(200);
    expectFit("get", path, await response.json());
  });

  test.each([
    ["/v1/tasks/nobody", 404],
    ["/v1/tasks?pageSize=-1", 400],
    ["/v1/tasks?pageSize=x", 400],
    ["/v1/agents/nobody", 404],
    ["/v1/nothing", 404],
  ])("refuses %s as it says", async (path, status) => {
    const response = await fetch(app.httpUrl + path);
    expect(response.status).toBe(status);
    const body = await response.json();
    expect(error(body), `${JSON.stringify(body)}\n${JSON.stringify(error.errors)}`).toBe(true);
  });
});
