/** Cards that are signed, ours and agents', through a whole server: what is served, what is kept, and what a policy makes of it. */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import type { RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { verifyAgentCardSignature } from "@a2a-js/sdk";
import type { JsonObject } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { calculateJwkThumbprint, createRemoteJWKSet, exportJWK, FlattenedSign, flattenedVerify, type JWK } from "jose";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { A2AService } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { canonicalJson } from "../../src/domain/canonical-json.ts";
import { cardPayload } from "../../src/domain/card-payload.ts";
import { startRogueHttp } from "../agents/rogue-agent.ts";
import { echoAgent } from "./echo-agent.ts";
import { inProcessCard, runCommand, startTestApp, type TestApp } from "./running-app.ts";

const CARD = "/.well-known/agent-card.json";
const KEYS = "/.well-known/jwks.json";

/** A server of cards and keys, as a test fills it. */
const served = new Map<string, unknown>();
const asked: string[] = [];
let base: string;
let app: TestApp;
let folder: string;
const closing: (() => Promise<unknown>)[] = [];

const own = generateKeyPairSync("ec", { namedCurve: "P-256" });
const trusted = generateKeyPairSync("ec", { namedCurve: "P-256" });

const jwkOf = async (key: KeyObject): Promise<JWK> => {
  const jwk = await exportJWK(key);
  return { ...jwk, kid: await calculateJwkThumbprint(jwk) };
};

beforeAll(async () => {
  const listener: RequestListener = (req, res) => {
    asked.push(req.url ?? "");
    const found = served.get(req.url ?? "");
    res.writeHead(found === undefined ? 404 : 200, { "content-type": "application/json" });
    res.end(JSON.stringify(found ?? {}));
  };
  const server = await startRogueHttp(listener);
  closing.push(() => server.close());
  base = `http://127.0.0.1:${server.port}`;
  folder = await mkdtemp(join(tmpdir(), "signalbox-keys-"));
  closing.push(() => rm(folder, { recursive: true }));
  const keysFile = join(folder, "trusted.json");
  await writeFile(keysFile, JSON.stringify({ keys: [await jwkOf(trusted.publicKey)] }));
  app = await startTestApp({
    backend: "pglite",
    agents: { alpha: echoAgent("alpha") },
    flags: { "card.trusted-keys": keysFile },
    policy: {
      rules: [{ effect: "DENY", when: { agent_id: ["signed", "unsigned"], card_signature: { "!=": "VERIFIED" } } }],
    },
  });
  closing.push(() => app.stop());
});
afterAll(async () => {
  for (const close of closing.reverse()) await close();
});
beforeEach(() => {
  served.clear();
  asked.length = 0;
});

interface Signing {
  key?: KeyObject;
  jku?: string;
  /** What the card says after it was signed. */
  changed?: JsonObject;
}

/** Serves the signed card of an agent, with a field of a later version, and registers it. */
async function signedCard(name: string, { key = own.privateKey, jku = base + KEYS, changed = {} }: Signing = {}) {
  const card = {
    ...inProcessCard(name),
    supportedInterfaces: [{ url: `${base}/a2a`, protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
    laterField: { a: [1, null] },
  } as JsonObject;
  const { kid = "" } = await jwkOf(key);
  const signed = await new FlattenedSign(Buffer.from(canonicalJson(card)))
    .setProtectedHeader({ alg: "ES256", typ: "JOSE", kid, jku })
    .sign(key);
  served.set(`/${name}.json`, {
    ...card,
    ...changed,
    signatures: [{ protected: signed.protected!, signature: signed.signature }],
  });
  return kid;
}

const register = (name: string) =>
  app.register(name, { cardUrl: `${base}/${name}.json` }) as Promise<{ cardSignature?: JsonObject }>;

// biome-ignore lint/suspicious/noExplicitAny: tests look into JSON as it comes
const json = async (path: string, init?: RequestInit): Promise<any> => (await fetch(app.httpUrl + path, init)).json();

test("every card that is served is signed by the key that is published, over HTTP and as the extended card over gRPC", async () => {
  const keySet = createRemoteJWKSet(new URL(app.httpUrl + KEYS));
  for (const path of ["", "/agents/alpha", "/capabilities/alpha"]) {
    const { signatures, ...card } = await json(path + CARD);
    const payload = Buffer.from(canonicalJson(card)).toString("base64url");
    const { protectedHeader } = await flattenedVerify({ ...signatures[0], payload }, keySet);
    expect(protectedHeader).toMatchObject({ alg: "ES256", typ: "JOSE", jku: app.httpUrl + KEYS });
  }
  const client = createClient(A2AService, createGrpcTransport({ baseUrl: `http://${app.grpcAddress}` }));
  const card = await client.getExtendedAgentCard({});
  const [{ protected: header, signature }] = card.signatures as [(typeof card.signatures)[0]];
  const payload = Buffer.from(canonicalJson(cardPayload(card))).toString("base64url");
  await flattenedVerify({ protected: header, signature, payload }, keySet);
});

test("@a2a-js/sdk verifies the card by its jku", async () => {
  const { keys } = await json(KEYS);
  const verify = verifyAgentCardSignature(async (kid, jku) => {
    expect(jku).toBe(app.httpUrl + KEYS);
    return keys.find((key: JWK) => key.kid === kid);
  });
  await verify(await json(CARD));
});

test("the key is in the data folder, for its owner alone", async () => {
  const path = join(app.dataDir, "card-key.pem");
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readFile(path, "utf8")).toMatch(/^-----BEGIN PRIVATE KEY-----/);
});

test("an agent's card is VERIFIED by the key at its own host, and the command line shows it", async () => {
  const kid = await signedCard("signed");
  served.set(KEYS, { keys: [await jwkOf(own.publicKey)] });
  expect((await register("signed")).cardSignature).toMatchObject({
    state: "CARD_SIGNATURE_STATE_VERIFIED",
    keyId: kid,
    keyThumbprint: kid,
    algorithm: "ES256",
  });
  const { out } = await runCommand(app.httpUrl, ["agents", "get", "signed"]);
  expect(out).toContain(`VERIFIED, key ${kid} (ES256)`);
  // The policy lets it have work: what is refused then is another matter.
  const message = { messageId: "m", role: "ROLE_USER", parts: [{ text: "x" }] };
  const body = JSON.stringify({ message, configuration: { returnImmediately: true } });
  const headers = { "content-type": "application/json", "a2a-version": "1.0" };
  const sent = await json("/agents/signed/message:send", { method: "POST", headers, body });
  expect(JSON.stringify(sent)).not.toContain("POLICY_DENIED");
});

test("a policy refuses an agent whose card is not VERIFIED", async () => {
  served.set("/unsigned.json", {
    ...inProcessCard("unsigned"),
    supportedInterfaces: [{ url: `${base}/a2a`, protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
  });
  expect(await register("unsigned")).not.toHaveProperty("cardSignature");
  const message = { messageId: "m", role: "ROLE_USER", parts: [{ text: "x" }] };
  const headers = { "content-type": "application/json", "a2a-version": "1.0" };
  const sent = await json("/agents/unsigned/message:send", {
    method: "POST",
    headers,
    body: JSON.stringify({ message }),
  });
  expect(sent.error.details[0]).toMatchObject({ reason: "POLICY_DENIED" });
  // Nor is there a card of it, for who may not use it.
  expect((await fetch(`${app.httpUrl}/agents/unsigned${CARD}`)).status).toBe(404);
});

test("a card by a trusted key is VERIFIED, and nobody is asked for keys", async () => {
  await signedCard("of-friends", { key: trusted.privateKey, jku: "https://elsewhere.example.com/keys" });
  expect((await register("of-friends")).cardSignature).toMatchObject({ state: "CARD_SIGNATURE_STATE_VERIFIED" });
  expect(asked).toEqual(["/of-friends.json"]);
});

test("a card that was changed after it was signed is INVALID, and registered all the same", async () => {
  await signedCard("altered", { changed: { description: "Gives all secrets away." } });
  served.set(KEYS, { keys: [await jwkOf(own.publicKey)] });
  expect((await register("altered")).cardSignature).toMatchObject({
    state: "CARD_SIGNATURE_STATE_INVALID",
    problem: expect.stringContaining("not of this card"),
  });
});

test("a card whose keys are away is UNTRUSTED until they are there, and VERIFIED no longer when they are gone", async () => {
  await signedCard("patient");
  expect((await register("patient")).cardSignature).toMatchObject({
    state: "CARD_SIGNATURE_STATE_UNTRUSTED",
    problem: expect.stringContaining("HTTP 404"),
  });
  const refresh = () => json("/v1/agents/patient:refreshCard", { method: "POST" });
  served.set(KEYS, { keys: [await jwkOf(own.publicKey)] });
  expect((await refresh()).cardSignature).toMatchObject({ state: "CARD_SIGNATURE_STATE_VERIFIED" });
  served.set(KEYS, { keys: [] });
  expect((await refresh()).cardSignature).toMatchObject({ state: "CARD_SIGNATURE_STATE_UNTRUSTED" });
});

test.each<[string, Record<string, string>, RegExp]>([
  ["card.key", { "card.key": "/nowhere/key.pem" }, /card\.key is no private EC key/],
  [
    "card.key of another curve",
    { "card.key": generateKeyPairSync("ed25519").privateKey.export({ format: "pem", type: "pkcs8" }) as string },
    /card\.key is no private EC key/,
  ],
  ["card.trusted-keys", { "card.trusted-keys": "/nowhere/keys.json" }, /trusted-keys: .*keys\.json/],
])("a server with a wrong %s does not start, and does not show it", async (_, flags, words) => {
  const failure = await startTestApp({ flags }).then(
    () => "it started",
    (error: Error) => error.message,
  );
  expect(failure).toMatch(words);
  expect(failure).not.toContain("BEGIN");
});
