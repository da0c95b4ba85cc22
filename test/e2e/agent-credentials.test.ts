/** Credentials of agents from the command line to the agent: used, shown without their secrets, kept encrypted, in no log. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { toJsonString } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import pg from "pg";
import { afterEach, describe, expect, test } from "vitest";
import { AgentCredentialSchema } from "../../gen/signalbox/v1/registry_pb.ts";
import { createSignalboxClient } from "../../src/sdk/client.ts";
import { cardOf } from "../agents/rogue-agent.ts";
import { type AskedRequest, startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { startTokenIssuer } from "../agents/token-issuer.ts";
import { createTestAuthority } from "../setup/test-authority.ts";
import { createDatabase } from "../store/backends.ts";
import { type LogLines, logLines } from "../store/log-lines.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

let cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.reverse()) await step();
  cleanUp = [];
});

const newKey = () => randomBytes(32).toString("base64");

async function appWith(flags: Record<string, string>): Promise<{ app: TestApp; logged: LogLines }> {
  const logged = logLines();
  const app = await startTestApp({ backend: "pglite", flags: { "task.attempts": "1", ...flags }, log: logged.log });
  cleanUp.push(() => app.stop());
  return { app, logged };
}

async function database(): Promise<string> {
  const { url, drop } = await createDatabase();
  cleanUp.push(drop);
  return url;
}

async function agentThat(admits: (request: AskedRequest) => boolean | Promise<boolean>): Promise<TestAgent> {
  const agent = await startTestAgent({ bindings: ["JSONRPC"], admits });
  cleanUp.push(() => agent.close());
  return agent;
}

/** Sends a message to the one agent there is; the state its task ends in. */
async function stateAfterSending({ httpUrl }: TestApp): Promise<string> {
  const { code, out, err } = await runCommand(httpUrl, ["send", "complete", "--json"]);
  return /TASK_STATE_\w+/.exec(out)?.[0] ?? `${code} ${out}${err}`;
}

/** Everything that a program has said: each line of the log, as it is written. */
const textOf = ({ lines }: LogLines) => lines.map((line) => JSON.stringify(line)).join("\n");

const everyEntry = async ({ httpUrl }: TestApp) =>
  (await runCommand(httpUrl, ["audit", "list", "--limit", "1000", "--json"])).out;

