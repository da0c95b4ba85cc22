/** Finding the keys of issuers: discovery, what is not believed, and what is bounded. */
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { createKeySetFetcher, type KeySetFetcherOptions } from "../../src/outbound/key-set-fetcher.ts";

const KEYS = [{ kty: "EC", kid: "a" }];
const OIDC = "/.well-known/openid-configuration";
const OAUTH = "/.well-known/oauth-authorization-server";

const opened: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0)) await close();
});

async function serve(listener: RequestListener): Promise<string> {
  const server: Server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  opened.push(() => new Promise((resolve) => server.close(resolve)));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Serves answers by path: JSON, or as a function writes it. Tells which paths were asked for. */
async function site(answers: (origin: string) => Record<string, unknown>) {
  const asked: string[] = [];
  const origin: string = await serve((req, res) => {
    asked.push(req.url!);
    const answer = answers(origin)[req.url!];
    if (typeof answer === "function") (answer as RequestListener)(req, res);
    else if (answer === undefined) res.writeHead(404).end();
    else res.setHeader("content-type", "application/json").end(JSON.stringify(answer));
  });
  return { origin, asked };
}

function fetcher(options: Partial<KeySetFetcherOptions> = {}) {
  const made = createKeySetFetcher({ allowPrivateUrls: true, ...options });
  opened.unshift(() => made.close());
  return made;
}

test("an issuer of OpenID Connect says where its keys are", async () => {
  const { origin, asked } = await site((at) => ({
    [OIDC]: { issuer: at, jwks_uri: `${at}/keys` },
    "/keys": { keys: [...KEYS, 7, null] },
  }));
  expect(await fetcher().fetch(origin)).toEqual(KEYS);
  expect(asked).toEqual([OIDC, "/keys"]);
});

test("so does one with a path, with or without a slash at its end, and an authorization server of OAuth", async () => {
  for (const path of ["/realms/prod", "/realms/prod/"]) {
    const { origin } = await site((at) => ({
      [`/realms/prod${OIDC}`]: { issuer: `${at}${path}`, jwks_uri: `${at}/keys` },
      "/keys": { keys: KEYS },
    }));
    expect(await fetcher().fetch(`${origin}${path}`)).toEqual(KEYS);
  }
  const { origin, asked } = await site((at) => ({
    [`${OAUTH}/tenant`]: { issuer: `${at}/tenant`, jwks_uri: `${at}/keys` },
    "/keys": { keys: KEYS },
  }));
  expect(await fetcher().fetch(`${origin}/tenant`)).toEqual(KEYS);
  expect(asked).toEqual([`/tenant${OIDC}`, `${OAUTH}/tenant`, "/keys"]);
});

test.each<[string, (at: string) => Record<string, unknown>, RegExp]>([
  ["nothing", () => ({}), /404.*404/],
  [
    "another issuer",
    (at) => ({ [OIDC]: { issuer: `${at}/`, jwks_uri: `${at}/keys` }, "/keys": { keys: KEYS } }),
    /issuer/,
  ],
  ["no issuer", (at) => ({ [OIDC]: { jwks_uri: `${at}/keys` }, "/keys": { keys: KEYS } }), /issuer/],
  ["no keys", (at) => ({ [OIDC]: { issuer: at } }), /jwks_uri/],
  ["no JSON", () => ({ [OIDC]: (_: unknown, res: { end(text: string): void }) => res.end("<html>") }), /JSON/],
  ["a set that is none", (at) => ({ [OIDC]: { issuer: at, jwks_uri: `${at}/keys` }, "/keys": [] }), /JWK Set/],
  ["keys that are not there", (at) => ({ [OIDC]: { issuer: at, jwks_uri: `${at}/keys` } }), /404/],
  [
    "too many keys",
    (at) => ({
      [OIDC]: { issuer: at, jwks_uri: `${at}/keys` },
      "/keys": { keys: Array.from({ length: 101 }, () => ({})) },
    }),
    /100 keys/,
  ],
  [
    "too much",
    (at) => ({ [OIDC]: { issuer: at, jwks_uri: `${at}/keys` }, "/keys": { keys: [{ x: "a".repeat(300_000) }] } }),
    /262144 bytes/,
  ],
  ["keys in a file", (at) => ({ [OIDC]: { issuer: at, jwks_uri: "file:///etc/passwd" } }), /jwks|http/i],
])("an issuer that tells %s has no keys", async (_, answers, why) => {
  const { origin } = await site(answers);
  const error = await fetcher()
    .fetch(origin)
    .catch((thrown: unknown) => thrown as Error & { violations?: unknown });
  expect(`${(error as Error).message} ${JSON.stringify((error as { violations?: unknown }).violations ?? "")}`).toMatch(
    why,
  );
});

test("redirects are not followed", async () => {
  const { origin: away, asked } = await site((at) => ({ "/": { issuer: at } }));
  const { origin } = await site(() => ({
    [OIDC]: (_: unknown, res: import("node:http").ServerResponse) => res.writeHead(302, { location: `${away}/` }).end(),
  }));
  await expect(fetcher().fetch(origin)).rejects.toThrow(/302/);
  expect(asked).toEqual([]);
});

test("an issuer that answers slowly is given up", async () => {
  const { origin } = await site(() => ({ [OIDC]: () => {} }));
  await expect(fetcher({ timeoutMs: 100 }).fetch(origin)).rejects.toThrow(/timeout/i);
});

test("private addresses and plain http are for those who allow them", async () => {
  const { origin, asked } = await site(() => ({}));
  const strict = fetcher({ allowPrivateUrls: false });
  await expect(strict.fetch(origin)).rejects.toThrow();
  await expect(strict.fetch(origin.replace("http:", "https:"))).rejects.toThrow();
  await expect(strict.fetch("http://id.example")).rejects.toThrow(/https/);
  // Nor by a name that leads there.
  const lookup: KeySetFetcherOptions["lookup"] = (_, __, done) => done(null, [{ address: "127.0.0.1", family: 4 }]);
  const rebound = fetcher({ allowPrivateUrls: false, lookup });
  const { port } = new URL(origin);
  await expect(rebound.fetch(`https://id.example:${port}`)).rejects.toThrow();
  expect(asked).toEqual([]);
});

test("keys that an issuer has elsewhere are fetched from there, private addresses excepted", async () => {
  const { origin: keys } = await site(() => ({ "/keys": { keys: KEYS } }));
  const { origin } = await site((at) => ({ [OIDC]: { issuer: at, jwks_uri: `${keys}/keys` } }));
  expect(await fetcher().fetch(origin)).toEqual(KEYS);
});
