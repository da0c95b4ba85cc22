/**
 * What it costs to say who one is: calls per second of GetTask of a stored task over gRPC, with each scheme and with none. Schemes over
 * plaintext are callers of one server, and certificates callers of another one, with TLS; rounds are interleaved.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { A2AService, GetTaskRequestSchema } from "../gen/lf/a2a/v1/a2a_pb.ts";
import { KeyKind } from "../gen/signalbox/v1/workspace_pb.ts";
import { createSignalboxClient, signRequest } from "../src/sdk/client.ts";
import { createTestAuthority, type TestAuthority } from "../test/setup/test-authority.ts";
import { divideCores } from "./lab/cores.ts";
import { openDatabaseServer } from "./lab/database.ts";
import { frame, pathOf } from "./lab/grpc.ts";
import { CONNECTIONS, type LoadRequest } from "./lab/load-request.ts";
import { runNodeClient } from "./lab/node-load.ts";
import { atLeast, type Benchmark, type Goal, median } from "./lab/report.ts";
import { type ServerAddress, type ServerProcess, startServer } from "./lab/server-process.ts";
import { versions } from "./lab/versions.ts";

const ROUNDS = 7;
/** With few in flight signed calls wait for the commits of their nonces, with many for the server. */
const IN_FLIGHT = [64, 512];
const ROUND_MS = 1_200;
const WARM_UP = { inFlight: 512, durationMs: 2_500 };
/** Calls that are signed before a round: more than one makes. */
const SIGNED_BEFORE = 16_000;
const AUDIENCE = "signalbox";
const SPIFFE_ID = "spiffe://mesh.example/bench";

interface SignalboxAddress extends ServerAddress {
  httpUrl: string;
}

interface Contestant {
  readonly name: string;
  readonly server: ServerProcess<SignalboxAddress>;
  readonly request: LoadRequest;
  /** Makes ready what a round needs, before its time begins. */
  readonly prepare: () => void;
  /** Whom it is compared with. */
  readonly beside: string;
  readonly rates: number[];
  readonly costUs: number[];
}

