/** API keys over real sockets: every door, the command line, and the first start. */

import { createHash } from "node:crypto";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { ConnectError } from "@connectrpc/connect";
import { credentials, Metadata } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { KeyKind } from "../../gen/signalbox/v1/workspace_pb.ts";
import { run } from "../../src/cli/run.ts";
import { checkContent, isSignedWith, readSignature } from "../../src/domain/identity/http-signature.ts";
import { createSignalboxClient } from "../../src/sdk/client.ts";
import { createDatabase, temporaryDirectory } from "../store/backends.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

const ADMIN_KEY = `sbx_operator_${"k".repeat(43)}`;

describe("a server where everybody must authenticate", () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startTestApp({
      backend: "pglite",
      flags: { "auth.anonymous-role": "none", "auth.admin-key": ADMIN_KEY },
    });
  });
  afterAll(() => app?.stop());
  const clientOf = (options: object) => createSignalboxClient({ baseUrl: app.httpUrl, reconnects: 0, ...options });

  it("lets nobody in without a key, nor with a wrong one", async () => {
    for (const [options, reason] of [
      [{}, "UNAUTHENTICATED"],
      [{ apiKey: `sbx_${"a".repeat(16)}_${"b".repeat(43)}` }, "CREDENTIAL_INVALID"],
      [{ apiKey: "sbx_" }, "CREDENTIAL_INVALID"],
      [{ headers: { "x-api-key": "nothing" } }, "CREDENTIAL_INVALID"],
    ] as const) {
      const error = await clientOf(options)
        .workspaces.whoAmI({})
        .catch((thrown) => ConnectError.from(thrown));
      expect((error as ConnectError).findDetails(ErrorInfoSchema)).toMatchObject([{ reason }]);
    }
  });

  it("knows the same principal by a key of either header, through HTTP+JSON and Connect", async () => {
    const admin = clientOf({ apiKey: ADMIN_KEY });
    const { token, key } = await admin.workspaces.createKey({ key: { principalId: "bob", roles: ["caller"] } });
    const me = await clientOf({ apiKey: token }).workspaces.whoAmI({});
    expect(me).toMatchObject({
      principalId: "bob",
      workspaceId: "default",
      roles: ["caller"],
      authentication: "api-key",
    });
    const answer = await fetch(`${app.httpUrl}/v1/whoami`, { headers: { "x-api-key": token } });
    expect(await answer.json()).toMatchObject({ principalId: "bob", roles: ["caller"] });
    const several = await fetch(`${app.httpUrl}/v1/whoami`, {
      headers: { "x-api-key": token, authorization: `Bearer ${token}` },
    });
    expect(several.status).toBe(401);
    // A caller makes no keys.
    await expect(clientOf({ apiKey: token }).workspaces.listKeys({})).rejects.toMatchObject({
      rawMessage: expect.stringContaining("keys.admin"),
    });
    await admin.workspaces.revokeKey({ keyId: key!.keyId });
    expect((await fetch(`${app.httpUrl}/v1/whoami`, { headers: { "x-api-key": token } })).status).toBe(401);
  });

  it("knows it on the gRPC listener", async () => {
    const { makeGenericClientConstructor } = await import("@grpc/grpc-js");
    const Client = makeGenericClientConstructor({}, "any");
    const client = new Client(app.grpcAddress, credentials.createInsecure());
    const call = (metadata: Metadata) =>
      new Promise<Buffer>((resolve, reject) =>
        client.makeUnaryRequest(
          "/signalbox.v1.WorkspaceService/WhoAmI",
          (bytes: Buffer) => bytes,
          (bytes: Buffer) => bytes,
          Buffer.alloc(0),
          metadata,
          (error, answer) => (error ? reject(error) : resolve(answer!)),
        ),
      );
    const metadata = new Metadata();
    metadata.set("authorization", `Bearer ${ADMIN_KEY}`);
    expect((await call(metadata)).toString("latin1")).toContain("admin");
    await expect(call(new Metadata())).rejects.toMatchObject({ code: 16 });
    client.close();
  });

  it("is administered by the command line, which shows a token once", async () => {
    const env = { SIGNALBOX_API_KEY: ADMIN_KEY };
    const cli = (...args: string[]) => runCommand(app.httpUrl, args, { env });
    const made = await cli(
      "keys",
      "create",
      "carol",
      "--role",
      "operator",
      "--scope",
      "policies.write",
      "--expires-in",
      "90d",
      "--json",
    );
    expect(made).toMatchObject({ code: 0, err: "" });
    const { token, key } = JSON.parse(made.out);
    expect(key).toMatchObject({
      principalId: "carol",
      roles: ["operator"],
      scopes: ["policies.write"],
      kind: "KEY_KIND_BEARER",
    });
    const asCarol = await runCommand(app.httpUrl, ["whoami", "--api-key", token], { env });
    expect(asCarol.out).toMatch(/Principal +carol\n/);
    const rotated = await cli("keys", "rotate", key.keyId, "--overlap", "1h");
    expect(rotated.code).toBe(0);
    expect(rotated.out).toMatch(/Token +sbx_/);
    expect(rotated.err).toContain("shown this once");
    const listed = await cli("keys", "list", "--principal", "carol");
    expect(listed.out.match(/ACTIVE/g)).toHaveLength(2);
    expect(listed.out + listed.err).not.toContain(token.slice(-43));
    expect((await cli("keys", "revoke", key.keyId)).out).toContain("Revoked");
    expect((await cli("keys", "list", "--principal", "carol")).out.match(/ACTIVE/g)).toHaveLength(1);
    expect((await cli("keys", "list", "--principal", "carol", "--all")).out).toContain("REVOKED");
    expect((await runCommand(app.httpUrl, ["whoami", "--api-key", token], { env })).code).toBe(1);
    expect(await runCommand(app.httpUrl, ["keys", "revoke", "nothing"], { env })).toMatchObject({
      code: 1,
      err: expect.stringContaining("KEY_NOT_FOUND"),
    });
  });

  it("makes keys that sign, whose secret is kept encrypted", async () => {
    const made = await runCommand(app.httpUrl, ["keys", "create", "sam", "--role", "caller", "--signs", "--json"], {
      env: { SIGNALBOX_API_KEY: ADMIN_KEY },
    });
    expect(JSON.parse(made.out).key).toMatchObject({ kind: "KEY_KIND_HMAC" });
  });
});

