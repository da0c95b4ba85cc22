/** API keys that are sent with each call: `Authorization: Bearer sbx_...`, or `X-API-Key: sbx_...`. */
import { invalidCredential } from "../../domain/identity/errors.ts";
import {
  matchesSecret,
  NO_SECRET_HASH,
  parseKeyToken,
  secretHash,
  TOKEN_PREFIX,
} from "../../domain/identity/key-token.ts";
import { HOME_WORKSPACE } from "../../domain/identity/principal.ts";
import type { Runtime } from "../runtime.ts";
import type { Credentials, Identity, Scheme } from "./credentials.ts";
import { hasEnded, type KnownKey, type KnownKeys } from "./known-keys.ts";

export interface KeySchemeDeps {
  keys: Pick<KnownKeys, "find" | "used">;
  runtime: Pick<Runtime, "now">;
}

/** Whom the first key, and the one in `auth.admin-key`, belong to. */
export const ADMIN_PRINCIPAL = "admin";

export function createKeyScheme({ keys, runtime }: KeySchemeDeps): Scheme {
  /** The same work and the same words, whatever is wrong. */
  function check(secret: string, key: KnownKey | undefined): Identity {
    const isRight = matchesSecret(secret, key?.secretHash ?? NO_SECRET_HASH);
    if (!key || !isRight || hasEnded(key, runtime)) throw invalidCredential(REFUSED);
    keys.used(key);
    return key.identity;
  }

  return {
    identify(credentials) {
      const given = tokenOf(credentials);
      if (given === undefined) return undefined;
      const token = parseKeyToken(given);
      if (!token) throw invalidCredential(REFUSED);
      const found = keys.find(token.keyId);
      return found instanceof Promise ? found.then((key) => check(token.secret, key)) : check(token.secret, found);
    },
  };
}

const REFUSED =
  "no API key is like it, or it has expired, or it was revoked. A key that signs is not sent: sign with it (signalbox sign, SIGNALBOX_SIGNING_KEY).";

const BEARER = /^bearer +(\S+)$/i;

/** What is sent as a key, well formed or not. */
function tokenOf(credentials: Credentials): string | undefined {
  const authorization = credentials.header("authorization");
  if (authorization === null) return credentials.header("x-api-key")?.trim();
  const bearer = BEARER.exec(authorization.trim())?.[1];
  return bearer?.startsWith(TOKEN_PREFIX) ? bearer : undefined;
}

/** The key that `auth.admin-key` names. It needs no database. Undefined where there is none. */
export function adminKey(token: string | undefined): KnownKey | undefined {
  const parsed = token === undefined ? undefined : parseKeyToken(token);
  return (
    parsed && {
      keyId: parsed.keyId,
      identity: {
        id: ADMIN_PRINCIPAL,
        authentication: "api-key",
        actors: [],
        granted: { workspaceId: HOME_WORKSPACE, roles: ["admin"], scopes: [] },
      },
      secretHash: secretHash(parsed.secret),
      signingSecret: undefined,
      endsAtMs: Number.POSITIVE_INFINITY,
    }
  );
}
