/** Tokens of issuers: `Authorization: Bearer` with a JWT (RFC 7519, RFC 9068), checked as RFC 8725 wants it. */
import { hash } from "node:crypto";
import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from "jose";
import type { Logger } from "pino";
import { queueFull } from "../../domain/errors.ts";
import { invalidCredential } from "../../domain/identity/errors.ts";
import { actorsOf, type Claims, type GrantingClaims, grantOf, subjectOf } from "../../domain/identity/token-claims.ts";
import type { Runtime } from "../runtime.ts";
import type { Credentials, Identity, Scheme } from "./credentials.ts";
import { createIssuerKeys, type IssuerKeys, type WantedKey } from "./issuer-keys.ts";
import type { KeySetFetcher } from "./key-set-port.ts";
import { createRecentlyUsed } from "./recently-used.ts";

export interface TokenSchemeOptions {
  /** Exactly as tokens name them. */
  issuers: readonly string[];
  /** One of these a token must be meant for. */
  audience: readonly string[];
  /** Of signatures with public keys. */
  algorithms: readonly string[];
  clockSkewSeconds: number;
  /** Undefined: what a token may do is what its subject is a member of. */
  granting: GrantingClaims | undefined;
  /** Scopes that a token can give. */
  knownScopes: ReadonlySet<string>;
  fetcher: KeySetFetcher;
  runtime: Pick<Runtime, "now" | "elapsedMs">;
  log: Logger;
}

/** Most characters of a token. */
const MAX_TOKEN_LENGTH = 8_192;
/** Tokens that are known to be good, by their SHA-256, and for how long at most, in milliseconds. */
const MOST_KNOWN = 10_000;
const KNOWN_MS = 60_000;
/** Tokens that are being checked, be it that their issuer's keys are waited for. */
const MOST_CHECKED = 1_000;
const MAX_KEY_NAME_LENGTH = 512;

/** What keys of this server begin with: they are no tokens. */
const KEY_PREFIX = "sbx_";
const TYPES: ReadonlySet<string> = new Set(["jwt", "at+jwt", "application/jwt", "application/at+jwt"]);

interface KnownToken {
  readonly identity: Identity;
  /** In milliseconds since 1970. */
  readonly until: number;
}