it("a client says wrong uses of credentials without showing them", async () => {
  const cli = (args: string[], env = {}) => runCommand("http://127.0.0.1:9", args, { env });
  const both = await cli(["whoami"], { SIGNALBOX_API_KEY: ADMIN_KEY, SIGNALBOX_SIGNING_KEY: ADMIN_KEY });
  expect(both).toMatchObject({ code: 2, err: expect.stringContaining("one credential") });
  const none = await cli(["whoami", "--api-key", "hunter2hunter2"]);
  expect(none).toMatchObject({ code: 2, err: expect.stringContaining("This is no key") });
  expect(none.err).not.toContain("hunter2");
  // An option counts before the environment.
  const over = await cli(["whoami", "--token", "t"], { SIGNALBOX_API_KEY: ADMIN_KEY });
  expect(over).toMatchObject({ code: 1, err: expect.stringContaining("SERVER_UNREACHABLE") });
});

it("a client warns before it sends a key in the clear to another machine, and of a signature it does not", async () => {
  const stop = AbortSignal.abort();
  const to = (url: string, env: Record<string, string>) => runCommand(url, ["whoami"], { env, stop });
  expect((await to("http://router.invalid:8080", { SIGNALBOX_API_KEY: ADMIN_KEY })).err).toContain("in the clear");
  expect((await to("http://router.invalid:8080", { SIGNALBOX_TOKEN: "t" })).err).toContain("in the clear");
  expect((await to("http://router.invalid:8080", { SIGNALBOX_SIGNING_KEY: ADMIN_KEY })).err).not.toContain(
    "in the clear",
  );
  expect((await to("https://router.invalid", { SIGNALBOX_API_KEY: ADMIN_KEY })).err).not.toContain("in the clear");
  expect((await to("http://127.0.0.1:9", { SIGNALBOX_API_KEY: ADMIN_KEY })).err).not.toContain("in the clear");
  expect((await to("http://[::1]:9", { SIGNALBOX_API_KEY: ADMIN_KEY })).err).not.toContain("in the clear");
});

