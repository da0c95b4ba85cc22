/** Tokens of issuers: which count, which do not, and how the keys of issuers come and go. */
import { createHash, createHmac, generateKeyPairSync, type KeyObject } from "node:crypto";
import { SignJWT } from "jose";
import pino from "pino";
import { beforeEach, describe, expect, test } from "vitest";
import { knownScopes } from "../../../src/domain/identity/known-scopes.ts";
import type { Identity, Scheme } from "../../../src/services/identity/credentials.ts";
import type { PublishedKey } from "../../../src/services/identity/key-set-port.ts";
import { createTokenScheme, type TokenSchemeOptions } from "../../../src/services/identity/token-scheme.ts";
import { bearer, request } from "./request.ts";

const ISSUER = "https://id.example";
const OTHER = "https://other.example/realm";

interface Pair {
  privateKey: KeyObject;
  publicKey: KeyObject;
}
const ec = (namedCurve = "P-256"): Pair => generateKeyPairSync("ec", { namedCurve });
const rsa = (): Pair => generateKeyPairSync("rsa", { modulusLength: 2_048 });
const jwk = ({ publicKey }: Pair, more: object = {}): PublishedKey =>
  ({ ...publicKey.export({ format: "jwk" }), ...more }) as PublishedKey;

const ES = ec();
const RS = rsa();
const OTHERS = ec();
/** 2026-01-01, in seconds. */
const START = 1_767_225_600;

let seconds = START;
let fetches: string[] = [];
let published: Record<string, readonly PublishedKey[] | Error> = {};

function scheme(differs: Partial<TokenSchemeOptions> = {}): Scheme {
  return createTokenScheme({
    issuers: [ISSUER, OTHER],
    audience: ["signalbox", "https://router.example"],
    algorithms: ["RS256", "PS256", "ES256", "EdDSA"],
    clockSkewSeconds: 30,
    granting: undefined,
    knownScopes: knownScopes(),
    fetcher: {
      async fetch(issuer) {
        fetches.push(issuer);
        const keys = published[issuer] ?? [];
        if (keys instanceof Error) throw keys;
        return keys;
      },
    },
    runtime: { now: () => new Date(seconds * 1_000), elapsedMs: () => seconds * 1_000 },
    log: pino({ level: "silent" }),
    ...differs,
  });
}

interface Signing {
  key?: KeyObject | Uint8Array;
  header?: object;
}

const GOOD = { iss: ISSUER, aud: "signalbox", sub: "ann", exp: START + 600, iat: START };

const sign = (claims: object, { key = ES.privateKey, header = {} }: Signing = {}): Promise<string> =>
  new SignJWT({ ...claims }).setProtectedHeader({ alg: "ES256", kid: "es", ...header }).sign(key);

async function identify(given: Scheme, token: string): Promise<Identity> {
  const identity = await given.identify(bearer(token));
  if (!identity) throw new Error("the token was taken for no token");
  return identity;
}
const refused = { code: "UNAUTHENTICATED", reason: "CREDENTIAL_INVALID" };
const base64 = (json: object | string): string =>
  Buffer.from(typeof json === "string" ? json : JSON.stringify(json)).toString("base64url");

beforeEach(() => {
  seconds = START;
  fetches = [];
  published = { [ISSUER]: [jwk(ES, { kid: "es" }), jwk(RS, { kid: "rs" })], [OTHER]: [jwk(OTHERS, { kid: "other" })] };
});

