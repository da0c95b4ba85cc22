/** What the signatures of an agent's card are worth, in a word. Pure. */
import { type CardSignature, CardSignatureState } from "../../gen/signalbox/v1/registry_pb.ts";

/** As policies, the audit log and people call it; NONE where the card has none. */
export const SIGNATURE_WORDS = ["NONE", "VERIFIED", "UNTRUSTED", "INVALID"] as const;

export type SignatureWord = (typeof SIGNATURE_WORDS)[number];

const WORDS: ReadonlyMap<number, SignatureWord> = new Map([
  [CardSignatureState.VERIFIED, "VERIFIED"],
  [CardSignatureState.UNTRUSTED, "UNTRUSTED"],
  [CardSignatureState.INVALID, "INVALID"],
]);

/** A state that this version does not know is as good as none. */
export const signatureWord = (signature: CardSignature | undefined): SignatureWord =>
  (signature && WORDS.get(signature.state)) ?? "NONE";