describe.each(["pglite", "postgres"])("on %s", (backend) => {
  const placeOf = async () =>
    backend === "pglite" ? {} : { "database.url": await database(), "secrets.key": newKey() };

  test("a credential is set from a file, used, shown without its secret, and taken away", async () => {
    const secret = `s3cret-${randomBytes(12).toString("hex")}`;
    const { app, logged } = await appWith(await placeOf());
    const agent = await agentThat(({ header, method }) => method === "GET" || header("x-agent-key") === secret);
    await app.register("a", { cardUrl: agent.cardUrl });
    expect(await stateAfterSending(app)).toBe("TASK_STATE_FAILED");
    const args = ["agents", "credential", "set", "a", "--api-key-file", "-", "--header", "X-Agent-Key"];
    const set = await runCommand(app.httpUrl, args, { stdin: `${secret}\n` });
    expect(set).toMatchObject({ code: 0, out: expect.stringContaining("api-key") });
    expect(await stateAfterSending(app)).toBe("TASK_STATE_COMPLETED");
    expect((await runCommand(app.httpUrl, ["agents", "check", "a"])).code).toBe(0);
    expect((await runCommand(app.httpUrl, ["agents", "refresh", "a"])).code).toBe(0);
    const shown = await runCommand(app.httpUrl, ["agents", "credential", "get", "a", "--json"]);
    expect(JSON.parse(shown.out)).toEqual({
      agentId: "a",
      apiKey: { header: "X-Agent-Key" },
      updateTime: expect.any(String),
      updatedBy: "anonymous",
    });
    expect((await runCommand(app.httpUrl, ["agents", "credential", "delete", "a"])).code).toBe(0);
    expect(await stateAfterSending(app)).toBe("TASK_STATE_FAILED");
    const gone = await runCommand(app.httpUrl, ["agents", "credential", "get", "a"]);
    expect(gone).toMatchObject({ code: 1, err: expect.stringContaining("CREDENTIAL_NOT_FOUND") });
    const missing = await runCommand(app.httpUrl, ["agents", "credential", "delete", "nobody"]);
    expect(missing.err).toContain("AGENT_NOT_FOUND");

    const entries = await everyEntry(app);
    expect(entries).toMatch(/"credential.set"/);
    expect(entries).toMatch(/"credential.delete"/);
    for (const text of [entries, textOf(logged), set.out, shown.out]) expect(text).not.toContain(secret);
    if (backend === "pglite") expect(statSync(join(app.dataDir, "secrets.key")).mode & 0o777).toBe(0o600);
  });

  test("no secret of any kind is in a log, an error, an entry or an answer, whatever goes wrong", async () => {
    const flags = await placeOf();
    const { app, logged } = await appWith(flags);
    const { httpUrl } = app;
    const { registry } = createSignalboxClient({ baseUrl: httpUrl });
    const agent = await agentThat(({ method }) => method === "GET");
    await app.register("a", { cardUrl: agent.cardUrl });
    const authority = await createTestAuthority("The mesh");
    const [own, foreign] = [await authority.issue("router"), await authority.issue("other")];
    const issuer = await startTokenIssuer({ clientId: "router", clientSecret: "another-one" });
    cleanUp.push(() => issuer.close());
    const secrets: string[] = [];
    const secret = (text = `s3cret-${randomBytes(12).toString("hex")}`) => {
      secrets.push(text);
      return text;
    };
    const client = () => ({ clientId: "router", clientSecret: secret() });
    const said: string[] = [];
    const kinds = [
      { case: "bearer", value: { token: secret() } },
      { case: "bearer", value: { token: `${secret()} ${secret()}` } },
      { case: "apiKey", value: { header: "host", key: secret() } },
      { case: "apiKey", value: { header: "", key: secret() } },
      { case: "hmac", value: { keyId: "k", secret: secret(randomBytes(32).toString("base64")) } },
      { case: "hmac", value: { keyId: "k", secret: `${secret()}!` } },
      { case: "oauth2", value: { tokenUrl: issuer.tokenUrl, ...client() } },
      { case: "oauth2", value: { tokenUrl: `http://me:${secret()}@127.0.0.1/`, ...client() } },
      { case: "oidc", value: { issuer: issuer.issuer, ...client() } },
      { case: "oidc", value: { issuer: `${issuer.issuer}?${secret()}`, ...client() } },
      { case: "mutualTls", value: { certificateChain: own.cert, privateKey: own.key } },
      { case: "mutualTls", value: { certificateChain: own.cert, privateKey: foreign.key } },
      {
        case: "mutualTls",
        value: { certificateChain: own.cert, privateKey: `-----BEGIN PRIVATE KEY-----\n${secret()}` },
      },
    ] as const;
    for (const pair of [own, foreign]) secrets.push(pair.key.split("\n")[1]!);
    let taken = 0;
    for (const kind of kinds) {
      try {
        said.push(
          toJsonString(
            AgentCredentialSchema,
            await registry.setAgentCredential({ agentId: "a", credential: { kind } }),
          ),
        );
        taken += 1;
        said.push(await stateAfterSending(app));
        said.push((await runCommand(httpUrl, ["agents", "check", "a", "--json"])).out);
        said.push((await runCommand(httpUrl, ["agents", "show", "a", "--json"])).out);
        said.push((await runCommand(httpUrl, ["agents", "credential", "get", "a"])).out);
        said.push((await runCommand(httpUrl, ["task", "list", "--json"])).out);
      } catch (error) {
        if (!(error instanceof ConnectError)) throw error;
        said.push(String(error), JSON.stringify(error.details));
      }
    }
    // Those that are not wrong; a certificate has no use without TLS.
    expect(taken).toBe(5);
    // What is no credential at all is refused before anybody looks at it.
    for (const body of [
      { bearer: secret() },
      { bearer: { token: [secret()] } },
      { hmac: { key_id: "k", secret: { of: secret() } } },
      { [secret()]: {} },
      secret(),
    ]) {
      await fetch(`${httpUrl}/v1/agents/a/credential`, {
        method: "PUT",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
    }
    said.push(textOf(logged), await everyEntry(app));
    const all = said.join("\n");
    expect(all).toContain("credential.set");
    for (const text of secrets) {
      expect(all).not.toContain(text);
      expect(all).not.toContain(Buffer.from(text).toString("base64"));
    }
    if (flags["database.url"] !== undefined) {
      const db = new pg.Client(flags["database.url"]);
      await db.connect();
      const { rows } = await db.query(
        "select encode(body, 'escape') || encode(sealed, 'escape') as row from agent_credentials",
      );
      await db.end();
      expect(rows).toHaveLength(1);
      for (const text of secrets) expect(rows[0].row).not.toContain(text);
    }
  });
});

test("each kind is validated, and the field named", async () => {
  const { app } = await appWith({});
  const { registry } = createSignalboxClient({ baseUrl: app.httpUrl });
  const agent = await agentThat(() => true);
  await app.register("a", { cardUrl: agent.cardUrl });
  const authority = await createTestAuthority("The mesh");
  const [own, expired] = [await authority.issue("router"), await authority.issue("router", { untilMs: -1_000 })];
  const client = { clientId: "c", clientSecret: "s" };
  const cases = [
    [undefined, "credential"],
    [{ case: "bearer", value: { token: "" } }, "credential.bearer.token"],
    [{ case: "bearer", value: { token: "x".repeat(8_193) } }, "credential.bearer.token"],
    [{ case: "apiKey", value: { key: "a\r\nb" } }, "credential.apiKey.key"],
    ...[
      "Host",
      "content-length",
      "TE",
      "Connection",
      "a2a-version",
      "signalbox-task-deadline",
      "grpc-timeout",
      "x y",
      "x-bin",
    ].map((header) => [{ case: "apiKey", value: { header, key: "k" } }, "credential.apiKey.header"] as const),
    [{ case: "hmac", value: { keyId: 'a"b', secret: "x".repeat(32) } }, "credential.hmac.keyId"],
    [{ case: "hmac", value: { keyId: "k", secret: "c2hvcnQ=" } }, "credential.hmac.secret"],
    [{ case: "oauth2", value: { tokenUrl: "ftp://x/", ...client } }, "credential.oauth2.tokenUrl"],
    [{ case: "oauth2", value: { tokenUrl: "http://8.8.8.8/token", ...client } }, "credential.oauth2.tokenUrl"],
    [
      { case: "oauth2", value: { tokenUrl: "https://x.example/", clientId: "", clientSecret: "s" } },
      "credential.oauth2.clientId",
    ],
    [
      { case: "oauth2", value: { tokenUrl: "https://x.example/", ...client, scopes: ["a b"] } },
      "credential.oauth2.scopes[0]",
    ],
    [{ case: "oidc", value: { issuer: "https://x.example/", ...client, resource: "/a" } }, "credential.oidc.resource"],
    [{ case: "oidc", value: { issuer: "https://x.example/?a", ...client } }, "credential.oidc.issuer"],
    [
      { case: "mutualTls", value: { certificateChain: "x", privateKey: own.key } },
      "credential.mutualTls.certificateChain",
    ],
    [
      { case: "mutualTls", value: { certificateChain: expired.cert, privateKey: expired.key } },
      "credential.mutualTls.certificateChain",
    ],
    [
      { case: "mutualTls", value: { certificateChain: own.cert, privateKey: expired.key } },
      "credential.mutualTls.privateKey",
    ],
    [
      { case: "mutualTls", value: { certificateChain: own.cert, privateKey: own.key, certificateAuthorities: "x" } },
      "credential.mutualTls.certificateAuthorities",
    ],
  ] as const;
  for (const [kind, field] of cases) {
    const credential = { ...(kind && { kind }) } as Parameters<typeof registry.setAgentCredential>[0]["credential"];
    const refused = await registry
      .setAgentCredential({ agentId: "a", credential })
      .catch((error: Error) => error.message);
    expect(refused, JSON.stringify(kind)).toContain(field);
  }
  // A certificate without TLS, and an agent that does not know what it is called with.
  const mtls = { case: "mutualTls", value: { certificateChain: own.cert, privateKey: own.key } } as const;
  await expect(registry.setAgentCredential({ agentId: "a", credential: { kind: mtls } })).rejects.toThrow(
    "without TLS",
  );
  await app.register("far", { card: { ...JSON.parse(JSON.stringify(cardJson("http://8.8.8.8/"))) } });
  const bearer = { case: "bearer", value: { token: "t" } } as const;
  const refused = registry.setAgentCredential({ agentId: "far", credential: { kind: bearer } });
  await expect(refused).rejects.toThrow("without TLS");
});

const cardJson = (url: string) => ({
  name: cardOf("JSONRPC", url).name,
  description: "d",
  version: "1",
  capabilities: {},
  supportedInterfaces: [{ url, protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
  skills: [{ id: "s", name: "s", description: "d", tags: ["t"] }],
  defaultInputModes: ["text/plain"],
  defaultOutputModes: ["text/plain"],
});

test("with PostgreSQL and no key nothing is kept, and the remedy is told", async () => {
  const { app } = await appWith({ "database.url": await database() });
  const agent = await agentThat(() => true);
  await app.register("a", { cardUrl: agent.cardUrl });
  const set = await runCommand(app.httpUrl, ["agents", "credential", "set", "a", "--bearer-file", "-"], { stdin: "t" });
  expect(set).toMatchObject({ code: 1, err: expect.stringContaining("SECRETS_KEY_MISSING") });
  expect(existsSync(join(app.dataDir, "secrets.key"))).toBe(false);
});

test("keys are changed without losing a secret: two servers encrypt anew at once, then the old key is of no use", async () => {
  const url = await database();
  const [first, second] = [newKey(), newKey()];
  const agent = await agentThat(({ header, method }) => method === "GET" || header("authorization") === "Bearer t-1");
  const start = (key: string) => appWith({ "database.url": url, "secrets.key": key });
  const before = await start(first);
  await before.app.register("a", { cardUrl: agent.cardUrl });
  for (let i = 0; i < 450; i++) {
    // More than a batch of them, beside the one that is used.
    await before.app.register(`x${i}`, { card: cardJson("http://127.0.0.1:9/") });
  }
  const { registry } = createSignalboxClient({ baseUrl: before.app.httpUrl });
  const bearer = (token: string) => ({ kind: { case: "bearer", value: { token } } }) as const;
  await registry.setAgentCredential({ agentId: "a", credential: bearer("t-1") });
  for (let i = 0; i < 450; i++) await registry.setAgentCredential({ agentId: `x${i}`, credential: bearer(`x-${i}`) });
  await registry.setDefaultAgent({ agentId: "a" });
  // One that knows the new key already, and encrypts with the old one yet.
  const ready = await start(`${first}\n${second}`);
  const both = await Promise.all([start(`${second}\n${first}`), start(`${second}\n${first}`)]);
  const counted = both.map(({ logged }) => {
    const line = logged.lines.find(({ msg }) => msg.includes("encrypted anew"));
    return Number(line?.secrets ?? 0);
  });
  expect(counted[0]! + counted[1]!).toBe(451);
  for (const { app } of [ready, ...both]) expect(await stateAfterSending(app)).toBe("TASK_STATE_COMPLETED");
  const last = await start(second);
  expect(await stateAfterSending(last.app)).toBe("TASK_STATE_COMPLETED");
  expect(last.logged.lines.some(({ msg }) => msg.includes("no key of secrets.key opens"))).toBe(false);
  const lost = await start(first);
  expect(lost.logged.lines.some(({ msg }) => msg.includes("no key of secrets.key opens"))).toBe(true);
  expect(await stateAfterSending(lost.app)).toBe("TASK_STATE_FAILED");
});

test.each([
  ["holds no key", ""],
  ["has 16 bytes", randomBytes(16).toString("base64")],
  ["is no base64", "not!a!key"],
  ["key 2 has 31 bytes", `${newKey()}\n${randomBytes(31).toString("base64")}`],
  ["holds 17 keys", Array.from({ length: 17 }, newKey).join("\n")],
])("a server does not start with a key file that %s, and shows none of it", async (why, text) => {
  const path = join(process.env.TMPDIR ?? "/tmp", `secrets-${randomBytes(6).toString("hex")}.key`);
  await writeFile(path, text);
  const failure = await startTestApp({ flags: { "secrets.key": path } }).then(
    () => new Error("it has started"),
    (error: Error) => error,
  );
  expect(failure).toMatchObject({ reason: "SECRETS_KEY_UNREADABLE", message: expect.stringContaining(why) });
  if (text !== "") expect(failure.message).not.toContain(readFileSync(path, "utf8"));
});