describe("who comes with a token", () => {
  test("is the subject of its issuer", async () => {
    const tokens = scheme();
    expect(await identify(tokens, await sign(GOOD))).toEqual({
      id: "jwt/id.example/ann",
      authentication: "jwt",
      actors: [],
    });
    const other = await sign(
      { ...GOOD, iss: OTHER, aud: ["x", "https://router.example"] },
      { key: OTHERS.privateKey, header: { kid: "other" } },
    );
    expect((await identify(tokens, other)).id).toBe("jwt/other.example/realm/ann");
  });

  test.each([
    ["RS256", () => RS],
    ["PS256", () => RS],
    ["EdDSA", () => generateKeyPairSync("ed25519")],
  ])("may be signed with %s", async (alg, make) => {
    const pair = make();
    published[ISSUER] = [jwk(pair, { kid: "k", use: "sig" })];
    expect(
      await identify(scheme(), await sign(GOOD, { key: pair.privateKey, header: { alg, kid: "k" } })),
    ).toBeTruthy();
  });

  test.each([["JWT"], ["jwt"], ["at+jwt"], ["application/at+jwt"]])("may be of the type %s", async (typ) => {
    expect(await identify(scheme(), await sign(GOOD, { header: { typ } }))).toBeTruthy();
  });

  test("has what its actors are", async () => {
    const token = await sign({ ...GOOD, act: { sub: "planner", act: { sub: "front", iss: OTHER } } });
    expect((await identify(scheme(), token)).actors).toEqual([
      "jwt/id.example/planner",
      "jwt/other.example/realm/front",
    ]);
  });

  test("has what its claims give, where they count", async () => {
    const claims = { ...GOOD, workspace: "shop", roles: ["caller", "root"], scope: "* openid tasks.all agents.read" };
    const token = await sign(claims);
    expect((await identify(scheme(), token)).granted).toBeUndefined();
    const granting = { workspace: "workspace", roles: "roles", scopes: "scope" };
    expect((await identify(scheme({ granting }), token)).granted).toEqual({
      workspaceId: "shop",
      roles: ["caller"],
      scopes: ["tasks.all", "agents.read"],
    });
    expect((await identify(scheme({ granting }), await sign(GOOD))).granted).toBeUndefined();
  });

  test("is known at once when it comes again, as the same identity, for a minute and no longer than its token", async () => {
    const tokens = scheme();
    const long = await sign(GOOD);
    const short = await sign({ ...GOOD, exp: START + 20 });
    const first = await identify(tokens, long);
    await identify(tokens, short);
    seconds += 49;
    expect(tokens.identify(bearer(long))).toBe(first);
    expect(tokens.identify(request({ authorization: `bearer   ${long} ` }))).toBe(first);
    expect(tokens.identify(bearer(short))).not.toBeInstanceOf(Promise);
    seconds += 2;
    await expect(tokens.identify(bearer(short))).rejects.toMatchObject(refused);
    seconds += 10;
    expect(tokens.identify(bearer(long))).toBeInstanceOf(Promise);
  });

  test("is checked once, however often its first call comes at once", async () => {
    const tokens = scheme();
    const token = await sign(GOOD);
    const calls = Array.from({ length: 20 }, () => tokens.identify(bearer(token)));
    expect(new Set(calls).size).toBe(1);
    expect(new Set(await Promise.all(calls)).size).toBe(1);
    expect(fetches).toEqual([ISSUER]);
  });

  test("is nobody of tokens without one, or with a key of this server", () => {
    const tokens = scheme();
    expect(tokens.identify(request())).toBeUndefined();
    expect(tokens.identify(request({ authorization: "Basic YTpi" }))).toBeUndefined();
    expect(tokens.identify(bearer("sbx_abcd_secret"))).toBeUndefined();
    expect(tokens.identify(request({ "x-api-key": "a.b.c" }))).toBeUndefined();
  });
});

