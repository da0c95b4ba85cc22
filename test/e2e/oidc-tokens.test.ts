/** Tokens of a real OpenID Provider, over real sockets, in every binding; its keys change, and it goes away. */
import { create, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import pino from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ListTasksRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { knownScopes } from "../../src/domain/identity/known-scopes.ts";
import { createKeySetFetcher } from "../../src/outbound/key-set-fetcher.ts";
import { createTokenScheme } from "../../src/services/identity/token-scheme.ts";
import { bearer } from "../services/identity/request.ts";
import { CLIENT_ID, type OidcIssuer, startOidcIssuer } from "../setup/oidc-issuer.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const AUDIENCE = "https://router.example";

describe("a server that takes tokens", () => {
  let issuer: OidcIssuer;
  let app: TestApp;

  beforeAll(async () => {
    issuer = await startOidcIssuer();
    app = await startTestApp({
      flags: {
        "auth.anonymous-role": "none",
        "jwt.issuers": issuer.issuer,
        "jwt.audience": AUDIENCE,
        "jwt.workspace-claim": "workspace",
        "jwt.scopes-claim": "scp",
      },
    });
  });
  afterAll(async () => {
    await app?.stop();
    await issuer?.close();
  });

  const get = (path: string, token?: string) =>
    fetch(`${app.httpUrl}${path}`, token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } });

  async function jsonRpc(token: string): Promise<unknown> {
    const response = await fetch(`${app.httpUrl}/rpc`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ListTasks", params: {} }),
    });
    return response.json();
  }

  /** The name of the code that a call over gRPC ends with. */
  function overGrpc(token: string): Promise<string> {
    const client = new grpc.Client(app.grpcAddress, grpc.credentials.createInsecure());
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${token}`);
    return new Promise<string>((resolve) => {
      client.makeUnaryRequest(
        "/lf.a2a.v1.A2AService/ListTasks",
        (bytes: Buffer) => bytes,
        (bytes: Buffer) => bytes,
        Buffer.from(toBinary(ListTasksRequestSchema, create(ListTasksRequestSchema))),
        metadata,
        (error) => resolve(grpc.status[error?.code ?? grpc.status.OK]!),
      );
    }).finally(() => client.close());
  }

  test("lets nobody in without one", async () => {
    expect((await get("/tasks")).status).toBe(401);
  });

  test("lets its bearer in, in every binding, by what the claims give", async () => {
    const token = await issuer.token(AUDIENCE, { workspace: "default", roles: ["viewer"] });
    expect((await get("/tasks", token)).status).toBe(200);
    expect(await jsonRpc(token)).toHaveProperty("result");
    expect(await overGrpc(token)).toBe("OK");
    const refused = await fetch(`${app.httpUrl}/v1/agents`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: "{}",
    });
    expect(refused.status).toBe(403);
    expect(await refused.text()).toContain("SCOPE_MISSING");
  });

  test("gives scopes that it knows, and never all of them", async () => {
    const read = await issuer.token(AUDIENCE, { workspace: "default", scp: ["tasks.read", "openid"] });
    expect((await get("/tasks", read)).status).toBe(200);
    expect((await get("/v1/agents", read)).status).toBe(403);
    const all = await issuer.token(AUDIENCE, { workspace: "default", scp: ["*"] });
    expect((await get("/tasks", all)).status).toBe(403);
  });

  test("knows a subject without a workspace, and lets it into none", async () => {
    const answer = await get("/tasks", await issuer.token(AUDIENCE));
    expect(answer.status).toBe(403);
    const place = encodeURIComponent(new URL(issuer.issuer).host);
    expect(await answer.text()).toContain(`jwt/${place}/${CLIENT_ID}`);
  });

  test("refuses what is not meant for it, and what was changed, in every binding", async () => {
    const elsewhere = await issuer.token("https://elsewhere.example", { workspace: "default", roles: ["admin"] });
    const good = await issuer.token(AUDIENCE, { workspace: "default", roles: ["viewer"] });
    const [header, payload, signature] = good.split(".");
    const claims = JSON.parse(Buffer.from(payload!, "base64url").toString());
    const raised = Buffer.from(JSON.stringify({ ...claims, roles: ["admin"] })).toString("base64url");
    for (const token of [elsewhere, `${header}.${raised}.${signature}`, "no.to.ken"]) {
      const answer = await get("/tasks", token);
      expect(answer.status).toBe(401);
      expect(await answer.text()).toContain("CREDENTIAL_INVALID");
      expect(JSON.stringify(await jsonRpc(token))).toContain("CREDENTIAL_INVALID");
      expect(await overGrpc(token)).toBe("UNAUTHENTICATED");
    }
  });

  test("takes no credential that it was not told to take", async () => {
    expect((await get("/tasks", "sbx_abcd_00000000000000000000000000000000")).status).toBe(401);
    const basic = await fetch(`${app.httpUrl}/tasks`, { headers: { authorization: "Basic YTpi" } });
    expect(basic.status).toBe(401);
  });
});

test.each([["RS256" as const], ["ES256" as const]])(
  "a provider with %s changes its keys while it runs, and goes away",
  async (alg) => {
    const issuer = await startOidcIssuer(alg);
    const fetcher = createKeySetFetcher({ allowPrivateUrls: true });
    let elapsed = 0;
    const tokens = createTokenScheme({
      issuers: [issuer.issuer],
      audience: [AUDIENCE],
      algorithms: ["RS256", "ES256"],
      clockSkewSeconds: 30,
      granting: undefined,
      knownScopes: knownScopes(),
      fetcher,
      runtime: { now: () => new Date(), elapsedMs: () => elapsed },
      log: pino({ level: "silent" }),
    });
    const id = async (token: string) => (await tokens.identify(bearer(token)))?.id;
    try {
      const first = await issuer.token(AUDIENCE);
      const spare = await issuer.token(AUDIENCE, { spare: true });
      expect(await id(first)).toMatch(/\/cart$/);

      await issuer.rotate();
      elapsed += 30_000;
      expect(await id(await issuer.token(AUDIENCE))).toMatch(/\/cart$/);
      expect(issuer.keyRequests).toBe(2);
      expect(await id(spare)).toMatch(/\/cart$/);

      const before = await issuer.token(AUDIENCE, { before: true });
      const late = await issuer.token(AUDIENCE, { late: true });
      issuer.setAway(true);
      elapsed += 59 * 60_000;
      expect(await id(before)).toMatch(/\/cart$/);
      elapsed += 60_000;
      await expect(id(late)).rejects.toMatchObject({ code: "UNAVAILABLE", reason: "ISSUER_UNAVAILABLE" });

      issuer.setAway(false);
      await issuer.rotate("forgets-old");
      elapsed += 30_000;
      await expect(id(late)).rejects.toMatchObject({ code: "UNAUTHENTICATED", reason: "CREDENTIAL_INVALID" });
      expect(await id(await issuer.token(AUDIENCE))).toMatch(/\/cart$/);
    } finally {
      await fetcher.close();
      await issuer.close();
    }
  },
);
