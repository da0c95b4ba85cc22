/** Cards, the catalog and the keys over HTTP, for nobody, for callers of two workspaces, and for a credential that is not good. */

import { generateKeyPairSync } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { invalidCredential } from "../../src/domain/identity/errors.ts";
import { cardSecurity } from "../../src/domain/identity/security-schemes.ts";
import { createAgentDirectory } from "../../src/services/agent-directory.ts";
import { createCardSigner } from "../../src/services/card-signer.ts";
import { createCards } from "../../src/services/cards.ts";
import { createAuthenticator } from "../../src/services/identity/authenticator.ts";
import type { Scheme } from "../../src/services/identity/credentials.ts";
import { createPolicy } from "../../src/services/policy.ts";
import type { Router } from "../../src/services/router.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createAgentRepository } from "../../src/store/agent-repository.ts";
import { createCapabilityRepository } from "../../src/store/capability-repository.ts";
import { createCardRoutes } from "../../src/transport/card-routes.ts";
import { httpStatus } from "../../src/transport/http-errors.ts";
import { sendNothing, sendText } from "../../src/transport/http-exchange.ts";
import { openPolicies } from "../services/open-policies.ts";
import { describeEachBackend } from "../store/backends.ts";
import { serve, type TestServer } from "./http-fixture.ts";

const CARD = "/.well-known/agent-card.json";
const CATALOG = "/.well-known/ai-catalog.json";
const runtime = systemRuntime();

/** Keys of this suite: `key <workspace> <name>`. What is behind real ones has its own tests. */
const keys: Scheme = {
  identify(credentials) {
    const [kind, workspaceId, id, scope] = credentials.header("x-api-key")?.split(" ") ?? [];
    if (kind === undefined) return undefined;
    if (kind !== "key" || workspaceId === undefined || id === undefined) throw invalidCredential("it is none.");
    const granted = { workspaceId, roles: scope ? [] : ["caller"], scopes: scope ? [scope] : [] };
    return { id, authentication: "api-key", actors: [], granted };
  },
};

const POLICY = `
version: 1
rules:
  - effect: DENY
    when: { agent_id: secret, principal_id: { "!=": boss } }
  - effect: DENY
    when: { capability_id: launch, principal_id: { "!=": boss } }
  - effect: DENY
    when: { principal_id: outcast }
`;

