/** Requests that are signed with a key which is never sent (RFC 9421). None counts twice, whichever server it comes to. */
import { invalidCredential } from "../../domain/identity/errors.ts";
import {
  checkContent,
  isSignedWith,
  type RequestSignature,
  readSignature,
} from "../../domain/identity/http-signature.ts";
import { isKeyId } from "../../domain/identity/key-token.ts";
import type { NonceRepository } from "../../store/nonce-repository.ts";
import type { Runtime } from "../runtime.ts";
import type { Credentials, Identity, Scheme } from "./credentials.ts";
import { hasEnded, type KnownKeys } from "./known-keys.ts";

/** So much longer than its request is good a nonce is kept, in milliseconds: clocks of servers differ. */
const NONCE_MARGIN_MS = 300_000;

export interface SignatureSchemeDeps {
  keys: Pick<KnownKeys, "find" | "used">;
  nonces: Pick<NonceRepository, "take">;
  runtime: Pick<Runtime, "now">;
  /** How far the time of a request may lie from the server's, in seconds. */
  windowSeconds: number;
}

export function createSignatureScheme({ keys, nonces, runtime, windowSeconds }: SignatureSchemeDeps): Scheme {
  async function identify(credentials: Credentials): Promise<Identity> {
    const signature = readSignature(credentials);
    checkTime(signature);
    checkContent(credentials, signature, credentials.contentDigest());
    const { keyId, nonce, created } = signature;
    const key = isKeyId(keyId) ? await keys.find(keyId) : undefined;
    // The same work and the same words, whether there is such a key or not.
    const isRight = isSignedWith(signature, key?.signingSecret ?? NO_SECRET);
    if (!key || key.signingSecret === undefined || !isRight || hasEnded(key, runtime)) throw invalidCredential(REFUSED);
    const expiresAt = new Date((created + windowSeconds) * 1_000 + NONCE_MARGIN_MS);
    // Only of a signature that is right: nobody else's are stored.
    if (!(await nonces.take({ keyId, nonce, expiresAt }))) throw invalidCredential(REPLAYED);
    keys.used(key);
    return key.identity;
  }

  function checkTime({ created, expires }: RequestSignature): void {
    const now = Math.floor(runtime.now().getTime() / 1_000);
    if (Math.abs(now - created) > windowSeconds) {
      throw invalidCredential(
        `it was signed at ${created}, and this server's clock says ${now}: more than ${windowSeconds} seconds lie between them. Set your clock, and sign each call anew.`,
      );
    }
    if (expires !== undefined && expires <= now)
      throw invalidCredential("its signature has expired. Sign each call anew.");
  }

  return {
    identify: (credentials) => (credentials.header("signature-input") === null ? undefined : identify(credentials)),
  };
}

/** Nobody signs with it: a signature by it is right for no key. */
const NO_SECRET = "signalbox: no key has this secret.........";

const REFUSED =
  "its signature is not that of the request which arrived, or no key that signs has such an id, or the key has expired or was revoked.";
const REPLAYED = "its nonce was used before. Sign each call anew, with a nonce of its own.";
