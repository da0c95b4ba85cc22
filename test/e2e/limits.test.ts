import { createHash } from "node:crypto";
import { fromJson, type JsonObject } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { beforeAll, describe, expect, it } from "vitest";
import { BadRequestSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { A2AService, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RegistryService } from "../../gen/signalbox/v1/registry_pb.ts";
import { TaskService } from "../../gen/signalbox/v1/task_pb.ts";
import { MAX_DESCRIPTION_LENGTH, MAX_INTERFACES, MAX_NAME_LENGTH, MAX_SKILLS } from "../../src/domain/card-rules.ts";
import {
  MAX_EXTENSIONS,
  MAX_ID_LENGTH,
  MAX_OUTPUT_MODES,
  MAX_PARTS,
  MAX_REFERENCES,
  MAX_URI_LENGTH,
} from "../../src/domain/message-rules.ts";
import { MAX_CONFIGS } from "../../src/services/push-configs.ts";
import { echoAgent } from "./echo-agent.ts";
import { inProcessCard, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ agents: { echo: echoAgent("echo") } });
  return () => app.stop();
});

interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: JSON of any shape, looked into by the tests
  body: any;
}

async function call(method: string, path: string, body?: unknown): Promise<Answer> {
  const headers = { "content-type": "application/json" };
  const init = body === undefined ? { method } : { method, headers, body: JSON.stringify(body) };
  const response = await fetch(app.httpUrl + path, init);
  return { status: response.status, body: await response.json() };
}

const send = (message: object, configuration: object = {}) =>
  call("POST", "/message:send", {
    message: { messageId: "m", role: "ROLE_USER", parts: [{ text: "x" }], ...message },
    configuration,
  });

const fieldsOf = ({ body }: Answer) =>
  body.error.details.flatMap(
    (d: { fieldViolations?: { field: string }[] }) => d.fieldViolations?.map((v) => v.field) ?? [],
  );

/** The fields that a call is refused for. */
const refusedFields = (call: Promise<unknown>): Promise<string[]> =>
  call.then(
    () => [],
    (error: unknown) => {
      expect(ConnectError.from(error).code).toBe(Code.InvalidArgument);
      return ConnectError.from(error)
        .findDetails(BadRequestSchema)
        .flatMap(({ fieldViolations }) => fieldViolations.map(({ field }) => field));
    },
  );

describe("limits of a message", () => {
  it.each(["messageId", "contextId", "taskId"])("%s", async (field) => {
    for (const id of ["x".repeat(MAX_ID_LENGTH + 1), "a\0b"]) {
      const answer = await send({ [field]: id });
      expect(answer.status).toBe(400);
      expect(fieldsOf(answer)).toEqual([`message.${field}`]);
    }
  });

  it("parts", async () => {
    const parts = Array.from({ length: MAX_PARTS + 1 }, () => ({ text: "x" }));
    expect(fieldsOf(await send({ parts }))).toEqual(["message.parts"]);
    expect((await send({ parts: parts.slice(1) })).status).toBe(200);
  });

  it("referenceTaskIds", async () => {
    const ids = Array.from({ length: MAX_REFERENCES + 1 }, () => "t");
    expect(fieldsOf(await send({ referenceTaskIds: ids }))).toEqual(["message.referenceTaskIds"]);
    const referenceTaskIds = ["t", "a\0b", "x".repeat(MAX_ID_LENGTH + 1)];
    expect(fieldsOf(await send({ referenceTaskIds }))).toEqual([
      "message.referenceTaskIds[1]",
      "message.referenceTaskIds[2]",
    ]);
    expect((await send({ referenceTaskIds: ids.slice(1) })).status).toBe(200);
  });

  it("extensions", async () => {
    const extensions = Array.from({ length: MAX_EXTENSIONS + 1 }, () => "urn:x");
    expect(fieldsOf(await send({ extensions }))).toEqual(["message.extensions"]);
    expect(fieldsOf(await send({ extensions: ["x".repeat(MAX_URI_LENGTH + 1)] }))).toEqual(["message.extensions[0]"]);
    expect((await send({ extensions: extensions.slice(1) })).status).toBe(200);
  });

  it("media types", async () => {
    const acceptedOutputModes = Array.from({ length: MAX_OUTPUT_MODES + 1 }, () => "text/plain");
    expect(fieldsOf(await send({}, { acceptedOutputModes }))).toEqual(["configuration.acceptedOutputModes"]);
    const mediaType = `text/${"x".repeat(252)}`;
    expect(fieldsOf(await send({}, { acceptedOutputModes: ["text/plain", mediaType] }))).toEqual([
      "configuration.acceptedOutputModes[1]",
    ]);
    expect(fieldsOf(await send({ parts: [{ text: "x", mediaType }] }))).toEqual(["message.parts[0].mediaType"]);
  });

  it("names as many violations as an answer can carry", async () => {
    const extensions = Array.from({ length: MAX_EXTENSIONS }, () => "x".repeat(MAX_URI_LENGTH + 1));
    const { body } = await send({ extensions });
    expect(body.error.message.length).toBeLessThan(4096);
    expect(fieldsOf({ status: 400, body })[0]).toBe("message.extensions[0]");
  });

  it("takes a context id of full length and any script", async () => {
    const contextId = "ж".repeat(MAX_ID_LENGTH);
    const { body } = await send({ contextId });
    expect(body.task.contextId).toBe(contextId);
    expect((await call("GET", `/tasks?contextId=${encodeURIComponent(contextId)}`)).body.totalSize).toBe(1);
  });
});