describe("what does not count", () => {
  test.each<[string, object, RegExp]>([
    ["an issuer that nobody named", { iss: "https://evil.example" }, /iss/],
    ["an issuer with a slash more", { iss: `${ISSUER}/` }, /iss/],
    ["an issuer that is a list", { iss: [ISSUER] }, /iss|malformed/],
    ["no issuer", { iss: undefined }, /iss/],
    ["another audience", { aud: "elsewhere" }, /aud/],
    ["no audience", { aud: undefined }, /aud/],
    ["the audience with something behind it", { aud: "signalbox.evil" }, /aud/],
    ["a token that has expired", { exp: START - 31 }, /exp/],
    ["a token that does not expire", { exp: undefined }, /exp/],
    ["an expiry that is a text", { exp: "9999999999" }, /exp/],
    ["a token that is not valid yet", { nbf: START + 31 }, /nbf/],
    ["a token of the future", { iat: START + 31 }, /iat/],
    ["a time of issue that is a text", { iat: "1" }, /iat/],
    ["no subject", { sub: undefined }, /sub/],
    ["a subject that is a number", { sub: 7 }, /sub/],
    ["a subject without end", { sub: "a".repeat(600) }, /sub/],
  ])("%s", async (_, claims, why) => {
    const token = await sign({ ...GOOD, ...claims });
    const error = await identify(scheme(), token).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject(refused);
    expect((error as Error).message).toMatch(why);
  });

  test("clocks may be off by so much, and no more", async () => {
    const within = { ...GOOD, exp: START - 29, nbf: START + 29, iat: START + 29 };
    expect(await identify(scheme(), await sign(within))).toBeTruthy();
    await expect(identify(scheme({ clockSkewSeconds: 0 }), await sign(within))).rejects.toMatchObject(refused);
  });

  test("an expiry that is beyond all numbers", async () => {
    const body = `${base64({ alg: "ES256", kid: "es" })}.${base64(JSON.stringify(GOOD).replace(/"exp":\d+/, '"exp":1e999'))}`;
    const { sign: signNow } = await import("node:crypto");
    const signature = signNow("sha256", Buffer.from(body), { key: ES.privateKey, dsaEncoding: "ieee-p1363" });
    await expect(identify(scheme(), `${body}.${signature.toString("base64url")}`)).rejects.toMatchObject(refused);
  });

  test.each([["none"], ["None"], ["HS256"], ["RS384"], [""], [7]])("the algorithm %s", async (alg) => {
    const body = `${base64({ alg, kid: "es" })}.${base64(GOOD)}`;
    for (const signature of ["", base64("signature")]) {
      await expect(identify(scheme(), `${body}.${signature}`)).rejects.toMatchObject(refused);
    }
    expect(fetches).toEqual([]);
  });

  test("a public key that is used as a secret", async () => {
    const tokens = scheme();
    for (const pair of [RS, ES]) {
      for (const secret of [
        pair.publicKey.export({ type: "spki", format: "pem" }) as string,
        pair.publicKey.export({ type: "spki", format: "der" }) as Buffer,
        JSON.stringify(pair.publicKey.export({ format: "jwk" })),
      ]) {
        for (const kid of ["rs", "es"]) {
          const body = `${base64({ alg: "HS256", kid })}.${base64(GOOD)}`;
          const mac = createHmac("sha256", secret).update(body).digest("base64url");
          await expect(identify(tokens, `${body}.${mac}`)).rejects.toMatchObject(refused);
        }
      }
    }
  });

  test("a key of another type than the algorithm has, a key for encryption, a secret, a private operation", async () => {
    const unfit: PublishedKey[] = [
      jwk(RS, { kid: "es" }),
      jwk(ES, { kid: "es", use: "enc" }),
      jwk(ES, { kid: "es", alg: "ES384" }),
      jwk(ES, { kid: "es", key_ops: ["encrypt"] }),
      jwk(ES, { kid: "es", crv: "P-384" }),
      jwk(ec("P-384"), { kid: "es" }),
      { kty: "oct", kid: "es", k: base64("secret") },
      { kid: "es" },
    ];
    const token = await sign(GOOD);
    for (const key of unfit) {
      published[ISSUER] = [key];
      await expect(identify(scheme(), token)).rejects.toMatchObject(refused);
    }
    published[ISSUER] = [...unfit.slice(0, 5), jwk(ES, { kid: "es", key_ops: ["verify"], use: "sig", alg: "ES256" })];
    expect(await identify(scheme(), token)).toBeTruthy();
  });

  test("a key of another issuer, under its own name and under that of a good one", async () => {
    const own = await sign(GOOD, { key: OTHERS.privateKey, header: { kid: "other" } });
    const borrowed = await sign(GOOD, { key: OTHERS.privateKey, header: { kid: "es" } });
    const nameless = await sign(GOOD, { key: OTHERS.privateKey, header: { kid: undefined } });
    const tokens = scheme();
    const foreign = await sign({ ...GOOD, iss: OTHER }, { key: OTHERS.privateKey, header: { kid: "other" } });
    expect(await identify(tokens, foreign)).toBeTruthy();
    for (const token of [own, borrowed, nameless]) await expect(identify(tokens, token)).rejects.toMatchObject(refused);
  });

  test("keys that the token brings itself", async () => {
    const mine = ec();
    const header = { jwk: jwk(mine), jku: "https://evil.example/jwks", x5u: "https://evil.example/x5u" };
    const forged = await sign(GOOD, { key: mine.privateKey, header });
    const without = await sign(GOOD, { key: mine.privateKey, header: { ...header, kid: undefined } });
    const tokens = scheme();
    for (const token of [forged, without]) await expect(identify(tokens, token)).rejects.toMatchObject(refused);
    expect(await identify(tokens, await sign(GOOD, { header }))).toBeTruthy();
    expect(new Set(fetches)).toEqual(new Set([ISSUER]));
  });

  test.each<[string, object]>([
    ["what must be understood", { crit: ["exp"], exp: 1 }],
    ["an unencoded payload", { crit: ["b64"], b64: false }],
    ["another type", { typ: "logout+jwt" }],
    ["a type that is no text", { typ: 7 }],
    ["a key name that is no text", { kid: 7 }],
    ["a key name without end", { kid: "k".repeat(513) }],
  ])("a header with %s", async (_, header) => {
    const body = `${base64({ alg: "ES256", kid: "es", ...header })}.${base64(GOOD)}`;
    await expect(identify(scheme(), `${body}.${base64("signature")}`)).rejects.toMatchObject(refused);
    expect(fetches).toEqual([]);
  });

  test("whatever was changed after it was signed", async () => {
    const [header, , signature] = (await sign(GOOD)).split(".");
    const payload = base64({ ...GOOD, sub: "root" });
    await expect(identify(scheme(), `${header}.${payload}.${signature}`)).rejects.toMatchObject(refused);
  });

  test.each([
    ["", ".."],
    ["a", "a.b.c"],
    ["encrypted", "a.b.c.d.e"],
    ["no base64", "ü.ü.ü"],
    ["no object", `${base64("7")}.${base64("[]")}.x`],
  ])("what is no token: %s", async (_, token) => {
    await expect((async () => scheme().identify(bearer(token)))()).rejects.toMatchObject(refused);
  });

  test("a token that is too long, before anything of it is read", () => {
    expect(() => scheme().identify(bearer("a".repeat(8_193)))).toThrow(expect.objectContaining(refused));
  });

  test("a chain of actors that is too long", async () => {
    let act: object = { sub: "a" };
    for (let i = 0; i < 10; i++) act = { sub: "a", act };
    await expect(identify(scheme(), await sign({ ...GOOD, act }))).rejects.toMatchObject(refused);
  });

  test("more tokens at once than can be checked", async () => {
    const { promise, resolve } = Promise.withResolvers<readonly PublishedKey[]>();
    const tokens = scheme({ fetcher: { fetch: () => promise } });
    const digests = Array.from({ length: 1_000 }, (_, i) => createHash("sha256").update(`${i}`).digest("base64url"));
    const head = (await sign(GOOD)).split(".").slice(0, 2).join(".");
    const waiting = digests.map((signature) => Promise.resolve(tokens.identify(bearer(`${head}.${signature}`))));
    const outcomes = Promise.allSettled(waiting);
    expect(() => tokens.identify(bearer(`${head}.x`))).toThrow(expect.objectContaining({ reason: "QUEUE_FULL" }));
    resolve([jwk(ES, { kid: "es" })]);
    expect((await outcomes).every(({ status }) => status === "rejected")).toBe(true);
    expect(await identify(tokens, await sign(GOOD))).toBeTruthy();
  });
});

