/** What calls, probes and fetched cards carry, as real agents get it that let nobody else in. */
import { createHash, createHmac } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { AgentCredentialSchema } from "../../gen/signalbox/v1/registry_pb.ts";
import { type GivenKind, hostOf } from "../../src/domain/identity/agent-credential.ts";
import { createAgentConnector } from "../../src/outbound/agent-connector.ts";
import { createProver, destinationOf } from "../../src/outbound/agent-proof.ts";
import { createCardFetcher } from "../../src/outbound/card-fetcher.ts";
import { createUrlGuard, type Lookup } from "../../src/outbound/url-guard.ts";
import type { KnownCredential } from "../../src/services/identity/credential-source.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { collect, failureOf, patiently, say, taskOf } from "../agents/calling.ts";
import { cardOf, startRogueHttp } from "../agents/rogue-agent.ts";
import { type AskedRequest, type Binding, startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { startTokenIssuer, type TokenIssuer } from "../agents/token-issuer.ts";
import { createTestAuthority, type Issued, type TestAuthority } from "../setup/test-authority.ts";

const BINDINGS: readonly Binding[] = ["GRPC", "JSONRPC", "HTTP+JSON"];
const signal = new AbortController().signal;

let cleanUp: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of cleanUp.reverse()) await step();
  cleanUp = [];
});

type KindInit = NonNullable<MessageInitShape<typeof AgentCredentialSchema>["kind"]>;

const kindOf = (kind: KindInit): GivenKind => create(AgentCredentialSchema, { kind }).kind as GivenKind;

interface Lab {
  /** The credential of every agent. */
  credential: KnownCredential | undefined;
  elapsedMs: number;
}

/** A connector and a fetcher of cards over one credential, which a test may change. */
function labOf(kind: KindInit | undefined, urls: readonly string[], lookup?: Lookup, allowPrivateUrls = true) {
  const hosts = new Set(urls.map((url) => hostOf(url)!));
  const lab: Lab = { credential: kind && { kind: kindOf(kind), hosts }, elapsedMs: 0 };
  const runtime = { ...systemRuntime(), elapsedMs: () => lab.elapsedMs };
  const options = { allowPrivateUrls, lookup };
  const prover = createProver({ ...options, source: { of: () => lab.credential }, runtime });
  const connector = createAgentConnector({ ...options, prover });
  const cards = createCardFetcher({ ...options, prover });
  cleanUp.push(() => Promise.all([connector.close(), cards.close(), prover.close()]));
  const change = (next: KindInit | undefined) => {
    lab.credential = next && { kind: kindOf(next), hosts };
  };
  return { lab, connector, cards, change };
}

const placeOf = (agent: TestAgent) => ({ workspaceId: "w", agentId: "a", card: agent.card });
const urlsOf = (agent: TestAgent) => [...agent.card.supportedInterfaces.map(({ url }) => url), agent.cardUrl];

async function agentThat(
  binding: Binding,
  admits: (request: AskedRequest) => boolean | Promise<boolean>,
): Promise<TestAgent> {
  const agent = await startTestAgent({ bindings: [binding], admits });
  cleanUp.push(() => agent.close());
  return agent;
}

/** A task, a stream, a look and a probe all get in; and the card is fetched. */
async function expectLetIn(agent: TestAgent, { connector, cards }: ReturnType<typeof labOf>): Promise<void> {
  const client = connector.connect(placeOf(agent));
  const task = taskOf(await client.send(say("complete"), patiently()));
  expect(task.status?.state).toBe(TaskState.COMPLETED);
  expect((await client.get(task.id, patiently())).id).toBe(task.id);
  expect((await collect(client.sendStream(say("chunks 3"), patiently()))).length).toBeGreaterThan(3);
  await connector.probe(placeOf(agent), { signal, timeoutMs: 5_000 });
  const fetched = await cards.fetch(agent.cardUrl, { signal, agent: { workspaceId: "w", agentId: "a" } });
  expect(fetched?.card.name).toBe("Test agent");
}

