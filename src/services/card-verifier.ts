/** What the signatures of agents' cards are worth (A2A specification, section 8.4.3). */
import { create, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { calculateJwkThumbprint, decodeProtectedHeader, errors, flattenedVerify, importJWK, type JWK } from "jose";
import type { AgentCard, AgentCardSignature } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type CardSignature, CardSignatureSchema, CardSignatureState } from "../../gen/signalbox/v1/registry_pb.ts";
import { signedTexts } from "../domain/card-payload.ts";
import { clip, SignalboxError } from "../domain/errors.ts";
import type { CardKeyFetcher } from "./agent-port.ts";
import type { Runtime } from "./runtime.ts";

/** A card, and where it came from. */
export interface GivenCard {
  readonly card: AgentCard;
  /** The card as its server sent it, unknown fields and all; undefined where it was given as a message. */
  readonly json?: JsonObject | undefined;
  readonly cardUrl: string | undefined;
}

export interface CardVerifier {
  /** Undefined for a card without signatures. Rejects with nothing but the signal's reason. */
  verify(given: GivenCard, signal: AbortSignal): Promise<CardSignature | undefined>;
}

export interface CardVerifierDeps {
  /** Keys of signers that are trusted, wherever a card comes from. */
  trusted: readonly JWK[];
  cardKeys: CardKeyFetcher;
  /** Whether keys that came over plain http count. */
  allowPlainHttp: boolean;
  runtime: Runtime;
}

const { VERIFIED, UNTRUSTED, INVALID } = CardSignatureState;

/** Algorithms of public keys. Those of shared secrets are none: whoever can check could sign. */
const ALGORITHMS = [
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
];

/** Signatures of a card that are looked at, and keys of a set that are tried. */
const MOST_SIGNATURES = 8;
const MOST_KEYS = 100;
const MAX_TEXT = 256;

interface Finding {
  readonly state: CardSignatureState;
  readonly keyId: string;
  readonly keyThumbprint: string;
  readonly algorithm: string;
  readonly problem: string;
}

export function createCardVerifier({ trusted, cardKeys, allowPlainHttp, runtime }: CardVerifierDeps): CardVerifier {
  async function look(
    signature: AgentCardSignature,
    given: GivenCard,
    texts: readonly Buffer[],
    keysAt: (url: string) => Promise<readonly JWK[]>,
  ): Promise<Finding> {
    const header = headerOf(signature);
    if (!header) return finding(INVALID, {}, "its protected header is no JSON object in base64url");
    const about = { keyId: header.kid, algorithm: header.alg };
    if (!ALGORITHMS.includes(header.alg)) {
      return finding(INVALID, about, `its algorithm is none of ${ALGORITHMS.join(", ")}`);
    }
    const known = named(trusted, header.kid);
    const byKnown = await verifiedBy(known, signature, header, texts);
    if (byKnown) return finding(VERIFIED, { ...about, ...byKnown }, "");
    const where = trustedKeySet(header.jku, given.cardUrl, allowPlainHttp);
    // Of a trusted key's name and not by it: somebody else's key may have that name as well.
    if ("problem" in where) return finding(known.length > 0 ? INVALID : UNTRUSTED, about, where.problem);
    let found: readonly JWK[];
    try {
      found = named(await keysAt(where.url), header.kid);
    } catch (error) {
      const why = error instanceof SignalboxError ? error.message : "it could not be read";
      return finding(known.length > 0 ? INVALID : UNTRUSTED, about, `the keys at its jku: ${why}`);
    }
    if (found.length === 0 && known.length === 0) {
      return finding(UNTRUSTED, about, "no key of that name is published at its jku");
    }
    const byFound = await verifiedBy(found, signature, header, texts);
    if (byFound) return finding(VERIFIED, { ...about, ...byFound }, "");
    return finding(INVALID, about, "it is not of this card, or not by that key");
  }

  return {
    async verify(given, signal) {
      const { signatures } = given.card;
      if (signatures.length === 0) return undefined;
      const texts = textsOf(given);
      const sets = new Map<string, Promise<readonly JWK[]>>();
      const keysAt = (url: string) => {
        const asked = sets.get(url) ?? cardKeys.fetch(url, { signal }).then(keysIn);
        sets.set(url, asked);
        return asked;
      };
      let worst: Finding | undefined;
      for (const signature of signatures.slice(0, MOST_SIGNATURES)) {
        const found = texts
          ? await look(signature, given, texts, keysAt)
          : finding(
              INVALID,
              {},
              "the card has no canonical form: a text of it is no Unicode, or it is nested too deeply",
            );
        signal.throwIfAborted();
        if (found.state === VERIFIED) return evidence(found, runtime.now());
        if (!worst || (found.state === INVALID && worst.state !== INVALID)) worst = found;
      }
      return worst && evidence(worst, runtime.now());
    },
  };
}