describe("the keys of an issuer", () => {
  const next = ec();
  const byNext = () => sign({ ...GOOD, exp: START + 100_000 }, { key: next.privateKey, header: { kid: "next" } });
  const byOld = (sub = "ann") => sign({ ...GOOD, sub, exp: START + 100_000 });
  const unavailable = { code: "UNAVAILABLE", reason: "ISSUER_UNAVAILABLE" };

  test("are asked for anew when a token names one that is not known, once in 30 s", async () => {
    const tokens = scheme();
    await identify(tokens, await byOld());
    published[ISSUER] = [jwk(ES, { kid: "es" }), jwk(next, { kid: "next" })];
    for (let i = 0; i < 5; i++) await expect(identify(tokens, await byNext())).rejects.toMatchObject(refused);
    expect(fetches).toHaveLength(1);
    seconds += 30;
    const both = await Promise.all([identify(tokens, await byNext()), identify(tokens, await byNext())]);
    expect(both).toHaveLength(2);
    expect(fetches).toHaveLength(2);
    await expect(identify(tokens, await sign(GOOD, { header: { kid: "unknown" } }))).rejects.toMatchObject(refused);
    expect(fetches).toHaveLength(2);
  });

  test("that have no names are asked for anew when none has signed a token", async () => {
    published[ISSUER] = [jwk(ES)];
    const tokens = scheme();
    const nameless = { header: { kid: undefined } };
    await identify(tokens, await sign(GOOD, nameless));
    published[ISSUER] = [jwk(next)];
    seconds += 30;
    expect(await identify(tokens, await sign(GOOD, { ...nameless, key: next.privateKey }))).toBeTruthy();
    expect(fetches).toHaveLength(2);
  });

  test("that are gone count no longer once they were asked for anew", async () => {
    const tokens = scheme();
    await identify(tokens, await byOld());
    published[ISSUER] = [jwk(next, { kid: "next" })];
    seconds += 30;
    await identify(tokens, await byNext());
    await expect(identify(tokens, await byOld("bob"))).rejects.toMatchObject(refused);
  });

  test("are asked for anew after five minutes, while nobody waits", async () => {
    const tokens = scheme();
    await identify(tokens, await byOld());
    seconds += 299;
    await identify(tokens, await byOld("bob"));
    expect(fetches).toHaveLength(1);
    seconds += 1;
    await identify(tokens, await byOld("carol"));
    expect(fetches).toHaveLength(2);
  });

  test("count for an hour while their issuer does not answer, who is asked every 30 s at most", async () => {
    const tokens = scheme();
    await identify(tokens, await byOld());
    published[ISSUER] = new Error("away");
    for (let i = 0; i < 60; i++) {
      seconds += 59;
      expect(await identify(tokens, await byOld(`${i}`))).toBeTruthy();
    }
    expect(fetches.length).toBeLessThanOrEqual(61);
    seconds += 60;
    await expect(identify(tokens, await byOld("late"))).rejects.toMatchObject(unavailable);
    const asked = fetches.length;
    await expect(identify(tokens, await byOld("later"))).rejects.toMatchObject(unavailable);
    expect(fetches).toHaveLength(asked);
    published[ISSUER] = [jwk(ES, { kid: "es" })];
    seconds += 30;
    expect(await identify(tokens, await byOld("back"))).toBeTruthy();
  });

  test("are not there when their issuer was never reached: that is told as what it is", async () => {
    published[ISSUER] = new Error("away");
    const tokens = scheme();
    await expect(identify(tokens, await byOld())).rejects.toMatchObject(unavailable);
    await expect(identify(tokens, await byOld())).rejects.toMatchObject({ retryAfterMs: 30_000 });
    expect(fetches).toHaveLength(1);
    // Another issuer has nothing to do with it.
    const other = await sign({ ...GOOD, iss: OTHER }, { key: OTHERS.privateKey, header: { kid: "other" } });
    expect(await identify(tokens, other)).toBeTruthy();
  });
});
