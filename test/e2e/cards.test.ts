/** The cards of the router and of the agents behind it: what they advertise, and what caches are told. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { echoAgent } from "./echo-agent.ts";
import { inProcessCard, startTestApp, type TestApp, type TestAppOptions } from "./running-app.ts";

const CARD = "/.well-known/agent-card.json";

async function withApp(options: TestAppOptions, use: (app: TestApp) => Promise<void>): Promise<void> {
  const app = await startTestApp({ backend: "pglite", ...options });
  await use(app).finally(() => app.stop());
}

// biome-ignore lint/suspicious/noExplicitAny: tests look into JSON as it comes
const cardAt = async (url: string): Promise<any> => (await fetch(url + CARD)).json();

describe("a router with one agent", () => {
  let app: TestApp;

  beforeAll(async () => {
    app = await startTestApp({
      backend: "pglite",
      agents: { alpha: echoAgent("alpha") },
      flags: { "card.max-age-seconds": "7" },
    });
  });
  afterAll(() => app?.stop());

  test("has a card of its own with the skills of the agent", async () => {
    expect(await cardAt(app.httpUrl)).toEqual({
      name: "Signalbox",
      description: "Routes tasks to the agents registered with it.",
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      supportedInterfaces: [
        { url: app.httpUrl, protocolBinding: "JSONRPC", protocolVersion: "1.0" },
        { url: app.httpUrl, protocolBinding: "HTTP+JSON", protocolVersion: "1.0" },
        { url: app.grpcAddress, protocolBinding: "GRPC", protocolVersion: "1.0" },
      ],
      capabilities: {
        streaming: true,
        pushNotifications: true,
        extendedAgentCard: true,
        extensions: [
          { uri: "urn:signalbox:a2a:exchange:v1", description: expect.stringMatching(/DISCOVER.*VERIFY/) },
          { uri: "urn:signalbox:a2a:updates:v1", description: expect.stringContaining("SubscribeToTask") },
          { uri: "urn:signalbox:a2a:routing:v1", description: expect.stringMatching(/priority.*deadlineMs/) },
          { uri: "urn:signalbox:a2a:delegation:v1", description: expect.stringContaining("parentTaskId") },
        ],
      },
      defaultInputModes: ["text/plain"],
      defaultOutputModes: ["text/plain"],
      skills: [{ id: "alpha", name: "alpha", description: "What alpha does.", tags: ["test"] }],
      securitySchemes: {
        apiKey: { apiKeySecurityScheme: expect.objectContaining({ location: "header", name: "X-API-Key" }) },
        bearer: { httpAuthSecurityScheme: expect.objectContaining({ scheme: "Bearer" }) },
        httpSignature: { httpAuthSecurityScheme: expect.objectContaining({ scheme: "Signature" }) },
      },
      signatures: [{ protected: expect.any(String), signature: expect.any(String) }],
    });
  });

  test("serves the agent's card with addresses that lead through the router", async () => {
    const url = `${app.httpUrl}/agents/alpha`;
    expect(await cardAt(url)).toMatchObject({
      name: "alpha",
      supportedInterfaces: [
        { url, protocolBinding: "JSONRPC", protocolVersion: "1.0" },
        { url, protocolBinding: "HTTP+JSON", protocolVersion: "1.0" },
        { url: app.grpcAddress, protocolBinding: "GRPC", protocolVersion: "1.0", tenant: "a.alpha" },
      ],
    });
  });

  test("serves the card of what the agent can do", async () => {
    const url = `${app.httpUrl}/capabilities/alpha`;
    const { capabilities } = await cardAt(app.httpUrl);
    expect(await cardAt(url)).toEqual({
      name: "alpha",
      description: "What alpha does.",
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      supportedInterfaces: [
        { url, protocolBinding: "JSONRPC", protocolVersion: "1.0" },
        { url, protocolBinding: "HTTP+JSON", protocolVersion: "1.0" },
        { url: app.grpcAddress, protocolBinding: "GRPC", protocolVersion: "1.0", tenant: "c.alpha" },
      ],
      // Exchanges are with the router itself.
      capabilities: { ...capabilities, extendedAgentCard: false, extensions: capabilities.extensions.slice(1) },
      defaultInputModes: ["text/plain"],
      defaultOutputModes: ["text/plain"],
      skills: [{ id: "alpha", name: "alpha", description: "What alpha does.", tags: ["test"] }],
      securitySchemes: {
        apiKey: { apiKeySecurityScheme: expect.objectContaining({ location: "header", name: "X-API-Key" }) },
        bearer: { httpAuthSecurityScheme: expect.objectContaining({ scheme: "Bearer" }) },
        httpSignature: { httpAuthSecurityScheme: expect.objectContaining({ scheme: "Signature" }) },
      },
      signatures: [{ protected: expect.any(String), signature: expect.any(String) }],
    });
  });

  test.each([
    ...["nobody", "No-Label", "%zz", "a.alpha"].map((id) => `agents/${id}`),
    ...["nothing", "No-Label", "%zz", "c.alpha"].map((id) => `capabilities/${id}`),
  ])("has no card of %s", async (path) => {
    const answer = await fetch(`${app.httpUrl}/${path}${CARD}`);
    expect(answer.status).toBe(404);
    expect(await answer.json()).toMatchObject({ error: { status: "NOT_FOUND" } });
  });

  describe.each(["", "/agents/alpha", "/capabilities/alpha"])("the card at %j", (path) => {
    const get = (headers: Record<string, string> = {}, method = "GET") =>
      fetch(app.httpUrl + path + CARD, { method, headers });

    test("says how long it may be kept, and what it is known by", async () => {
      const answer = await get();
      expect(answer.status).toBe(200);
      expect(answer.headers.get("content-type")).toBe("application/json");
      expect(answer.headers.get("cache-control")).toBe("public, max-age=7");
      expect(answer.headers.get("etag")).toMatch(/^W\/"[\w-]+"$/);
    });

    test("is not sent again to who has it", async () => {
      const first = await get();
      const etag = first.headers.get("etag")!;
      for (const headers of [
        { "if-none-match": etag },
        { "if-none-match": `"other", ${etag.replace("W/", "")}` },
        { "if-none-match": "*" },
        { "if-none-match": etag, "if-modified-since": new Date(0).toUTCString() },
      ]) {
        for (const method of ["GET", "HEAD"]) {
          const answer = await get(headers, method);
          expect([answer.status, await answer.text()], JSON.stringify(headers)).toEqual([304, ""]);
          expect(answer.headers.get("etag")).toBe(etag);
          expect(answer.headers.get("cache-control")).toBe("public, max-age=7");
        }
      }
    });

    test("is sent to who has another", async () => {
      for (const headers of [
        { "if-none-match": '"other"' },
        { "if-none-match": '"other"', "if-modified-since": new Date().toUTCString() },
        { "if-modified-since": new Date(0).toUTCString() },
        { "if-modified-since": "once upon a time" },
      ]) {
        const answer = await get(headers);
        expect(answer.status, JSON.stringify(headers)).toBe(200);
        expect(await answer.json()).toHaveProperty("supportedInterfaces");
      }
    });

    test("answers HEAD as GET, without the card", async () => {
      const [got, head] = [await get(), await get({}, "HEAD")];
      expect([head.status, await head.text()]).toEqual([200, ""]);
      for (const name of ["etag", "cache-control", "last-modified", "content-type"]) {
        expect(head.headers.get(name)).toBe(got.headers.get(name));
      }
    });
  });

  test("an agent's card says when it was changed", async () => {
    const get = (since?: string) =>
      fetch(
        `${app.httpUrl}/agents/alpha${CARD}`,
        since === undefined ? {} : { headers: { "if-modified-since": since } },
      );
    const changed = (await get()).headers.get("last-modified")!;
    const changedMs = Date.parse(changed);
    expect(changedMs).toBeLessThanOrEqual(Date.now());
    expect(changedMs).toBeGreaterThan(Date.now() - 3_600_000);
    const at = (ms: number) => new Date(ms).toUTCString();
    expect((await get(changed)).status).toBe(304);
    expect((await get(at(changedMs + 1000))).status).toBe(304);
    expect((await get(at(changedMs - 1000))).status).toBe(200);
  });

  // Agents leave, and nothing tells when.
  test.each(["", "/capabilities/alpha"])("the card at %j does not go by the time", async (path) => {
    const answer = await fetch(app.httpUrl + path + CARD, {
      headers: { "if-modified-since": new Date().toUTCString() },
    });
    expect([answer.status, answer.headers.get("last-modified")]).toEqual([200, null]);
  });

  test("changes its card, and the tag of it, when an agent comes", async () => {
    const tag = async (path = "") => (await fetch(app.httpUrl + path + CARD)).headers.get("etag");
    const [router, alpha, skill] = [await tag(), await tag("/agents/alpha"), await tag("/capabilities/alpha")];
    const supportedInterfaces = [{ url: "http://127.0.0.1:9/", protocolBinding: "JSONRPC", protocolVersion: "1.0" }];
    await app.register("beta", { card: { ...inProcessCard("beta"), supportedInterfaces } });
    expect(await tag()).not.toBe(router);
    expect(await tag("/agents/alpha")).toBe(alpha);
    expect(await tag("/capabilities/alpha")).toBe(skill);
    expect((await cardAt(app.httpUrl)).skills.map(({ id }: { id: string }) => id)).toEqual(["alpha", "beta"]);
    expect(await cardAt(`${app.httpUrl}/capabilities/beta`)).toMatchObject({ name: "beta", skills: [{ id: "beta" }] });
  });

  test("changes the card of a capability when another agent has it too", async () => {
    const url = `${app.httpUrl}/capabilities/alpha`;
    const { skills } = inProcessCard("alpha");
    const card = { ...inProcessCard("aaron"), skills, defaultInputModes: ["text/plain", "image/png"] };
    const supportedInterfaces = [{ url: "http://127.0.0.1:9/", protocolBinding: "JSONRPC", protocolVersion: "1.0" }];
    await app.register("aaron", { card: { ...card, supportedInterfaces } });
    expect(await cardAt(url)).toMatchObject({ defaultInputModes: ["text/plain", "image/png"] });
    expect((await fetch(`${app.httpUrl}/v1/agents/aaron`, { method: "DELETE" })).status).toBe(200);
    expect(await cardAt(url)).toMatchObject({ defaultInputModes: ["text/plain"] });
    await fetch(`${app.httpUrl}/v1/agents/beta`, { method: "DELETE" });
    expect((await fetch(`${app.httpUrl}/capabilities/beta${CARD}`)).status).toBe(404);
  });
});

describe("a router behind a proxy", () => {
  test("advertises the addresses that it is told, and its base path", async () => {
    const flags = {
      "public.url": "https://a2a.example.com/",
      "public.grpc": "grpc.example.com:443",
      "http.base-path": "/sb",
    };
    await withApp({ flags, agents: { alpha: echoAgent("alpha") } }, async (app) => {
      const urls = async (path: string) =>
        (await cardAt(app.httpUrl + path)).supportedInterfaces.map(({ url }: { url: string }) => url);
      const grpc = "grpc.example.com:443";
      const url = "https://a2a.example.com/sb";
      expect(await urls("")).toEqual([url, url, grpc]);
      for (const path of ["/agents/alpha", "/capabilities/alpha"]) {
        expect(await urls(path)).toEqual([url + path, url + path, grpc]);
      }
    });
  });
});

describe("the extended card", () => {
  const folder = mkdtemp(join(tmpdir(), "signalbox-card-"));
  afterAll(async () => rm(await folder, { recursive: true, force: true }));

  test("is the public one where nothing more is configured, to an admin", async () => {
    await withApp({ agents: { alpha: echoAgent("alpha") } }, async (app) => {
      const { signatures: _, ...open } = await cardAt(app.httpUrl);
      expect(open.capabilities).toMatchObject({ extendedAgentCard: true });
      const extended = await (await fetch(`${app.httpUrl}/extendedAgentCard`)).json();
      expect(extended).toMatchObject(open);
    });
  });

  test("says more than the public one, and still what each agent can do", async () => {
    const file = join(await folder, "extended.json");
    const secret = { id: "secret", name: "Secret", description: "For those who know.", tags: [] };
    await writeFile(file, JSON.stringify({ description: "All there is.", skills: [secret], futureField: 1 }));
    await withApp({ flags: { "card.extended": file }, agents: { alpha: echoAgent("alpha") } }, async (app) => {
      const open = await cardAt(app.httpUrl);
      expect(open).toMatchObject({ capabilities: { extendedAgentCard: true }, skills: [{ id: "alpha" }] });
      const extended = (await (await fetch(`${app.httpUrl}/extendedAgentCard`)).json()) as { skills: unknown };
      const { description, skills, signatures: _, ...rest } = open;
      expect(extended).toMatchObject({ ...rest, description: "All there is." });
      expect(extended.skills).toMatchObject([{ id: "alpha" }, { id: "secret" }]);
      // It is the router's: an agent's card declares none.
      expect((await cardAt(`${app.httpUrl}/agents/alpha`)).capabilities).toMatchObject({ extendedAgentCard: false });
      expect((await fetch(`${app.httpUrl}/agents/alpha/extendedAgentCard`)).status).toBe(400);
      expect((await fetch(`${app.httpUrl}/capabilities/alpha/extendedAgentCard`)).status).toBe(400);
    });
  });

  test.each([
    ["is no JSON", "{"],
    ["is no card", '{"skills": 1}'],
    ["is not there", undefined],
  ])("keeps the server from starting when its file %s, and names it", async (_, text) => {
    const file = join(await folder, text === undefined ? "missing.json" : "broken.json");
    if (text !== undefined) await writeFile(file, text);
    await expect(startTestApp({ flags: { "card.extended": file } })).rejects.toThrow(file);
  });
});