function textsOf({ card, json }: GivenCard): Buffer[] | undefined {
  try {
    return signedTexts(card, json).map((text) => Buffer.from(text));
  } catch {
    return undefined;
  }
}

interface Header {
  alg: string;
  kid: string;
  jku: string | undefined;
}

function headerOf(signature: AgentCardSignature): Header | undefined {
  try {
    const { alg, kid, jku } = decodeProtectedHeader({ protected: signature.protected }) as Record<string, unknown>;
    return {
      alg: typeof alg === "string" ? clip(alg, 32) : "",
      kid: typeof kid === "string" ? clip(kid, MAX_TEXT) : "",
      jku: typeof jku === "string" ? jku : undefined,
    };
  } catch {
    return undefined;
  }
}

/** Keys that a signature may be by: those of its name, and where it names none, all. */
const named = (keys: readonly JWK[], kid: string): readonly JWK[] =>
  kid === "" ? keys : keys.filter((key) => key.kid === kid);

/** A set of keys at the card's own host is its agent's; any other is anybody's. */
function trustedKeySet(
  jku: string | undefined,
  cardUrl: string | undefined,
  allowPlainHttp: boolean,
): { url: string } | { problem: string } {
  if (jku === undefined) return { problem: "its key is not known here, and it has no jku" };
  const [at, of] = [URL.parse(jku), cardUrl === undefined ? null : URL.parse(cardUrl)];
  if (!at || !(at.protocol === "https:" || (at.protocol === "http:" && allowPlainHttp))) {
    return { problem: "its jku is no https URL" };
  }
  if (!of || at.host !== of.host) return { problem: "its jku is not at the host of the card's URL" };
  // A card that came in the clear vouches for no more than its way does, and a key in the clear for less than TLS.
  if (of.protocol === "https:" && at.protocol !== "https:") return { problem: "its jku is no https URL" };
  return { url: at.href };
}

function keysIn(set: JsonValue): readonly JWK[] {
  const keys = typeof set === "object" && set !== null && !Array.isArray(set) ? set.keys : undefined;
  return Array.isArray(keys) ? (keys.filter(isPublicKey) as unknown as JWK[]).slice(0, MOST_KEYS) : [];
}

export const isPublicKey = (key: unknown): boolean =>
  typeof key === "object" && key !== null && ["EC", "RSA", "OKP"].includes((key as JWK).kty ?? "");

/** The first of the keys by which the signature is of one of the texts. */
async function verifiedBy(
  keys: readonly JWK[],
  { protected: header, signature }: AgentCardSignature,
  { alg }: Header,
  texts: readonly Buffer[],
): Promise<{ keyId: string; keyThumbprint: string } | undefined> {
  for (const key of keys) {
    for (const text of texts) {
      try {
        const payload = text.toString("base64url");
        await flattenedVerify({ payload, protected: header, signature }, await importJWK(key, alg), {
          algorithms: ALGORITHMS,
        });
        return { keyId: clip(key.kid ?? "", MAX_TEXT), keyThumbprint: await calculateJwkThumbprint(key) };
      } catch (error) {
        // Another text may be the one that was signed; a key that does not fit the algorithm fits none.
        if (!(error instanceof errors.JWSSignatureVerificationFailed)) break;
      }
    }
  }
  return undefined;
}

const finding = (state: CardSignatureState, about: Partial<Finding>, problem: string): Finding => ({
  keyId: "",
  keyThumbprint: "",
  algorithm: "",
  ...about,
  state,
  problem,
});

const evidence = (found: Finding, now: Date): CardSignature =>
  create(CardSignatureSchema, { ...found, problem: clip(found.problem, 512), checkTime: timestampFromDate(now) });

/** Whether two look-ups came to the same, whenever they were made. */
export const isSameEvidence = (a: CardSignature | undefined, b: CardSignature | undefined): boolean =>
  a?.state === b?.state &&
  a?.keyId === b?.keyId &&
  a?.keyThumbprint === b?.keyThumbprint &&
  a?.algorithm === b?.algorithm;