describe("limits of a list of tasks", () => {
  const tokenOf = (time: string) => {
    const fingerprint = createHash("sha256").update("[{},null]").digest("base64url").slice(0, 8);
    return Buffer.from(`${fingerprint}.${time}.x`).toString("base64url");
  };

  it("takes page tokens with times that the database knows", async () => {
    for (const time of ["-8640000000000000", "8640000000000000", "253402300800000", "-62135596800001"]) {
      const answer = await call("GET", `/tasks?pageToken=${tokenOf(time)}`);
      expect([answer.status, fieldsOf(answer)]).toEqual([400, ["pageToken"]]);
    }
    for (const time of ["253402300799999", "-62135596800000"]) {
      expect((await call("GET", `/tasks?pageToken=${tokenOf(time)}`)).status).toBe(200);
    }
  });

  it.each(["Connect over HTTP", "gRPC"])("takes times that a Timestamp can be, over %s", async (binding) => {
    const transport =
      binding === "gRPC"
        ? createGrpcTransport({ baseUrl: `http://${app.grpcAddress}` })
        : createConnectTransport({ baseUrl: app.httpUrl, httpVersion: "1.1" });
    const a2a = createClient(A2AService, transport);
    const tasks = createClient(TaskService, transport);
    const lists: [string, (time: { seconds: bigint; nanos: number }) => Promise<unknown>][] = [
      ["statusTimestampAfter", (time) => a2a.listTasks({ statusTimestampAfter: time })],
      ["since", (time) => tasks.listTasks({ since: time })],
    ];
    for (const [field, list] of lists) {
      for (const seconds of [2n ** 63n - 1n, -(2n ** 63n), 253402300800n, -62135596801n])
        expect(await refusedFields(list({ seconds, nanos: 0 })), `${field} ${seconds}`).toEqual([field]);
      for (const nanos of [-1, 1_000_000_000, 2 ** 31 - 1, -(2 ** 31)])
        expect(await refusedFields(list({ seconds: 0n, nanos })), `${field} ${nanos}`).toEqual([field]);
      await list({ seconds: -62135596800n, nanos: 0 });
      await list({ seconds: 253402300799n, nanos: 999_999_999 });
    }
  });

  it("takes times in addresses that a Timestamp can be", async () => {
    for (const [path, field] of [
      ["/tasks", "statusTimestampAfter"],
      ["/v1/tasks", "since"],
    ] as const) {
      for (const time of ["10000-01-01T00:00:00Z", "0000-12-31T23:59:59Z", "yesterday"]) {
        const answer = await call("GET", `${path}?${field}=${time}`);
        expect([answer.status, fieldsOf(answer)], time).toEqual([400, [field]]);
      }
      expect((await call("GET", `${path}?${field}=9999-12-31T23:59:59.999999999Z`)).status).toBe(200);
    }
  });
});