async function expectKeptOut(agent: TestAgent, { connector }: ReturnType<typeof labOf>): Promise<void> {
  const client = connector.connect(placeOf(agent));
  const failure = await failureOf(client.send(say("complete"), patiently()));
  expect(failure.kind).toBe("refused");
  expect(failure.reason).toMatch(/HTTP_401|UNAUTHENTICATED/);
  const streamed = await failureOf(collect(client.sendStream(say("complete"), patiently())));
  expect(streamed.kind).toBe("refused");
}

describe.each(BINDINGS)("over %s", (binding) => {
  test("a bearer token, and a key in a header of its own; the next call carries what was set since", async () => {
    let wanted = ["authorization", "Bearer t0ken.of-the/router+1="];
    const agent = await agentThat(binding, ({ header }) => header(wanted[0]!) === wanted[1]);
    const none = labOf(undefined, []);
    await expectKeptOut(agent, none);
    const lab = labOf({ case: "bearer", value: { token: "t0ken.of-the/router+1=" } }, urlsOf(agent));
    await expectLetIn(agent, lab);
    wanted = ["x-agent-key", "a key; with, spaces"];
    await expectKeptOut(agent, lab);
    lab.change({ case: "apiKey", value: { header: "X-Agent-Key", key: "a key; with, spaces" } });
    await expectLetIn(agent, lab);
  });

  test("signs each request: RFC 9421 over method, path, query and content", async () => {
    const secret = Buffer.from("a secret of the two of us, 32 b.");
    const nonces = new Set<string>();
    const agent = await agentThat(binding, ({ method, target, header, content }) => {
      const [, params = "", nonce = ""] =
        /^sig1=(\(.*\);.*nonce="([^"]+)".*)$/.exec(header("signature-input") ?? "") ?? [];
      const digest = `sha-256=:${createHash("sha256").update(content).digest("base64")}:`;
      const { pathname, search } = new URL(target, "http://agent");
      const query = search === "" ? "" : `"@query": ${search}\n`;
      const covered = `("@method" "@path"${query && ' "@query"'} "content-digest");`;
      const base = `"@method": ${method}\n"@path": ${pathname}\n${query}"content-digest": ${digest}\n"@signature-params": ${params}`;
      const right = createHmac("sha256", secret).update(base).digest("base64");
      const isNew = !nonces.has(nonce);
      nonces.add(nonce);
      const created = Number(/;created=(\d+);/.exec(params)?.[1]);
      const isNow = Math.abs(Date.now() / 1000 - created) < 60;
      return (
        isNew &&
        isNow &&
        params.startsWith(covered) &&
        params.includes(';keyid="router-1";') &&
        header("content-digest") === digest &&
        header("signature") === `sig1=:${right}:`
      );
    });
    const hmac = { keyId: "router-1", secret: secret.toString("base64") };
    await expectLetIn(agent, labOf({ case: "hmac", value: hmac }, urlsOf(agent)));
    expect(nonces.size).toBeGreaterThanOrEqual(4);
    const other = { keyId: "router-1", secret: Buffer.alloc(32).toString("base64") };
    await expectKeptOut(agent, labOf({ case: "hmac", value: other }, urlsOf(agent)));
  });

  test.each(["oauth2", "oidc"] as const)("a token of a real issuer by %s, fetched once for all", async (kind) => {
    const issuer = await issuerWith({ ttlSeconds: 600 });
    const agent = await agentThat(binding, async ({ header }) => {
      const token = await issuer.tokenOf(/^Bearer (.+)$/.exec(header("authorization") ?? "")?.[1] ?? "");
      return token?.scope === "tasks:send" && token.audience === "https://agent.example.com/";
    });
    const lab = labOf(tokenKind(kind, issuer), urlsOf(agent));
    const client = lab.connector.connect(placeOf(agent));
    await Promise.all(Array.from({ length: 5 }, () => client.send(say("complete"), patiently())));
    await expectLetIn(agent, lab);
    expect(issuer.asked).toBe(1);
  });

  test("a token that the agent does not know any more is given up once, and the call made again", async () => {
    const issuer = await issuerWith({});
    let revoked: string | undefined;
    let asked = 0;
    const agent = await agentThat(binding, async ({ header }) => {
      asked += 1;
      const text = /^Bearer (.+)$/.exec(header("authorization") ?? "")?.[1] ?? "";
      revoked ??= text;
      return text !== revoked && (await issuer.tokenOf(text)) !== undefined;
    });
    const lab = labOf(tokenKind("oauth2", issuer), urlsOf(agent));
    await expectLetIn(agent, lab);
    expect(issuer.asked).toBe(2);
    expect(agent.received).toHaveLength(2);
    // From now on it knows nobody. It is asked once more, and its issuer no more often than that.
    const keepOut = await agentThat(binding, () => {
      asked += 1;
      return false;
    });
    const other = labOf(tokenKind("oauth2", issuer), urlsOf(keepOut));
    asked = 0;
    await failureOf(other.connector.connect(placeOf(keepOut)).send(say("complete"), patiently()));
    expect(asked).toBe(2);
    expect(issuer.asked).toBe(4);
    await failureOf(other.connector.connect(placeOf(keepOut)).send(say("complete"), patiently()));
    expect(asked).toBe(3);
    expect(issuer.asked).toBe(4);
  });

  test("shows a certificate, and demands one of the agent; another one, once it is set", async () => {
    const { authority, other, router, second, stranger } = await certificates();
    const server = await authority.issue("agent");
    const agent = await startTestAgent({ bindings: [binding], tls: { ...server, clientCa: authority.ca } });
    cleanUp.push(() => agent.close());
    const mtls = (pair: Issued, ca = authority.ca): KindInit => ({
      case: "mutualTls",
      value: { certificateChain: pair.cert, privateKey: pair.key, certificateAuthorities: ca },
    });
    const lab = labOf(mtls(router), urlsOf(agent));
    await expectLetIn(agent, lab);
    lab.change(mtls(second));
    await expectLetIn(agent, lab);
    for (const refused of [mtls(stranger), mtls(router, other.ca)]) {
      lab.change(refused);
      const failure = await failureOf(lab.connector.connect(placeOf(agent)).send(say("complete"), patiently()));
      expect(["unreachable", "broken"]).toContain(failure.kind);
      await expect(lab.connector.probe(placeOf(agent), { signal, timeoutMs: 5_000 })).rejects.toThrow();
    }
    lab.change(mtls(router));
    await expectLetIn(agent, lab);
  });

  test("goes to no other host than it was set for", async () => {
    const agent = await agentThat(binding, () => true);
    const { connector } = labOf({ case: "bearer", value: { token: "t" } }, ["http://127.0.0.1:1/"]);
    const failure = await failureOf(connector.connect(placeOf(agent)).send(say("complete"), patiently()));
    expect(failure).toMatchObject({ kind: "unreachable", reason: "CREDENTIAL_FOR_OTHER_HOST" });
    await expect(connector.probe(placeOf(agent), { signal, timeoutMs: 5_000 })).rejects.toMatchObject({
      reason: "CREDENTIAL_FOR_OTHER_HOST",
    });
    expect(agent.received).toHaveLength(0);
  });

  test("goes nowhere in the clear that is not of the owner's own network", async () => {
    const url = binding === "GRPC" ? "http://agent.example:80" : "http://agent.example/";
    const card = cardOf(binding, url);
    const at: (address: string) => Lookup = (address) => (_host, _options, callback) =>
      callback(null, [{ address, family: 4 }]);
    const sendBy = (lab: ReturnType<typeof labOf>) =>
      failureOf(lab.connector.connect({ workspaceId: "w", agentId: "a", card }).send(say("x"), patiently()));
    const bearer: KindInit = { case: "bearer", value: { token: "t" } };
    const named = await sendBy(labOf(bearer, [url], at("203.0.113.7")));
    expect(named).toMatchObject({ kind: "unreachable", message: expect.stringContaining("without TLS") });
    const strict = await sendBy(labOf(bearer, [url], at("203.0.113.7"), false));
    expect(strict).toMatchObject({ kind: "unreachable", reason: "CREDENTIAL_NEEDS_TLS" });
    const { certificateChain, privateKey } = { certificateChain: "c", privateKey: "k" };
    const mtls = await sendBy(
      labOf({ case: "mutualTls", value: { certificateChain, privateKey } }, [url], at("127.0.0.1")),
    );
    expect(mtls).toMatchObject({ kind: "unreachable", reason: "CREDENTIAL_NEEDS_TLS" });
  });
});