export const bench: Benchmark = async (signal) => {
  const cores = divideCores();
  await using stack = new AsyncDisposableStack();
  const database = stack.use(await openDatabaseServer());
  const folder = await mkdtemp(join(tmpdir(), "signalbox-bench-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const issuer = await startIssuer();
  stack.defer(() => void issuer.server.close());
  const authority = await createTestAuthority();
  const files = await writeFiles(folder, authority);

  const common = [`jwt.issuers=${issuer.url}`, `jwt.audience=${AUDIENCE}`, "jwt.workspace-claim=workspace"];
  const mesh = ["tls.trust-domains=mesh.example", `secrets.key=${files.secrets}`];
  const start = async (...settings: string[]) => {
    const args = ["scribe", await database.createDatabase(), ...settings];
    return stack.use(await startServer<SignalboxAddress>("signalbox", { cores, args, signal }));
  };
  const plain = await start(...common, ...mesh, "auth.trusted-proxies=loopback");
  const own = [`tls.certificate=${files.cert}`, `tls.key=${files.key}`, `tls.client-ca=${files.ca}`];
  // It registers its agent with itself.
  process.env.NODE_EXTRA_CA_CERTS = files.ca;
  const secure = await start(...mesh, ...own);

  const tls = { ca: authority.ca };
  const shown = await authority.issue("bench", { uri: SPIFFE_ID });
  const ofPlain = await prepare(plain.address);
  const ofSecure = await prepare(secure.address, tls);
  const path = pathOf(A2AService.method.getTask);
  const signed = signedBefore(ofPlain.bodies, (body) =>
    lowered(
      signRequest({ method: "POST", url: `http://${plain.address.authority}${path}`, body, key: ofPlain.signingKey }),
    ),
  );
  const request = (of: Prepared, headers: Record<string, string> = {}): LoadRequest => ({
    authority: of.authority,
    protocol: "grpc",
    path,
    headers,
    bodies: of.bodies,
  });
  const contestants = [
    contestant("none", plain, request(ofPlain)),
    contestant("API key", plain, request(ofPlain, { authorization: `Bearer ${ofPlain.apiKey}` })),
    contestant("JWT", plain, request(ofPlain, { authorization: `Bearer ${await issuer.token()}` })),
    {
      ...contestant("HMAC, its nonces in the database", plain, { ...request(ofPlain), headersOf: signed.take }),
      prepare: signed.fill,
    },
    contestant("sidecar", plain, request(ofPlain, { "x-forwarded-client-cert": `URI=${SPIFFE_ID}` })),
    contestant("none over TLS", secure, { ...request(ofSecure), tls }),
    contestant(
      "mTLS",
      secure,
      { ...request(ofSecure), tls: { ...tls, cert: shown.cert, key: shown.key } },
      "none over TLS",
    ),
  ];
  for (const { request: warm } of contestants) await runNodeClient(warm, WARM_UP, signal);
  const goals: Goal[] = [];
  const figures: [string, string][] = [];
  for (const inFlight of IN_FLIGHT) {
    const found = await takeTurns(contestants, inFlight, signal);
    goals.push(...found.goals);
    figures.push(...found.figures);
  }
  await expectNoFailedCalls(plain.address.httpUrl);

  return {
    goals,
    figures,
    conditions: [
      ["database", database.description],
      ["cores", cores.description],
      ["versions", versions("@grpc/grpc-js", "jose", "pg")],
      [
        "load",
        `GetTask, ${IN_FLIGHT.join(" and ")} calls in flight, Node in the bench, which signs the calls of HMAC before each round`,
      ],
      ["rounds", `${ROUNDS} of ${ROUND_MS} ms each, interleaved; medians`],
    ],
  };
};

/** Rounds with so many calls in flight, one contestant after the other. */
async function takeTurns(contestants: readonly Contestant[], inFlight: number, signal: AbortSignal) {
  for (const each of contestants) Object.assign(each, { rates: [], costUs: [] });
  for (let round = 0; round < ROUNDS; round++) {
    for (const { server, request, prepare, rates, costUs } of contestants) {
      prepare();
      const before = await server.cpuMs();
      const { calls, perSecond } = await runNodeClient(request, { inFlight, durationMs: ROUND_MS }, signal);
      rates.push(perSecond);
      costUs.push((((await server.cpuMs()) - before) * 1_000) / calls);
    }
  }
  const byName = new Map(contestants.map((each) => [each.name, each]));
  const share = (name: string) => {
    const { rates, beside } = byName.get(name)!;
    return median(rates.map((rate, round) => rate / byName.get(beside)!.rates[round]!));
  };
  const goal = (what: string, name: string, least: number) =>
    atLeast(`calls/s with ${what} / with none, ${inFlight} in flight`, share(name), least, "ratio");
  return {
    goals: [
      goal("an API key", "API key", 0.9),
      goal("a JWT that is known", "JWT", 0.9),
      goal("HMAC", "HMAC, its nonces in the database", 0.6),
    ],
    figures: contestants.map(({ name, beside, rates, costUs }): [string, string] => [
      `${name}, ${inFlight} in flight`,
      `${Math.round(median(rates)).toLocaleString("en")} calls/s, ${share(name).toFixed(2)} of ${beside}, ${median(costUs).toFixed(0)} µs of the server's core each`,
    ]),
  };
}

const contestant = (
  name: string,
  server: ServerProcess<SignalboxAddress>,
  request: LoadRequest,
  beside = name === "none over TLS" ? name : "none",
): Contestant => ({ name, server, request, prepare() {}, beside, rates: [], costUs: [] });

/**
 * Headers of calls that are signed before their round begins: what it costs to sign is the caller's, and callers have cores of their
 * own. What a round needs beyond that is signed in it.
 */
function signedBefore(bodies: readonly Uint8Array[], sign: (body: Uint8Array) => Record<string, string>) {
  const left = new Map<Uint8Array, Record<string, string>[]>(bodies.map((body) => [body, []]));
  return {
    fill() {
      for (const [body, signed] of left) while (signed.length < SIGNED_BEFORE / bodies.length) signed.push(sign(body));
    },
    take: (body: Uint8Array) => left.get(body)?.pop() ?? sign(body),
  };
}

interface Prepared {
  readonly authority: string;
  readonly apiKey: string;
  readonly signingKey: string;
  /** A stored task for each connection, so that no read serves all callers at once. */
  readonly bodies: Uint8Array[];
}

/** What the callers need: keys, a member, and tasks that all of them may see. */
async function prepare({ authority, httpUrl }: SignalboxAddress, tls?: { ca: string }): Promise<Prepared> {
  const client = createSignalboxClient({ baseUrl: httpUrl, ...(tls && { tls }) });
  const keyOf = async (kind: KeyKind) => {
    const { token } = await client.workspaces.createKey({ key: { principalId: "bench", roles: ["viewer"], kind } });
    return token;
  };
  await client.workspaces.putMember({ member: { principalId: "spiffe/mesh.example/bench", roles: ["viewer"] } });
  const bodies: Uint8Array[] = [];
  while (bodies.length < CONNECTIONS) {
    const answer = await client.send("Say it in one sentence.");
    if (answer.$typeName !== "lf.a2a.v1.Task") throw new Error("no task was made");
    bodies.push(frame(toBinary(GetTaskRequestSchema, create(GetTaskRequestSchema, { id: answer.id }))));
  }
  return { authority, apiKey: await keyOf(KeyKind.BEARER), signingKey: await keyOf(KeyKind.HMAC), bodies };
}

const lowered = (headers: object): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value as string]));

async function writeFiles(folder: string, authority: TestAuthority) {
  const { cert, key } = await authority.issue("localhost");
  const files = { cert, key, ca: authority.ca, secrets: randomBytes(32).toString("base64") };
  const paths = Object.fromEntries(Object.keys(files).map((name) => [name, join(folder, name)]));
  for (const [name, text] of Object.entries(files)) await writeFile(paths[name]!, text, { mode: 0o600 });
  return paths as Record<keyof typeof files, string>;
}

/** An issuer of tokens, with discovery and its keys. */
async function startIssuer(): Promise<{ url: string; server: Server; token(): Promise<string> }> {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const kid = createHash("sha256")
    .update(JSON.stringify(await exportJWK(publicKey)))
    .digest("hex")
    .slice(0, 16);
  const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid, alg: "ES256", use: "sig" }] };
  const server = createServer((req, res) => {
    const body = req.url === "/jwks" ? jwks : { issuer: url, jwks_uri: `${url}/jwks` };
    res.setHeader("content-type", "application/json").end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const claims = { workspace: "default", roles: ["viewer"] };
  const token = () =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: "ES256", kid })
      .setIssuer(url)
      .setAudience(AUDIENCE)
      .setSubject("bench")
      .setExpirationTime("1h")
      .sign(privateKey);
  return { url, server, token };
}

/** Throws when any call of the load did not end with OK, by the server's own metrics. */
async function expectNoFailedCalls(httpUrl: string): Promise<void> {
  const page = await (await fetch(`${httpUrl}/metrics`)).text();
  const failed = page
    .split("\n")
    .filter((line) => line.startsWith("signalbox_rpc_duration_seconds_count") && line.includes('method="GetTask"'))
    .filter((line) => !line.includes('code="OK"'));
  if (failed.length > 0) throw new Error(`calls have failed under load:\n${failed.join("\n")}`);
}