describe("what signs", () => {
  const secret = "t".repeat(43);
  const key = `sbx_${"0".repeat(16)}_${secret}`;

  /** Whether a request that arrived is signed with the key, by what its bytes are. */
  async function isSigned(request: IncomingMessage): Promise<boolean> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const arrived = {
      method: request.method!,
      target: request.url!,
      authority: request.headers.host!,
      header: (name: string) => (request.headers[name] as string | undefined) ?? null,
    };
    const signature = readSignature(arrived);
    checkContent(arrived, signature, createHash("sha256").update(Buffer.concat(chunks)).digest());
    return isSignedWith(signature, secret);
  }

  /** A server that only looks at what comes. */
  async function watching(call: (url: string) => Promise<unknown>): Promise<(boolean | Error)[]> {
    const seen: (boolean | Error)[] = [];
    const server = createServer((request, response) => {
      isSigned(request)
        .then(
          (is) => seen.push(is),
          (error: Error) => seen.push(error),
        )
        .finally(() => response.writeHead(503).end());
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    try {
      await call(`http://127.0.0.1:${(server.address() as AddressInfo).port}`).catch(() => {});
    } finally {
      server.closeAllConnections();
      server.close();
    }
    return seen;
  }

  it("is the client, for single calls and for streams of answers", async () => {
    const of = (baseUrl: string) =>
      createSignalboxClient({ baseUrl: `${baseUrl}/base`, signingKey: key, reconnects: 0 });
    expect(await watching((url) => of(url).workspaces.whoAmI({}))).toEqual([true]);
    expect(
      await watching((url) => of(url).workspaces.createKey({ key: { principalId: "x", kind: KeyKind.HMAC } })),
    ).toEqual([true]);
    expect(await watching((url) => of(url).send("hello"))).toEqual([true]);
    expect(
      await watching(async (url) => {
        for await (const _ of of(url).a2a.subscribeToTask({ id: "t" }));
      }),
    ).toEqual([true]);
  });

  it("is the command sign, whose output curl takes", async () => {
    const seen = await watching(async (url) => {
      const address = `${url}/v1/tasks?page_size=1`;
      const { out } = await runCommand(url, ["sign", "post", address, "--body", "-"], {
        stdin: '{"a":1}',
        env: { SIGNALBOX_SIGNING_KEY: key },
      });
      const headers = Object.fromEntries(
        out
          .trimEnd()
          .split("\n")
          .map((line) => line.split(/: (.*)/s).slice(0, 2)),
      );
      await fetch(address, { method: "POST", headers, body: '{"a":1}' });
    });
    expect(seen).toEqual([true]);
    const without = await runCommand("http://a", ["sign", "GET", "http://a/"], { env: {} });
    expect(without).toMatchObject({ code: 2, err: expect.stringContaining("Give a key that signs") });
  });
});

it("the first start shows the key of the first admin, once", async () => {
  const database = await createDatabase();
  const dataDir = await temporaryDirectory();
  const logs: string[] = [];
  async function start(): Promise<string> {
    const stop = new AbortController();
    let out = "";
    const args = [
      "serve",
      "--http-port",
      "0",
      "--grpc-port",
      "0",
      "--database-url",
      database.url,
      "--data-dir",
      dataDir,
      "--auth-anonymous-role",
      "none",
      "--log-level",
      "silent",
    ];
    const code = await run(args, {
      out(text) {
        out += text;
        stop.abort();
      },
      err: (text) => void logs.push(text),
      stop: stop.signal,
      env: {},
      cwd: dataDir,
    });
    expect(code).toBe(0);
    return out;
  }
  const first = await start();
  const [token] = /sbx_[a-z0-9]{16}_[A-Za-z0-9_-]{43}/.exec(first)!;
  expect(first).toContain("shown this once");
  const second = await start();
  expect(second).toContain("is serving");
  expect(second).not.toContain("sbx_");
  expect(logs.join("")).not.toContain(token);
  const app = await startTestApp({ flags: { "database.url": database.url, "auth.anonymous-role": "none" } });
  const me = await createSignalboxClient({ baseUrl: app.httpUrl, apiKey: token }).workspaces.whoAmI({});
  expect(me).toMatchObject({ principalId: "admin", roles: ["admin"], scopes: ["*"] });
  await app.stop();
  await database.drop();
  await rm(dataDir, { recursive: true });
});
