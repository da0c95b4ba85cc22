/** Signs the cards that this server serves (A2A specification, section 8.4), and publishes with what. */
import { hash, type KeyObject } from "node:crypto";
import { calculateJwkThumbprint, exportJWK, FlattenedSign, type JWK } from "jose";
import type { AgentCard, AgentCardSignature } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { signedTexts } from "../domain/card-payload.ts";

/** Keys that cards are signed with: private ones, on the curve P-256. */
export interface CardKeys {
  readonly key: KeyObject | undefined;
  /** The one before: it signs nothing more, and is published. */
  readonly previous: KeyObject | undefined;
}

export interface CardSigner {
  /** The card with its signatures; as it is where there is no key. Equal cards are signed once. */
  sign(card: AgentCard): Promise<AgentCard>;
  /** The public keys, the one that signs first: a JWK Set (RFC 7517, section 5). */
  readonly keySet: { readonly keys: readonly JWK[] };
}

/** Signatures that are remembered, of so many cards. */
const MOST_KEPT = 2_000;

export interface CardSignerDeps extends CardKeys {
  /** Where the public keys are served. Known once the listeners are open. */
  readonly jku: () => string;
}

export async function createCardSigner({ key, previous, jku }: CardSignerDeps): Promise<CardSigner> {
  const current = key && (await publicJwk(key));
  const before = previous && (await publicJwk(previous));
  /** By what is signed, and what it says of where the key is; those used last are at the end. */
  const kept = new Map<string, Promise<AgentCardSignature[]>>();

  async function signaturesOver(texts: readonly string[], privateKey: KeyObject, kid: string, at: string) {
    const header = { alg: "ES256", typ: "JOSE", kid, jku: at };
    const made: AgentCardSignature[] = [];
    for (const text of texts) {
      const signed = await new FlattenedSign(Buffer.from(text)).setProtectedHeader(header).sign(privateKey);
      made.push({
        $typeName: "lf.a2a.v1.AgentCardSignature",
        protected: signed.protected ?? "",
        signature: signed.signature,
      });
    }
    return made;
  }

  return {
    keySet: { keys: [...(current ? [current] : []), ...(before && before.kid !== current?.kid ? [before] : [])] },
    async sign(card) {
      if (!key || !current?.kid) return card;
      const texts = signedTexts(card);
      const at = jku();
      const about = hash("sha256", `${at} ${texts[0]}`);
      let signatures = kept.get(about);
      kept.delete(about);
      signatures ??= signaturesOver(texts, key, current.kid, at);
      kept.set(about, signatures);
      if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value!);
      return { ...card, signatures: await signatures };
    },
  };
}

/** Named by its thumbprint (RFC 7638). */
async function publicJwk(key: KeyObject): Promise<JWK> {
  const { kty, crv, x, y } = await exportJWK(key);
  const jwk = { kty: kty!, crv: crv!, x: x!, y: y! };
  return { ...jwk, kid: await calculateJwkThumbprint(jwk), alg: "ES256", use: "sig" };
}