const CLIENT = { clientId: "router:1", clientSecret: "a secret of +/%&=: the router" };

async function issuerWith(options: { ttlSeconds?: number; method?: "client_secret_basic" | "client_secret_post" }) {
  const issuer = await startTokenIssuer({ ...CLIENT, ...options });
  cleanUp.push(() => issuer.close());
  return issuer;
}

function tokenKind(kind: "oauth2" | "oidc", { issuer, tokenUrl }: TokenIssuer): KindInit {
  const client = { ...CLIENT, scopes: ["tasks:send"], resource: "https://agent.example.com/" };
  return kind === "oauth2"
    ? { case: "oauth2", value: { ...client, tokenUrl } }
    : { case: "oidc", value: { ...client, issuer } };
}

let made: Promise<Record<"router" | "second" | "stranger", Issued> & Record<"authority" | "other", TestAuthority>>;
beforeAll(() => {
  made = (async () => {
    const [authority, other] = [await createTestAuthority("The mesh"), await createTestAuthority("Somebody else")];
    const [router, second, stranger] = [
      await authority.issue("router"),
      await authority.issue("router, later"),
      await other.issue("router"),
    ];
    return { authority, other, router, second, stranger };
  })();
});
const certificates = () => made;
afterAll(() => made);

describe("a token", () => {
  const admitsTokens =
    (issuer: TokenIssuer) =>
    async ({ header }: AskedRequest) =>
      (await issuer.tokenOf(/^Bearer (.+)$/.exec(header("authorization") ?? "")?.[1] ?? "")) !== undefined;

  test("of an issuer that takes secrets in the form", async () => {
    const issuer = await issuerWith({ method: "client_secret_post" });
    const agent = await agentThat("JSONRPC", admitsTokens(issuer));
    await expectLetIn(agent, labOf(tokenKind("oidc", issuer), urlsOf(agent)));
  });

  test("is fetched anew before it expires, while the old one is used", async () => {
    const issuer = await issuerWith({ ttlSeconds: 100 });
    const carried: string[] = [];
    const agent = await agentThat("JSONRPC", ({ header }) => {
      carried.push(header("authorization") ?? "");
      return true;
    });
    const lab = labOf(tokenKind("oauth2", issuer), urlsOf(agent));
    const client = lab.connector.connect(placeOf(agent));
    const send = () => client.send(say("complete"), patiently());
    await send();
    lab.lab.elapsedMs = 69_000;
    await send();
    expect(issuer.asked).toBe(1);
    issuer.breakWith(503);
    lab.lab.elapsedMs = 81_000;
    await send();
    await expect.poll(() => issuer.asked).toBe(2);
    // That it failed nobody notices, as long as the old one holds.
    await send();
    issuer.breakWith(0);
    lab.lab.elapsedMs = 85_000;
    await expect
      .poll(async () => {
        await send();
        return new Set(carried).size;
      })
      .toBe(2);
    expect(issuer.asked).toBe(3);
  });

  test("that cannot be had fails the call, with a sentence that tells nothing; and is not asked for at each call", async () => {
    const issuer = await issuerWith({});
    const agent = await agentThat("JSONRPC", () => true);
    const wrong: KindInit = {
      case: "oauth2",
      value: { ...CLIENT, clientSecret: "not-this-one", tokenUrl: issuer.tokenUrl },
    };
    const lab = labOf(wrong, urlsOf(agent));
    const send = () => failureOf(lab.connector.connect(placeOf(agent)).send(say("complete"), patiently()));
    const refused = await send();
    expect(refused).toMatchObject({ kind: "refused", reason: "TOKEN_REFUSED" });
    expect(`${refused.message}${refused.raw}`).not.toMatch(/not-this-one|invalid_client|127\.0\.0\.1/);
    await send();
    expect(issuer.asked).toBe(1);
    lab.lab.elapsedMs += 60_000;
    await send();
    expect(issuer.asked).toBe(2);
    issuer.breakWith(503);
    const other = labOf(tokenKind("oauth2", issuer), urlsOf(agent));
    const away = await failureOf(other.connector.connect(placeOf(agent)).send(say("complete"), patiently()));
    expect(away.kind).toBe("unreachable");
    expect(agent.received).toHaveLength(0);
  });

  test.each([
    ["no JSON", (port: number) => `<html>${port}`],
    ["no token", () => JSON.stringify({ token_type: "Bearer" })],
    ["a token that would be two headers", () => JSON.stringify({ access_token: "a\r\nx: y", token_type: "Bearer" })],
    ["a token of another type", () => JSON.stringify({ access_token: "a", token_type: "DPoP" })],
    ["an answer without end", () => "x".repeat(70_000)],
  ])("is not taken from an endpoint that gives %s", async (_name, body) => {
    const rogue = await startRogueHttp((_request, response) => response.end(body(rogue.port)));
    cleanUp.push(() => rogue.close());
    const agent = await agentThat("JSONRPC", () => true);
    const tokenUrl = `http://127.0.0.1:${rogue.port}/token`;
    const { connector } = labOf({ case: "oauth2", value: { ...CLIENT, tokenUrl } }, urlsOf(agent));
    const failure = await failureOf(connector.connect(placeOf(agent)).send(say("complete"), patiently()));
    expect(["refused", "unreachable"]).toContain(failure.kind);
    expect(agent.received).toHaveLength(0);
  });

  test("a redirect of the token endpoint is not followed, and an issuer answers for itself alone", async () => {
    const reached: string[] = [];
    const rogue = await startRogueHttp((request, response) => {
      reached.push(request.url!);
      const issuer = "https://other.example.com";
      if (request.url === "/token") response.writeHead(307, { location: "/elsewhere" }).end();
      else response.end(JSON.stringify({ issuer, token_endpoint: `http://127.0.0.1:${rogue.port}/stolen` }));
    });
    cleanUp.push(() => rogue.close());
    const base = `http://127.0.0.1:${rogue.port}`;
    const agent = await agentThat("JSONRPC", () => true);
    for (const kind of [
      { case: "oauth2", value: { ...CLIENT, tokenUrl: `${base}/token` } },
      { case: "oidc", value: { ...CLIENT, issuer: base } },
    ] satisfies KindInit[]) {
      const { connector } = labOf(kind, urlsOf(agent));
      const failure = await failureOf(connector.connect(placeOf(agent)).send(say("complete"), patiently()));
      expect(failure.reason).toBe("TOKEN_REFUSED");
    }
    expect(reached).toEqual(["/token", "/.well-known/openid-configuration"]);
  });
});