describe("limits of an agent", () => {
  const register = (source: object) => call("POST", "/v1/agents", { agentId: "limited", ...source });
  const card = (changes: object) => ({ ...inProcessCard("echo"), ...changes }) as JsonObject;
  const skills = (count: number, changes: object = {}) =>
    Array.from({ length: count }, () => ({ id: "s", name: "s", description: "s", tags: [], ...changes }));
  const [offered] = inProcessCard("echo").supportedInterfaces as object[];

  it.each([
    ["card.name", { name: "x".repeat(MAX_NAME_LENGTH + 1) }],
    ["card.description", { description: "x".repeat(MAX_DESCRIPTION_LENGTH + 1) }],
    ["card.supportedInterfaces", { supportedInterfaces: Array.from({ length: MAX_INTERFACES + 1 }, () => offered) }],
    ["card.skills", { skills: skills(MAX_SKILLS + 1) }],
    ["card.skills[0].name", { skills: skills(1, { name: "x".repeat(MAX_NAME_LENGTH + 1) }) }],
    ["card.skills[0].description", { skills: skills(1, { description: "x".repeat(MAX_DESCRIPTION_LENGTH + 1) }) }],
  ])("%s", async (field, changes) => {
    const answer = await register({ card: card(changes) });
    expect([answer.status, fieldsOf(answer)]).toEqual([400, [field]]);
  });

  it.each(["cardUrl", "baseUrl"])("%s", async (field) => {
    for (const end of ["\0", "\n", "x".repeat(MAX_URI_LENGTH), "/".repeat(MAX_URI_LENGTH)]) {
      const answer = await register({ [field]: `http://127.0.0.1:9/${end}` });
      expect([answer.status, fieldsOf(answer)]).toEqual([400, [field]]);
    }
  });

  it("etag", async () => {
    for (const etag of ['"9007199254740991"', '"2147483648"', '"-1"', '"x"']) {
      const answer = await call("PATCH", "/v1/agents/echo", { etag, card: inProcessCard("echo") });
      expect([answer.status, fieldsOf(answer)]).toEqual([400, ["agent.etag"]]);
    }
    const latest = await call("PATCH", "/v1/agents/echo", { etag: '"2147483647"', card: inProcessCard("echo") });
    expect(latest.body.error.details[0].reason).toBe("ETAG_MISMATCH");
  });

  describe("over gRPC, where errors travel in headers", () => {
    let registry: Client<typeof RegistryService>;
    beforeAll(() => {
      registry = createClient(RegistryService, createGrpcTransport({ baseUrl: `http://${app.grpcAddress}` }));
    });

    it.each([
      ["a name", { name: "!".repeat(100_000) }],
      ["interfaces", { supportedInterfaces: [{ ...offered, protocolBinding: "B".repeat(100_000) }] }],
      ["the key of a map", { securitySchemes: { ["k".repeat(100_000)]: { apiKeySecurityScheme: {} } } }],
    ])("refuses %s of 100,000 characters in a few", async (_, changes) => {
      const request = { source: { case: "card" as const, value: fromJson(AgentCardSchema, card(changes)) } };
      const refusal = await registry.registerAgent(request).catch(ConnectError.from);
      expect(refusal).toMatchObject({ code: Code.InvalidArgument });
    });
  });
});

describe("limits of push configs", () => {
  it("takes so many of a task and says when there are more", async () => {
    const { body } = await send({});
    const path = `/tasks/${body.task.id}/pushNotificationConfigs`;
    const create = (id: string) => call("POST", path, { id, url: "http://127.0.0.1:9/hook" });
    const answers = await Promise.all(Array.from({ length: MAX_CONFIGS + 5 }, (_, i) => create(`c${i}`)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(MAX_CONFIGS);
    expect(answers.find(({ status }) => status === 429)?.body.error.details[0].reason).toBe("TOO_MANY_PUSH_CONFIGS");
    // One that is there may still be changed.
    const kept = answers.find(({ status }) => status === 200)!.body.id;
    expect((await create(kept)).status).toBe(200);
  });
});
