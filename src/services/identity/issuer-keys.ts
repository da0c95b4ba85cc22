/** The keys of one issuer: fetched when a token asks for them, kept, and fetched anew as the issuer changes them. */
import { type CryptoKey, importJWK } from "jose";
import type { Logger } from "pino";
import { SignalboxError } from "../../domain/errors.ts";
import type { Runtime } from "../runtime.ts";
import type { KeySetFetcher, PublishedKey } from "./key-set-port.ts";

/** For how long keys are taken as they are, in milliseconds. Then they are fetched anew while they still count. */
const FRESH_MS = 5 * 60_000;
/** For how long keys count while their issuer does not answer. */
const USABLE_MS = 60 * 60_000;
/** The least time between two fetches, whatever tokens name. */
const REST_MS = 30_000;
/** Keys that are tried for a token that names none, or of which several have the name. */
const MOST_TRIED = 4;
/** RSA keys of 2048 to 8192 bits, in base64url, and exponents of 32. */
const MIN_MODULUS_LENGTH = 342;
const MAX_MODULUS_LENGTH = 1_366;
const MAX_EXPONENT_LENGTH = 6;

/** What a token says of its key. */
export interface WantedKey {
  readonly alg: string;
  readonly kid: string | undefined;
}

export interface IssuerKeys {
  /**
   * The keys that may have signed a token: those that fit its algorithm, and the name if it has one. Where there is none, the issuer is
   * asked anew first, if it was not asked in the last 30 s.
   *
   * @throws SignalboxError ISSUER_UNAVAILABLE where no keys are known that still count.
   */
  find(wanted: WantedKey): Promise<readonly CryptoKey[]>;
  /** Asks the issuer anew, if it was not asked in the last 30 s. False: nothing new is known. */
  renew(): Promise<boolean>;
}

export interface IssuerKeysDeps {
  issuer: string;
  fetcher: KeySetFetcher;
  runtime: Pick<Runtime, "elapsedMs">;
  log: Logger;
}

interface KeySet {
  readonly keys: readonly PublishedKey[];
  readonly fetchedAt: number;
  /** Ready for use, by their place and algorithm; undefined: such a key cannot be used. */
  readonly ready: Map<string, Promise<CryptoKey | undefined>>;
}

export function createIssuerKeys({ issuer, fetcher, runtime, log }: IssuerKeysDeps): IssuerKeys {
  let set: KeySet | undefined;
  let fetching: Promise<boolean> | undefined;
  let triedAt = Number.NEGATIVE_INFINITY;

  const age = () => (set ? runtime.elapsedMs() - set.fetchedAt : Number.POSITIVE_INFINITY);

  async function fetchNow(): Promise<boolean> {
    try {
      const keys = await fetcher.fetch(issuer);
      set = { keys, fetchedAt: runtime.elapsedMs(), ready: new Map() };
      return true;
    } catch (err) {
      log.warn({ err, issuer, hasKeys: age() < USABLE_MS }, "the keys of an issuer of tokens could not be fetched");
      return false;
    } finally {
      fetching = undefined;
    }
  }

  async function renew(): Promise<boolean> {
    if (fetching) return fetching;
    if (runtime.elapsedMs() - triedAt < REST_MS) return false;
    triedAt = runtime.elapsedMs();
    fetching = fetchNow();
    return fetching;
  }

  async function usable(): Promise<KeySet> {
    if (age() >= USABLE_MS) await renew();
    else if (age() >= FRESH_MS) void renew();
    if (!set || age() >= USABLE_MS) throw issuerUnavailable(REST_MS - (runtime.elapsedMs() - triedAt));
    return set;
  }

  return {
    async find(wanted) {
      const asked = await usable();
      const found = await fitting(asked, wanted);
      if (found.length > 0 || (set === asked && !(await renew()))) return found;
      return fitting(await usable(), wanted);
    },
    renew,
  };
}

async function fitting({ keys, ready }: KeySet, wanted: WantedKey): Promise<CryptoKey[]> {
  const found: CryptoKey[] = [];
  for (let i = 0; i < keys.length && found.length < MOST_TRIED; i++) {
    const material = fits(keys[i]!, wanted) ? materialFor(keys[i]!, wanted.alg) : undefined;
    if (!material) continue;
    const name = `${i} ${wanted.alg}`;
    let key = ready.get(name);
    if (!key) {
      key = importJWK(material, wanted.alg).then(
        (imported) => (imported instanceof Uint8Array ? undefined : imported),
        () => undefined,
      );
      ready.set(name, key);
    }
    const imported = await key;
    if (imported) found.push(imported);
  }
  return found;
}

/** Whether what a key says of itself (RFC 7517, section 4) lets it verify such a token. */
function fits({ kid, alg, use, key_ops: operations }: PublishedKey, wanted: WantedKey): boolean {
  return (
    (wanted.kid === undefined || kid === wanted.kid) &&
    (alg === undefined || alg === wanted.alg) &&
    (use === undefined || use === "sig") &&
    (operations === undefined || (Array.isArray(operations) && operations.includes("verify")))
  );
}

const CURVES: Readonly<Record<string, string>> = { ES256: "P-256", ES384: "P-384", ES512: "P-521", EdDSA: "Ed25519" };

/**
 * The public parts of a key, if it is one for the algorithm: an algorithm has one type of key, and of elliptic curves one curve. So no
 * key is ever taken for what it is not, and a secret is no key at all.
 */
function materialFor({ kty, crv, n, e, x, y }: PublishedKey, alg: string): Record<string, string> | undefined {
  if (/^[RP]S\d{3}$/.test(alg)) {
    if (kty !== "RSA" || typeof n !== "string" || typeof e !== "string") return undefined;
    const isOfUse = n.length >= MIN_MODULUS_LENGTH && n.length <= MAX_MODULUS_LENGTH && e.length <= MAX_EXPONENT_LENGTH;
    return isOfUse ? { kty, n, e } : undefined;
  }
  if (crv === undefined || crv !== CURVES[alg] || typeof crv !== "string" || typeof x !== "string") return undefined;
  if (alg === "EdDSA") return kty === "OKP" ? { kty, crv, x } : undefined;
  return kty === "EC" && typeof y === "string" ? { kty, crv, x, y } : undefined;
}

const issuerUnavailable = (retryAfterMs: number) =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "ISSUER_UNAVAILABLE",
    message: "The issuer of this call's token does not tell its keys at the moment, so the token cannot be checked.",
    retryAfterMs: Math.max(1_000, Math.ceil(retryAfterMs)),
  });
