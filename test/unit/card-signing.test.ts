/** Cards as they are signed and verified: the canonical form of the specification, and that of the SDKs. */
import { generateKeyPairSync } from "node:crypto";
import { generateAgentCardSignature, type AgentCard as SdkCard, verifyAgentCardSignature } from "@a2a-js/sdk";
import { create, fromJson, type JsonObject, toJson } from "@bufbuild/protobuf";
import fc from "fast-check";
import { calculateJwkThumbprint, exportJWK, FlattenedSign, flattenedVerify, importJWK, type JWK } from "jose";
import { describe, expect, test } from "vitest";
import { type AgentCard, AgentCardSchema, AgentCardSignatureSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { CardSignatureState } from "../../gen/signalbox/v1/registry_pb.ts";
import { canonicalJson } from "../../src/domain/canonical-json.ts";
import { cardPayload, signedTexts } from "../../src/domain/card-payload.ts";
import { cardSecurity } from "../../src/domain/identity/security-schemes.ts";
import { createCardSigner } from "../../src/services/card-signer.ts";
import { type CardVerifierDeps, createCardVerifier } from "../../src/services/card-verifier.ts";
import { systemRuntime } from "../../src/services/runtime.ts";

const { VERIFIED, UNTRUSTED, INVALID } = CardSignatureState;
const JKU = "https://cards.example.com/.well-known/jwks.json";
const CARD_URL = "https://cards.example.com/.well-known/agent-card.json";
const never = new AbortController().signal;

const newKey = () => generateKeyPairSync("ec", { namedCurve: "P-256" });
const jwkOf = async (key: ReturnType<typeof newKey>["publicKey"], kid?: string): Promise<JWK> => {
  const jwk = await exportJWK(key);
  return { ...jwk, kid: kid ?? (await calculateJwkThumbprint(jwk)) };
};

const cardOf = (given: Partial<Record<string, unknown>> = {}): AgentCard =>
  fromJson(AgentCardSchema, {
    name: "n",
    description: "d",
    version: "1",
    supportedInterfaces: [{ url: "https://a.example.com", protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
    capabilities: { streaming: false },
    defaultInputModes: ["text/plain"],
    defaultOutputModes: ["text/plain"],
    skills: [{ id: "s", name: "S", description: "Does.", tags: ["t"] }],
    ...given,
  } as JsonObject);

function verifier(deps: Partial<CardVerifierDeps> & { published?: JWK[] } = {}) {
  const asked: string[] = [];
  const made = createCardVerifier({
    trusted: [],
    allowPlainHttp: false,
    runtime: systemRuntime(),
    cardKeys: {
      fetch: async (url) => {
        asked.push(url);
        return { keys: deps.published ?? [] } as never;
      },
    },
    ...deps,
  });
  return { ...made, asked };
}

const signatureOf = (header: string, signature: string) =>
  create(AgentCardSignatureSchema, { protected: header, signature });

/** A card as somebody else signs it: over a text of theirs. */
async function signedBy(
  { privateKey, publicKey }: ReturnType<typeof newKey>,
  card: AgentCard,
  text: string,
  header: Record<string, unknown> = {},
): Promise<AgentCard> {
  const { kid = "" } = await jwkOf(publicKey);
  const made = await new FlattenedSign(Buffer.from(text))
    .setProtectedHeader({ alg: "ES256", typ: "JOSE", kid, jku: JKU, ...header })
    .sign(privateKey);
  return create(AgentCardSchema, { ...card, signatures: [signatureOf(made.protected!, made.signature)] });
}

describe("what is signed", () => {
  test("is what the specification shows (section 8.4.1)", () => {
    const fragment = {
      name: "Example Agent",
      description: "",
      capabilities: { streaming: false, pushNotifications: false, extensions: [] },
      skills: [],
    };
    const { capabilities, description, name, skills } = cardPayload(fromJson(AgentCardSchema, fragment));
    expect(canonicalJson({ capabilities, description, name, skills } as JsonObject)).toBe(
      '{"capabilities":{"pushNotifications":false,"streaming":false},"description":"","name":"Example Agent","skills":[]}',
    );
  });

  test("is one text where nothing that is REQUIRED is empty, and the SDKs' beside it where something is", () => {
    expect(signedTexts(cardOf())).toHaveLength(1);
    expect(signedTexts(cardOf({ skills: [] }))).toHaveLength(2);
  });

  test("does not depend on signatures that are there", async () => {
    const card = cardOf();
    expect(cardPayload(await signedBy(newKey(), card, "x"))).toEqual(cardPayload(card));
  });
});

const security = cardSecurity({ issuers: ["https://id.example.com/"], certificates: "accepted", isRequired: true });
const cards: [string, AgentCard][] = [
  ["a card", cardOf()],
  ["a card without skills", cardOf({ skills: [] })],
  [
    "a card that requires callers to say who they are",
    create(AgentCardSchema, {
      ...cardOf(),
      securitySchemes: { ...security.schemes },
      securityRequirements: [...security.requirements],
    }),
  ],
  [
    "a card with Unicode and free data",
    cardOf({
      name: "Grün\u2028€𝄞",
      iconUrl: "",
      capabilities: { extensions: [{ uri: "u", params: { z: 1.5, a: [{}, "", null] } }] },
    }),
  ],
];

describe.each(cards)("our signature of %s", (_, card) => {
  const key = newKey();

  test("is verified by @a2a-js/sdk", async () => {
    const signer = await createCardSigner({ key: key.privateKey, previous: undefined, jku: () => JKU });
    const served = toJson(AgentCardSchema, await signer.sign(card)) as object;
    const asked: unknown[] = [];
    const verify = verifyAgentCardSignature(async (kid, jku) => {
      asked.push(jku);
      return signer.keySet.keys.find((each) => each.kid === kid)!;
    });
    // As it was served: of a card that it has parsed already, the SDK loses the security schemes when it parses it again.
    await verify(served as SdkCard);
    expect(asked[0]).toBe(JKU);
    const altered = { ...served, name: "Mallory" } as unknown as SdkCard;
    await expect(verify(altered)).rejects.toThrow("No valid signatures");
  });

  test("is verified over the card as it is served, without knowing what a field is", async () => {
    const signer = await createCardSigner({ key: key.privateKey, previous: undefined, jku: () => JKU });
    const { signatures } = await signer.sign(card);
    const [{ protected: header, signature }] = signatures as [(typeof signatures)[0]];
    const payload = Buffer.from(canonicalJson(cardPayload(card))).toString("base64url");
    const jwk = signer.keySet.keys[0]!;
    const { protectedHeader } = await flattenedVerify({ protected: header, signature, payload }, await importJWK(jwk));
    expect(protectedHeader).toEqual({ alg: "ES256", typ: "JOSE", kid: await calculateJwkThumbprint(jwk), jku: JKU });
    expect(jwk).not.toHaveProperty("d");
  });

  test("is verified by us, and so is one that @a2a-js/sdk makes", async () => {
    const signer = await createCardSigner({ key: key.privateKey, previous: undefined, jku: () => JKU });
    const { verify } = verifier({ published: [...signer.keySet.keys] });
    const given = (signed: AgentCard) => verify({ card: signed, cardUrl: CARD_URL }, never);
    expect(await given(await signer.sign(card))).toMatchObject({ state: VERIFIED, algorithm: "ES256", problem: "" });

    const kid = signer.keySet.keys[0]!.kid!;
    const header = { alg: "ES256", kid, typ: "JOSE", jku: JKU };
    const bySdk = await generateAgentCardSignature(
      key.privateKey,
      header,
    )(toJson(AgentCardSchema, card) as unknown as SdkCard);
    const json = JSON.parse(JSON.stringify(bySdk)) as JsonObject;
    const found = await verify({ card: fromJson(AgentCardSchema, json), json, cardUrl: CARD_URL }, never);
    expect(found).toMatchObject({ state: VERIFIED, keyId: kid });
  });
});

test("equal cards are signed once, and others by the key that follows", async () => {
  const [before, now] = [newKey(), newKey()];
  const signer = await createCardSigner({ key: now.privateKey, previous: before.privateKey, jku: () => JKU });
  const [first, second] = [await signer.sign(cardOf()), await signer.sign(cardOf())];
  expect(second.signatures).toBe(first.signatures);
  expect((await signer.sign(cardOf({ name: "other" }))).signatures).not.toEqual(first.signatures);
  expect(signer.keySet.keys.map(({ kid }) => kid)).toEqual([
    (await jwkOf(now.publicKey)).kid,
    (await jwkOf(before.publicKey)).kid,
  ]);
  expect(JSON.stringify(signer.keySet)).not.toContain('"d"');
});

test("without a key nothing is signed, and nothing published", async () => {
  const signer = await createCardSigner({ key: undefined, previous: undefined, jku: () => JKU });
  expect((await signer.sign(cardOf())).signatures).toEqual([]);
  expect(signer.keySet.keys).toEqual([]);
});

describe("an agent's card", () => {
  const key = newKey();
  const textOf = (card: AgentCard) => canonicalJson(cardPayload(card));
  const signed = (header?: Record<string, unknown>) => signedBy(key, cardOf(), textOf(cardOf()), header);

  test("without signatures is nothing that could be verified", async () => {
    expect(await verifier().verify({ card: cardOf(), cardUrl: CARD_URL }, never)).toBeUndefined();
  });

  test("is VERIFIED by a trusted key, wherever it comes from, and nobody is asked", async () => {
    const trusted = [await jwkOf(newKey().publicKey), await jwkOf(key.publicKey)];
    const { verify, asked } = verifier({ trusted });
    const found = await verify({ card: await signed(), cardUrl: undefined }, never);
    expect(found).toMatchObject({ state: VERIFIED, keyThumbprint: trusted[1]!.kid, algorithm: "ES256" });
    expect(found!.checkTime).toBeDefined();
    expect(asked).toEqual([]);
  });

  test("is VERIFIED as its server sent it, with fields that nobody knows here", async () => {
    const json = { ...(toJson(AgentCardSchema, cardOf()) as JsonObject), later: { x: [1, { b: 2, a: 1 }] } };
    const card = await signedBy(key, cardOf(), canonicalJson(json));
    const { verify } = verifier({ published: [await jwkOf(key.publicKey)] });
    const { signatures } = toJson(AgentCardSchema, card) as JsonObject;
    const served = { ...json, signatures: signatures! };
    expect(await verify({ card, json: served, cardUrl: CARD_URL }, never)).toMatchObject({ state: VERIFIED });
    const changed = { ...served, later: { x: [1, { b: 2, a: 2 }] } };
    expect(await verify({ card, json: changed, cardUrl: CARD_URL }, never)).toMatchObject({ state: INVALID });
  });

  test("is INVALID when anything in it is another than what was signed", async () => {
    const published = [await jwkOf(key.publicKey)];
    const card = await signed();
    const words = fc.string({ minLength: 1 });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom("name", "description", "version", "iconUrl"), words, async (field, value) => {
        fc.pre(value.isWellFormed() && (card as unknown as Record<string, unknown>)[field] !== value);
        const altered = create(AgentCardSchema, { ...card, [field]: value });
        const found = await verifier({ published }).verify({ card: altered, cardUrl: CARD_URL }, never);
        expect(found).toMatchObject({ state: INVALID, problem: expect.stringContaining("not of this card") });
      }),
      { numRuns: 30 },
    );
  });

  test.each<[string, Record<string, unknown>, string | undefined, CardSignatureState, string]>([
    ["whose key is at another host", { jku: "https://evil.example.com/jwks.json" }, CARD_URL, UNTRUSTED, "host"],
    ["whose key is at another port", { jku: "https://cards.example.com:444/jwks.json" }, CARD_URL, UNTRUSTED, "host"],
    ["whose key comes in the clear", { jku: JKU.replace("https", "http") }, CARD_URL, UNTRUSTED, "https"],
    ["whose key is in a file", { jku: "file:///etc/passwd" }, CARD_URL, UNTRUSTED, "https"],
    ["that says of no place where its key is", { jku: undefined }, CARD_URL, UNTRUSTED, "no jku"],
    ["that came from nowhere", {}, undefined, UNTRUSTED, "host"],
    ["by a key that is not published", { kid: "another" }, CARD_URL, UNTRUSTED, "no key of that name"],
  ])("%s is not trusted", async (_, header, cardUrl, state, why) => {
    const { verify, asked } = verifier({ published: [await jwkOf(key.publicKey)] });
    const found = await verify({ card: await signed(header), cardUrl }, never);
    expect(found).toMatchObject({ state, problem: expect.stringContaining(why) });
    if (why !== "no key of that name") expect(asked).toEqual([]);
  });

  test("with keys that cannot be fetched is UNTRUSTED, and says why", async () => {
    const cardKeys = { fetch: () => Promise.reject(new Error("secret words")) };
    const found = await verifier({ cardKeys }).verify({ card: await signed(), cardUrl: CARD_URL }, never);
    expect(found).toMatchObject({ state: UNTRUSTED, problem: "the keys at its jku: it could not be read" });
  });

  test.each([
    ["alg none", { alg: "none" }],
    ["a shared secret", { alg: "HS256" }],
    ["no header at all", undefined],
  ])("signed with %s is INVALID", async (_, header) => {
    const card = await signed();
    const text = header && Buffer.from(JSON.stringify({ kid: "x", jku: JKU, ...header })).toString("base64url");
    const forged = create(AgentCardSchema, { ...card, signatures: [signatureOf(text ?? "%", "")] });
    const { verify } = verifier({ published: [await jwkOf(key.publicKey, "x")] });
    expect(await verify({ card: forged, cardUrl: CARD_URL }, never)).toMatchObject({ state: INVALID });
  });

  test("signed by a shared secret that is a published public key is INVALID (key confusion)", async () => {
    const jwk = await jwkOf(key.publicKey, "x");
    const secret = new TextEncoder().encode(JSON.stringify(jwk).padEnd(32));
    const made = await new FlattenedSign(Buffer.from(textOf(cardOf())))
      .setProtectedHeader({ alg: "HS256", kid: "x", jku: JKU })
      .sign(secret);
    const card = create(AgentCardSchema, {
      ...cardOf(),
      signatures: [signatureOf(made.protected!, made.signature)],
    });
    const oct = { kty: "oct", k: Buffer.from(secret).toString("base64url"), kid: "x" };
    const { verify } = verifier({ published: [jwk, oct] });
    expect(await verify({ card, cardUrl: CARD_URL }, never)).toMatchObject({ state: INVALID });
  });

  test("with one good signature among others is VERIFIED; with none and a wrong one, INVALID", async () => {
    const [good] = (await signed()).signatures;
    const unknown = (await signed({ kid: "unknown", jku: undefined })).signatures[0]!;
    const wrong = (await signedBy(key, cardOf(), "something else")).signatures[0]!;
    const published = [await jwkOf(key.publicKey)];
    const of = (...signatures: (typeof unknown)[]) =>
      verifier({ published }).verify(
        { card: create(AgentCardSchema, { ...cardOf(), signatures }), cardUrl: CARD_URL },
        never,
      );
    expect(await of(unknown, wrong, good!)).toMatchObject({ state: VERIFIED });
    expect(await of(unknown, wrong, unknown)).toMatchObject({ state: INVALID });
    expect(await of(unknown)).toMatchObject({ state: UNTRUSTED });
  });

  test("asks for one set of keys once, and looks at eight signatures at most", async () => {
    const wrong = (await signedBy(key, cardOf(), "something else")).signatures[0]!;
    const good = (await signed()).signatures[0]!;
    const { verify, asked } = verifier({ published: [await jwkOf(key.publicKey)] });
    const card = create(AgentCardSchema, { ...cardOf(), signatures: [...Array(8).fill(wrong), good] });
    expect(await verify({ card, cardUrl: CARD_URL }, never)).toMatchObject({ state: INVALID });
    expect(asked).toEqual([JKU]);
  });
});

describe("security schemes", () => {
  const of = (given: Partial<Parameters<typeof cardSecurity>[0]>) => {
    const { schemes, requirements } = cardSecurity({
      issuers: [],
      certificates: "none",
      isRequired: false,
      ...given,
    });
    return {
      names: Object.keys(schemes),
      required: requirements.map((each) => Object.keys(each.schemes)),
      schemes,
    };
  };

  test("are keys and signatures always, and none is required where anonymous callers are let in", () => {
    expect(of({})).toMatchObject({ names: ["apiKey", "bearer", "httpSignature"], required: [] });
  });

  test("are what else is configured, each enough alone", () => {
    const { names, required, schemes } = of({
      issuers: ["https://id.example.com/realms/a", "https://two.example.com/"],
      certificates: "accepted",
      isRequired: true,
    });
    expect(names).toEqual(["apiKey", "bearer", "httpSignature", "openIdConnect", "openIdConnect2", "mtls"]);
    expect(required).toEqual(names.map((name) => [name]));
    expect([schemes.openIdConnect!.scheme.value, schemes.openIdConnect2!.scheme.value]).toMatchObject([
      { openIdConnectUrl: "https://id.example.com/realms/a/.well-known/openid-configuration" },
      { openIdConnectUrl: "https://two.example.com/.well-known/openid-configuration" },
    ]);
  });

  test("come beside a certificate where each connection must show one", () => {
    expect(of({ certificates: "required", isRequired: true }).required).toEqual([
      ["apiKey", "mtls"],
      ["bearer", "mtls"],
      ["httpSignature", "mtls"],
      ["mtls"],
    ]);
    expect(of({ certificates: "required" }).required).toEqual([["mtls"]]);
  });
});