const skill = (id: string) => ({ id, name: id, description: `Does ${id}.`, tags: [id] });
const cardWith = (name: string, ...skills: string[]) =>
  create(AgentCardSchema, {
    name,
    description: `About ${name}.`,
    version: "1",
    supportedInterfaces: [{ url: "http://127.0.0.1:9", protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
    capabilities: {},
    defaultInputModes: ["text/plain"],
    defaultOutputModes: ["text/plain"],
    skills: skills.map(skill),
  });

describeEachBackend("cards over HTTP", (backend) => {
  let server: TestServer;
  const anonymousRole: "none" | "caller" = "none";
  const servers: TestServer[] = [];

  async function open(role: typeof anonymousRole, publicSkills = false): Promise<TestServer> {
    const repository = createAgentRepository(backend.db);
    const directory = createAgentDirectory(repository, createCapabilityRepository(backend.db), runtime);
    const { policies } = openPolicies([POLICY]);
    const authenticator = createAuthenticator({
      schemes: [keys],
      workspaces: { standing: () => "active", memberships: () => [] },
      anonymousRole: role,
    });
    const signer = await createCardSigner({
      key: generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey,
      previous: undefined,
      jku: () => "https://r.example.com/.well-known/jwks.json",
    });
    const nobody = { id: "anonymous", workspaceId: "default", roles: new Set<string>(), scopes: new Set<string>() };
    const cards = createCards({
      directory,
      policy: createPolicy({
        policies,
        trust: { load: () => undefined, score: () => undefined },
        runtime,
        onVerdict: () => expect.unreachable("no request"),
      }),
      router: { target: async () => undefined } as unknown as Router,
      signer,
      settings: {
        name: "Router",
        description: "Routes.",
        version: "1",
        security: cardSecurity({ issuers: [], certificates: "none", isRequired: role === "none" }),
        extended: create(AgentCardSchema, { description: "For those who are known." }),
      },
      address: () => ({ url: "https://r.example.com", grpc: "r.example.com:443" }),
      startedAt: new Date(),
      isGuarded: async () => false,
      shownToNobody: publicSkills
        ? { principal: { ...nobody, authentication: "anonymous", actors: [] }, workspaceId: "default" }
        : undefined,
    });
    const routes = createCardRoutes({ cards, authenticator, maxAgeS: 60 });
    const made = await serve("HTTP/1.1", async (req, res) => {
      const [pathname = "", query = ""] = (req.url ?? "").split("?");
      const [, kind, id, rest] = /^\/(agents|capabilities)\/([^/]+)(\/.*)$/.exec(pathname) ?? [];
      try {
        if (id !== undefined && rest === CARD) {
          const isFound = await routes.atTarget(req, res, kind === "agents" ? "agent" : "capability", id);
          if (!isFound) sendNothing(res, 404);
        } else await (routes.atRouter(req, res, pathname, query) ?? sendNothing(res, 404));
      } catch (error) {
        sendText(res, httpStatus(error as never), "text/plain", (error as { reason: string }).reason);
      }
    });
    servers.push(made);
    return made;
  }

  beforeAll(async () => {
    await backend.db.kysely
      .insertInto("workspaces")
      .values([{ workspace_id: "acme", default_agent_id: null, suspended_at: null, quotas: null }])
      .execute();
    const repository = createAgentRepository(backend.db);
    const add = (workspaceId: string, agentId: string, ...skills: string[]) =>
      repository.insert(
        workspaceId,
        agentId,
        {
          source: { card: cardWith(agentId, ...skills), cardUrl: undefined, cardEtag: undefined },
          safeToRepeat: false,
          maxConcurrency: 0,
        },
        new Date(),
      );
    await add("default", "open", "sing", "launch");
    await add("default", "secret", "hide");
    await add("acme", "theirs", "build");
    server = await open(anonymousRole);
  });
  afterAll(() => Promise.all(servers.map((each) => each.close())));

  const get = (path: string, key?: string, from = server) =>
    from.send({ path, headers: key === undefined ? {} : { "x-api-key": key } });
  const skillsOf = async (key?: string, from = server) =>
    (await get(CARD, key, from)).json.skills.map(({ id }: { id: string }) => id);

  test("nobody learns how to authenticate, and of no agent", async () => {
    const { status, json, text, headers } = await get(CARD);
    expect(status).toBe(200);
    expect(json).toMatchObject({ name: "Router", skills: [] });
    expect(Object.keys(json.securitySchemes)).toEqual(["apiKey", "bearer", "httpSignature"]);
    expect(json.securityRequirements).toHaveLength(3);
    expect(json.supportedInterfaces).toHaveLength(3);
    expect(json.signatures.length).toBeGreaterThan(0);
    expect(text).not.toMatch(/sing|launch|secret|hide|theirs/);
    expect(headers["cache-control"]).toBe("public, max-age=60");
    expect(headers.vary).toContain("Authorization");
  });

  test("nobody gets the same answer for an agent that is there and one that is not", async () => {
    for (const kind of ["agents", "capabilities"]) {
      const answers = [];
      for (const id of ["open", "sing", "secret", "nothing"]) answers.push(await get(`/${kind}/${id}${CARD}`));
      for (const { status, text } of answers) expect([status, text]).toEqual([401, "UNAUTHENTICATED"]);
    }
  });

  test("a caller sees what it may use of its own workspace", async () => {
    expect(await skillsOf("key default ann")).toEqual(["sing"]);
    expect(await skillsOf("key default boss")).toEqual(["sing", "launch", "hide"]);
    expect(await skillsOf("key acme ann")).toEqual(["build"]);
    expect(await skillsOf("key default outcast")).toEqual([]);
    const { headers } = await get(CARD, "key default ann");
    expect(headers["cache-control"]).toBe("private, max-age=60");
    // What a policy decides may change at any time.
    expect(headers).not.toHaveProperty("last-modified");
  });

  test("an agent or capability that a caller may not use is not there", async () => {
    const status = async (path: string, key: string) => (await get(path + CARD, key)).status;
    for (const [path, ann, boss, acme] of [
      ["/agents/open", 200, 200, 404],
      ["/agents/secret", 404, 200, 404],
      ["/agents/theirs", 404, 404, 200],
      ["/capabilities/sing", 200, 200, 404],
      ["/capabilities/launch", 404, 200, 404],
      ["/capabilities/build", 404, 404, 200],
    ] as const) {
      const found = [];
      for (const key of ["key default ann", "key default boss", "key acme ann"]) found.push(await status(path, key));
      expect(found, path).toEqual([ann, boss, acme]);
    }
    expect((await get(`/agents/open${CARD}`, "key default ann")).json.skills).toMatchObject([{ id: "sing" }]);
  });

  test.each([CARD, CATALOG, `/agents/open${CARD}`, `/agents/nothing${CARD}`])(
    "a credential that is not good is refused at %s, and so is one without the scope",
    async (path) => {
      expect(await get(path, "wrong")).toMatchObject({ status: 401, text: "CREDENTIAL_INVALID" });
      expect((await get(path, "key default ann tasks.read")).status).toBe(403);
      expect((await server.send({ path, headers: { authorization: "Bearer x" } })).status).toBe(401);
    },
  );

  test("anonymous callers that are let in see what they may use of `default`", async () => {
    const lax = await open("caller");
    expect(await skillsOf(undefined, lax)).toEqual(["sing"]);
    expect((await get(`/agents/open${CARD}`, undefined, lax)).headers["cache-control"]).toBe("public, max-age=60");
    expect((await get(`/agents/secret${CARD}`, undefined, lax)).status).toBe(404);
    expect(await skillsOf("key acme ann", lax)).toEqual(["build"]);
    expect((await get(CARD, undefined, lax)).json).not.toHaveProperty("securityRequirements");
  });

  test("the operator may show nobody what there is", async () => {
    expect(await skillsOf(undefined, await open("none", true))).toEqual(["sing"]);
  });

  describe("the catalog", () => {
    const urls = async (key?: string) =>
      (await get(CATALOG, key)).json.entries.map(({ identifier }: { identifier: string }) => identifier);

    test("has the router for nobody, and for callers what they may use", async () => {
      const at = "https://r.example.com";
      expect(await urls()).toEqual([at]);
      expect(await urls("key default ann")).toEqual([at, `${at}/agents/open`, `${at}/capabilities/sing`]);
      expect(await urls("key acme ann")).toEqual([at, `${at}/agents/theirs`, `${at}/capabilities/build`]);
      expect(await urls("key default outcast")).toEqual([at]);
    });

    test("is what its specification says, and leads to cards that are there", async () => {
      const { json, headers } = await get(CATALOG, "key default boss");
      expect(headers["content-type"]).toBe("application/ai-catalog+json");
      expect(headers["cache-control"]).toBe("private, max-age=60");
      expect(json).toMatchObject({ specVersion: "1.0", host: { displayName: "Router" } });
      expect(json.entries[1]).toEqual({
        identifier: "https://r.example.com/agents/open",
        displayName: "open",
        mediaType: "application/a2a-agent-card+json",
        url: `https://r.example.com/agents/open${CARD}`,
        description: "About open.",
        version: "1",
        tags: ["sing", "launch"],
        updatedAt: expect.stringMatching(/^\d{4}-.*Z$/),
      });
      const identifiers = json.entries.map(({ identifier }: { identifier: string }) => identifier);
      expect(new Set(identifiers).size).toBe(identifiers.length);
      for (const { url } of json.entries) {
        expect((await get(new URL(url).pathname, "key default boss")).status, url).toBe(200);
      }
    });

    test("is not sent again to who has it, and is another for another caller", async () => {
      const { headers } = await get(CATALOG, "key default ann");
      const again = (key: string) =>
        server.send({ path: CATALOG, headers: { "x-api-key": key, "if-none-match": String(headers.etag) } });
      expect((await again("key default ann")).status).toBe(304);
      expect((await again("key acme ann")).status).toBe(200);
    });

    test.each(["0", "x", "-1", "1.5", "2", "1e3", "99999999"])("has no part %s", async (part) => {
      expect((await get(`${CATALOG}?part=${part}`, "key default ann")).status).toBe(400);
    });
  });

  test("publishes the public half of its key", async () => {
    const { json, headers } = await get("/.well-known/jwks.json");
    expect(json.keys).toEqual([
      {
        kty: "EC",
        crv: "P-256",
        x: expect.any(String),
        y: expect.any(String),
        kid: expect.any(String),
        alg: "ES256",
        use: "sig",
      },
    ]);
    expect(headers["cache-control"]).toBe("public, max-age=60");
    const again = await server.send({
      path: "/.well-known/jwks.json",
      headers: { "if-none-match": String(headers.etag) },
    });
    expect(again.status).toBe(304);
  });
});
