/** Tokens, certificates and sidecars as an authenticator asks them: memberships, workspaces, and what counts before what. */
import { generateKeyPairSync } from "node:crypto";
import { SignJWT } from "jose";
import pino from "pino";
import { expect, test } from "vitest";
import { knownScopes } from "../../../src/domain/identity/known-scopes.ts";
import { createAuthenticator } from "../../../src/services/identity/authenticator.ts";
import { createCertificateScheme } from "../../../src/services/identity/certificate-scheme.ts";
import type { PublishedKey } from "../../../src/services/identity/key-set-port.ts";
import type { KnownWorkspaces, Membership } from "../../../src/services/identity/known-workspaces.ts";
import { createSidecarScheme } from "../../../src/services/identity/sidecar-scheme.ts";
import { createTokenScheme } from "../../../src/services/identity/token-scheme.ts";
import { createTrustedProxies } from "../../../src/services/identity/trusted-proxies.ts";
import { certificate, START } from "./certificates.ts";
import { request } from "./request.ts";

const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const runtime = { now: () => new Date(START), elapsedMs: () => 0 };
const rules = { trustDomains: new Set(["mesh"]), maxCertificateMs: Number.POSITIVE_INFINITY };
const proxies = createTrustedProxies(["loopback"]);

const MEMBERS: Readonly<Record<string, readonly Membership[]>> = {
  "jwt/id.example/ann": [
    { workspaceId: "shop", roles: ["caller"], scopes: ["tasks.all"], implied: true },
    { workspaceId: "lab", roles: ["viewer"], scopes: [], implied: false },
  ],
  "jwt/id.example/eve": [{ workspaceId: "lab", roles: ["viewer"], scopes: [], implied: false }],
  "spiffe/mesh/cart": [
    { workspaceId: "shop", roles: ["agent"], scopes: [], agentId: "cart", implied: true },
    { workspaceId: "lab", roles: ["viewer"], scopes: [], implied: true },
  ],
};
const workspaces: KnownWorkspaces = {
  standing: (id) => (id === "closed" ? "suspended" : ["default", "shop", "lab"].includes(id) ? "active" : undefined),
  memberships: (id) => MEMBERS[id] ?? [],
};

const { authenticate } = createAuthenticator({
  schemes: [
    createTokenScheme({
      issuers: ["https://id.example"],
      audience: ["signalbox"],
      algorithms: ["ES256"],
      clockSkewSeconds: 0,
      granting: { workspace: "ws", roles: "roles", scopes: "scope" },
      knownScopes: knownScopes(),
      fetcher: { fetch: async () => [publicKey.export({ format: "jwk" }) as PublishedKey] },
      runtime,
      log: pino({ level: "silent" }),
    }),
    createCertificateScheme({ rules, proxies, runtime }),
    createSidecarScheme({ rules, proxies, runtime }),
  ],
  workspaces,
  anonymousRole: "viewer",
});

const token = (claims: object) =>
  new SignJWT({ iss: "https://id.example", aud: "signalbox", sub: "ann", exp: START / 1_000 + 60, ...claims })
    .setProtectedHeader({ alg: "ES256" })
    .sign(privateKey);
const withToken = async (claims: object, headers = {}) =>
  authenticate(request({ authorization: `Bearer ${await token(claims)}`, ...headers }));

test("a token without a workspace is a member's", async () => {
  const principal = await withToken({ act: { sub: "planner" } });
  expect(principal).toMatchObject({ id: "jwt/id.example/ann", workspaceId: "shop", authentication: "jwt" });
  expect(principal.actors).toEqual(["jwt/id.example/planner"]);
  expect(principal.scopes.has("tasks.all")).toBe(true);
  await expect(withToken({ sub: "bob" })).rejects.toMatchObject({ reason: "NO_WORKSPACE" });
});

test("nobody is drawn into a workspace that has made it a member by itself", async () => {
  expect(await withToken({})).toMatchObject({ workspaceId: "shop" });
  const named = await withToken({}, { "signalbox-workspace": "lab" });
  expect(named).toMatchObject({ workspaceId: "lab", roles: new Set(["viewer"]) });
  expect(named.scopes.has("audit.read")).toBe(true);
  await expect(withToken({ sub: "eve" })).rejects.toMatchObject({ reason: "NO_WORKSPACE" });
  expect(await withToken({ sub: "eve" }, { "signalbox-workspace": "lab" })).toMatchObject({ workspaceId: "lab" });
});

test("one with a workspace is let into that one alone", async () => {
  const principal = await withToken({ ws: "lab", roles: "viewer", scope: "tasks.write *" });
  expect(principal).toMatchObject({ workspaceId: "lab", roles: new Set(["viewer"]) });
  expect(principal.scopes.has("tasks.write")).toBe(true);
  expect(principal.scopes.has("*")).toBe(false);
  const elsewhere = withToken({ ws: "lab", roles: "viewer" }, { "signalbox-workspace": "shop" });
  await expect(elsewhere).rejects.toMatchObject({ reason: "WORKSPACE_NOT_FOUND" });
  await expect(withToken({ ws: "nowhere" })).rejects.toMatchObject({ reason: "WORKSPACE_NOT_FOUND" });
  await expect(withToken({ ws: "closed" })).rejects.toMatchObject({ reason: "WORKSPACE_SUSPENDED" });
});

test("a certificate and a sidecar name the same workload, without a promise", async () => {
  const { der } = await certificate({ uris: ["spiffe://mesh/cart"] });
  const inShop = { "signalbox-workspace": "shop" };
  const cart = { id: "spiffe/mesh/cart", workspaceId: "shop", agentId: "cart" };
  const shown = authenticate(request(inShop, { certificate: der }));
  expect(shown).toMatchObject({ ...cart, authentication: "mtls" });
  const header = { ...inShop, "x-forwarded-client-cert": "URI=spiffe://mesh/cart" };
  expect(authenticate(request(header, { address: "127.0.0.1" }))).toMatchObject({ ...cart, authentication: "sidecar" });
  expect(() => authenticate(request({}, { certificate: der }))).toThrow(/several workspaces/);
});

test("a header of a stranger makes nobody of him, and a proxy is never taken for its client", async () => {
  const header = { "x-forwarded-client-cert": "URI=spiffe://mesh/cart" };
  expect(authenticate(request(header))).toMatchObject({ id: "anonymous" });
  const { der } = await certificate({ uris: ["spiffe://mesh/cart"] });
  const unnamed = request({ "x-forwarded-client-cert": 'Cert=""' }, { address: "127.0.0.1", certificate: der });
  expect(authenticate(unnamed)).toMatchObject({ id: "anonymous" });
});

test("what the request says counts before its connection, and what is not good is not passed over", async () => {
  const { der } = await certificate({ uris: ["spiffe://mesh/cart"] });
  const authorization = `Bearer ${await token({})}`;
  expect(await authenticate(request({ authorization }, { certificate: der }))).toMatchObject({
    id: "jwt/id.example/ann",
  });
  const bad = async () => authenticate(request({ authorization: `${authorization}x` }, { certificate: der }));
  await expect(bad()).rejects.toMatchObject({ reason: "CREDENTIAL_INVALID" });
  const foreign = await certificate({ uris: ["spiffe://evil/cart"] });
  expect(() => authenticate(request({}, { certificate: foreign.der }))).toThrow(/trust domain/);
});
