/** Signed requests to a real server, through every door: what is right is let in once, and what somebody changed on the way is not. */
import { once } from "node:events";
import http from "node:http";
import { text } from "node:stream/consumers";
import { create, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { ListTasksRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { KeyKind } from "../../gen/signalbox/v1/workspace_pb.ts";
import { createSignalboxClient } from "../../src/sdk/client.ts";
import { frameMessage, signRequest } from "../../src/sdk/signing.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const ADMIN_KEY = `sbx_operator_${"k".repeat(43)}`;
let app: TestApp;
let key: string;
beforeAll(async () => {
  app = await startTestApp({
    flags: { "auth.anonymous-role": "none", "auth.admin-key": ADMIN_KEY, "secrets.key": `${"A".repeat(43)}=` },
  });
  const admin = createSignalboxClient({ baseUrl: app.httpUrl, apiKey: ADMIN_KEY });
  const made = await admin.workspaces.createKey({
    key: { principalId: "sam", roles: ["operator"], kind: KeyKind.HMAC },
  });
  key = made.token;
});
afterAll(() => app?.stop());
// So that what is refused here is not refused for being too much.
beforeEach(() => new Promise((resolve) => setTimeout(resolve, 1_100)));

const JSON_TYPE = { "content-type": "application/json" };
const RPC = '{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{}}';
const signed = (method: string, url: string, body?: string | Uint8Array) => ({
  ...signRequest({ method, url, key, body }),
});

/** With a path as it is written, and headers as often as they are given. */
async function raw(method: string, path: string, headers: readonly string[], body?: string | Buffer) {
  const { hostname, port, host } = new URL(app.httpUrl);
  const sent = http.request({ hostname, port, path, method, headers: ["host", host, ...headers] as never });
  sent.end(body);
  const [answer] = (await once(sent, "response")) as [http.IncomingMessage];
  return { status: answer.statusCode, body: await text(answer) };
}
const flat = (headers: Record<string, string>) => Object.entries(headers).flat();

function overGrpc(metadata: Record<string, string>, bytes: Uint8Array): Promise<string> {
  const client = new grpc.Client(app.grpcAddress, grpc.credentials.createInsecure());
  const given = new grpc.Metadata();
  for (const [name, value] of Object.entries(metadata)) given.set(name, value);
  const same = (buffer: Buffer) => buffer;
  return new Promise<string>((resolve) => {
    client.makeUnaryRequest("/lf.a2a.v1.A2AService/ListTasks", same, same, Buffer.from(bytes), given, (error) =>
      resolve(error ? (grpc.status[error.code] as string) : "OK"),
    );
  }).finally(() => client.close());
}

describe("a signed call", () => {
  it("is let in through every door, once", async () => {
    const url = `${app.httpUrl}/rpc`;
    const headers = { ...JSON_TYPE, ...signed("POST", url, RPC) };
    const post = async () => (await fetch(url, { method: "POST", headers, body: RPC })).text();
    expect(await post()).toContain('"result"');
    expect(await post()).toContain("CREDENTIAL_INVALID");

    const query = `${app.httpUrl}/v1/tasks?pageSize=3`;
    expect((await fetch(query, { headers: signed("GET", query) })).status).toBe(200);

    const client = createSignalboxClient({ baseUrl: app.httpUrl, signingKey: key, reconnects: 0 });
    expect(await client.workspaces.whoAmI({})).toMatchObject({ principalId: "sam", authentication: "hmac" });

    const bytes = toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema, { contextId: "c1" }));
    const target = "http://x/lf.a2a.v1.A2AService/ListTasks";
    const metadata = signed("POST", target, frameMessage(bytes));
    expect(await overGrpc(metadata, bytes)).toBe("OK");
    expect(await overGrpc(metadata, bytes)).toBe("UNAUTHENTICATED");
    const other = toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema, { contextId: "c2" }));
    expect(await overGrpc(signed("POST", target, frameMessage(bytes)), other)).toBe("UNAUTHENTICATED");
  });

  it("is refused with another body, path, query or method", async () => {
    const url = `${app.httpUrl}/v1/tasks?pageSize=3`;
    for (const [method, path] of [
      ["GET", "/v1/tasks?pageSize=4"],
      ["GET", "/v1/tasks"],
      ["GET", "/v1/%74asks?pageSize=3"],
      ["GET", "//v1/tasks?pageSize=3"],
      ["GET", "/v1/tasks?pageSize=3&pageSize=3"],
      ["HEAD", "/v1/tasks?pageSize=3"],
    ] as const) {
      const { status } = await raw(method, path, flat(signed("GET", url)));
      expect([path, status]).not.toEqual([path, 200]);
      expect(status).toBeLessThan(500);
    }
    const bodied = await raw("GET", "/v1/tasks?pageSize=3", [...flat(signed("GET", url)), "content-length", "2"], "{}");
    expect(bodied.status).toBe(401);
    const post = await fetch(`${app.httpUrl}/rpc`, {
      method: "POST",
      headers: { ...JSON_TYPE, ...signed("POST", `${app.httpUrl}/rpc`, RPC) },
      body: `${RPC} `,
    });
    expect(await post.text()).toContain("CREDENTIAL_INVALID");
  });

  it("may cover headers, and none that every object has", async () => {
    const url = `${app.httpUrl}/v1/tasks`;
    const { "Signature-Input": input, Signature } = signed("GET", url);
    for (const name of ["constructor", "__proto__", "x!y"]) {
      const covering = { Signature, "Signature-Input": input.replace('"@path"', `"@path" "content-digest" "${name}"`) };
      const digest = { "Content-Digest": "sha-256=:RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=:" };
      const answer = await raw("GET", "/v1/tasks", flat({ ...covering, ...digest }));
      expect([name, answer.status]).toEqual([name, 401]);
      expect([name, await overGrpc({ ...covering, ...digest }, new Uint8Array())]).toEqual([name, "UNAUTHENTICATED"]);
    }
  });
});

it("several headers Authorization are several credentials", async () => {
  const twice = ["authorization", `Bearer ${ADMIN_KEY}`, "Authorization", "Bearer other"];
  expect(await raw("GET", "/v1/whoami", twice)).toMatchObject({ status: 401 });
  expect(await raw("GET", "/v1/whoami", twice.slice(0, 2))).toMatchObject({ status: 200 });
});