test("a card's request carries it to the host of the card, and behind a redirect to no other", async () => {
  const carried: Record<string, string | undefined> = {};
  const card = JSON.stringify({
    name: "n",
    description: "d",
    version: "1",
    capabilities: {},
    supportedInterfaces: [{ url: "http://x", protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
    skills: [],
  });
  const far = await startRogueHttp(({ headers }, response) => {
    carried.far = headers.authorization ?? "nothing";
    response.end(card);
  });
  const near = await startRogueHttp(({ url, headers }, response) => {
    carried[url!] = headers.authorization ?? "nothing";
    const location = url === "/first" ? "/second" : `http://127.0.0.1:${far.port}/card`;
    response.writeHead(302, { location }).end();
  });
  cleanUp.push(
    () => far.close(),
    () => near.close(),
  );
  const url = `http://127.0.0.1:${near.port}/first`;
  const { cards } = labOf({ case: "bearer", value: { token: "t" } }, [url, `http://127.0.0.1:${far.port}`]);
  await cards.fetch(url, { signal, agent: { workspaceId: "w", agentId: "a" } });
  expect(carried).toEqual({ "/first": "Bearer t", "/second": "Bearer t", far: "nothing" });
  await cards.fetch(url, { signal });
  expect(carried["/first"]).toBe("nothing");
});

test("hosts are the same however an address is written", () => {
  const guard = createUrlGuard({ allowPrivateUrls: true });
  for (const [binding, url] of [
    ["JSONRPC", "https://Agent.Example.com./a?b"],
    ["JSONRPC", "http://2130706433:8080/"],
    ["JSONRPC", "http://[::1]/"],
    ["GRPC", "agent.example.com:443"],
    ["GRPC", "agent.example.com:80"],
    ["GRPC", "[::1]:50051"],
    ["GRPC", "https://agent.example.com"],
  ] as const)
    expect(destinationOf(guard, binding, url).host).toBe(hostOf(url));
});