/** A token that was checked lately is answered for without a promise, by the same identity. */
export function createTokenScheme(options: TokenSchemeOptions): Scheme {
  const { issuers, fetcher, runtime, log, granting, knownScopes } = options;
  const keysOf = new Map<string, IssuerKeys>(
    issuers.map((issuer) => [issuer, createIssuerKeys({ issuer, fetcher, runtime, log })]),
  );
  const names = new Set(issuers);
  const algorithms = new Set(options.algorithms);
  const skewMs = options.clockSkewSeconds * 1_000;
  const known = createRecentlyUsed<KnownToken>(MOST_KNOWN);
  const checking = new Map<string, Promise<Identity>>();

  /** What a token says of itself, before anything of it is believed. */
  function announced(token: string): { issuer: string; keys: IssuerKeys; wanted: WantedKey } {
    let header: ReturnType<typeof decodeProtectedHeader>;
    let issuer: unknown;
    try {
      header = decodeProtectedHeader(token);
      issuer = decodeJwt(token).iss;
    } catch (cause) {
      throw invalidCredential("what follows Bearer is neither a key of this server nor a token (JWT).", {}, cause);
    }
    const { alg, kid, typ, crit } = header;
    if (alg === undefined || !algorithms.has(alg))
      throw invalidCredential("its token is signed with an algorithm that does not count here.");
    if (crit !== undefined)
      throw invalidCredential("the header of its token wants what this server does not know (crit).");
    if (typ !== undefined && !(typeof typ === "string" && TYPES.has(typ.toLowerCase()))) {
      throw invalidCredential("its token is of a type (typ) that is not for calls.");
    }
    if (kid !== undefined && (typeof kid !== "string" || kid.length > MAX_KEY_NAME_LENGTH)) {
      throw invalidCredential("the header of its token names no key (kid) that there can be.");
    }
    const keys = typeof issuer === "string" ? keysOf.get(issuer) : undefined;
    if (!keys) throw invalidCredential("its token is of an issuer (iss) that does not count here.");
    return { issuer: issuer as string, keys, wanted: { alg, kid } };
  }

  /** The claims, if one of the keys has signed them; undefined if none has. */
  async function signedBy(token: string, issuer: string, keys: IssuerKeys, wanted: WantedKey) {
    for (const key of await keys.find(wanted)) {
      try {
        const { payload } = await jwtVerify(token, key, {
          algorithms: [wanted.alg],
          issuer,
          audience: [...options.audience],
          clockTolerance: options.clockSkewSeconds,
          currentDate: runtime.now(),
          requiredClaims: ["exp"],
        });
        return payload;
      } catch (error) {
        if (!(error instanceof errors.JWSSignatureVerificationFailed))
          throw invalidCredential(whyNot(error), {}, error);
      }
    }
    return undefined;
  }

  async function check(token: string, digest: string): Promise<Identity> {
    const { issuer, keys, wanted } = announced(token);
    let claims = await signedBy(token, issuer, keys, wanted);
    // Where keys have no names, only this tells that they have changed.
    if (!claims && wanted.kid === undefined && (await keys.renew()))
      claims = await signedBy(token, issuer, keys, wanted);
    if (!claims) throw invalidCredential("its token is not signed with a key that its issuer publishes.");
    const expiresAt = checkTimes(claims, runtime.now().getTime() + skewMs) + skewMs;
    const identity = identityOf(issuer, claims);
    known.set(digest, { identity, until: Math.min(expiresAt, runtime.now().getTime() + KNOWN_MS) });
    return identity;
  }

  function identityOf(issuer: string, claims: Claims): Identity {
    const granted = granting && grantOf(claims, granting, knownScopes);
    return {
      id: subjectOf(issuer, claims),
      authentication: "jwt",
      actors: actorsOf(issuer, claims, names),
      ...(granted && { granted }),
    };
  }

  return {
    identify(credentials) {
      const token = bearerToken(credentials);
      if (token === undefined || token.startsWith(KEY_PREFIX)) return undefined;
      if (token.length > MAX_TOKEN_LENGTH) {
        throw invalidCredential(`its token is longer than ${MAX_TOKEN_LENGTH} characters.`);
      }
      const digest = hash("sha256", token, "base64url");
      const found = known.get(digest);
      if (found && found.until > runtime.now().getTime()) return found.identity;
      let checked = checking.get(digest);
      if (!checked) {
        if (checking.size >= MOST_CHECKED) throw queueFull("tokens to check");
        checked = check(token, digest).finally(() => checking.delete(digest));
        checking.set(digest, checked);
      }
      return checked;
    },
  };
}

const BEARER = "bearer ";

function bearerToken(credentials: Credentials): string | undefined {
  const header = credentials.header("authorization");
  if (header === null || header.slice(0, BEARER.length).toLowerCase() !== BEARER) return undefined;
  return header.slice(BEARER.length).trim();
}

/** When a token expires, in milliseconds. What jose checked is not checked again. */
function checkTimes({ exp, iat }: JWTPayload, latestMs: number): number {
  if (exp === undefined || !Number.isFinite(exp))
    throw invalidCredential("its token does not say when it expires (exp).");
  if (iat !== undefined && !(Number.isFinite(iat) && iat * 1_000 <= latestMs)) {
    throw invalidCredential("its token says that it was issued in the future (iat).");
  }
  return exp * 1_000;
}

function whyNot(error: unknown): string {
  if (error instanceof errors.JWTExpired) return "its token has expired (exp).";
  if (!(error instanceof errors.JWTClaimValidationFailed)) return "its token is malformed.";
  switch (error.claim) {
    case "aud":
      return "its token is not meant for this server (aud).";
    case "nbf":
      return "its token is not valid yet (nbf).";
    case "exp":
      return "its token does not say when it expires (exp).";
    default:
      return `the claim ${error.claim} of its token does not hold.`;
  }
}
