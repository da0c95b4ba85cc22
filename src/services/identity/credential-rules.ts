/** What a credential of an agent must be like. What is wrong is told without repeating a secret. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import type {
  ApiKeyCredential,
  HmacCredential,
  MutualTlsCredential,
  OAuth2Credential,
  OidcCredential,
} from "../../../gen/signalbox/v1/registry_pb.ts";
import type { FieldViolation } from "../../domain/errors.ts";
import type { GivenKind } from "../../domain/identity/agent-credential.ts";
import { listViolations, MAX_URI_LENGTH } from "../../domain/message-rules.ts";

/** Header of an API key that names none. */
export const DEFAULT_KEY_HEADER = "X-API-Key";

/** Longest token, key, and secret, in characters. */
const MAX_TOKEN = 8_192;
const MAX_SECRET = 4_096;
const MAX_NAME = 512;
/** Secrets that sign, in bytes. */
const HMAC_BYTES = { least: 16, most: 512 };
const MAX_SCOPES = 100;
const MAX_SCOPE = 256;
/** Of PEM, in characters; certificates in a chain, and authorities. */
const MAX_CHAIN = 65_536;
const MAX_KEY = 16_384;
const MAX_AUTHORITIES = 262_144;
const MOST_IN_CHAIN = 10;
const MOST_AUTHORITIES = 100;

/** Headers that say how a request is to be read, where it goes, or what this router says itself. */
const RESERVED_HEADERS =
  /^(?:host|connection|keep-alive|te|trailer|upgrade|expect|via|date|range|origin|referer|forwarded|user-agent|traceparent|tracestate|baggage|signature|signature-input|transfer-encoding|set-cookie|last-event-id|(?:content|accept|if|sec|proxy|grpc|a2a|signalbox|x-forwarded|access-control)(?:-.*)?)$/i;

type Found = readonly FieldViolation[];

/** `at` is the path of the credential in its request. */
export function credentialViolations(kind: GivenKind, at: string, now: Date): Found {
  const field = `${at}.${kind.case}`;
  switch (kind.case) {
    case "bearer":
      return token(`${field}.token`, kind.value.token);
    case "apiKey":
      return apiKey(field, kind.value);
    case "hmac":
      return hmac(field, kind.value);
    case "oauth2":
    case "oidc":
      return client(field, kind.value);
    case "mutualTls":
      return mutualTls(field, kind.value, now);
  }
}

const NONE: Found = [];

const rule = (isBroken: boolean, field: string, description: string): Found =>
  isBroken ? [{ field, description }] : NONE;

const token = (field: string, text: string): Found =>
  rule(
    !isText(text, /^[\x21-\x7e]+$/, MAX_TOKEN),
    field,
    `must be 1 to ${MAX_TOKEN} visible ASCII characters, no spaces`,
  );

const isText = (text: string, of: RegExp, max: number): boolean => text.length <= max && of.test(text);

function apiKey(at: string, { header, key }: ApiKeyCredential): Found {
  return [
    // gRPC carries bytes, in base64, in headers that end in -bin.
    ...rule(
      header !== "" && (!isText(header, /^[A-Za-z0-9][A-Za-z0-9_.-]*$/, 128) || /-bin$/i.test(header)),
      `${at}.header`,
      "must be the name of a header: letters, digits, - _ and ., 128 at most, not ending in -bin",
    ),
    ...rule(RESERVED_HEADERS.test(header), `${at}.header`, "is a header that has a meaning of its own; take another"),
    ...rule(
      !isText(key, /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/, MAX_TOKEN),
      `${at}.key`,
      `must be 1 to ${MAX_TOKEN} visible ASCII characters, with no space at either end`,
    ),
  ];
}

function hmac(at: string, { keyId, secret }: HmacCredential): Found {
  const bytes = Buffer.from(secret, "base64");
  const isBase64 = bytes.toString("base64").replace(/=+$/, "") === toBase64(secret).replace(/=+$/, "");
  const { least, most } = HMAC_BYTES;
  return [
    ...rule(
      !isText(keyId, /^[\x21\x23-\x5b\x5d-\x7e]+$/, 256),
      `${at}.keyId`,
      'must be 1 to 256 visible ASCII characters, without spaces, " and \\',
    ),
    ...rule(
      !isBase64 || bytes.length < least || bytes.length > most,
      `${at}.secret`,
      `must be base64 of ${least} to ${most} bytes`,
    ),
  ];
}

const toBase64 = (text: string): string => text.replaceAll("-", "+").replaceAll("_", "/");

/** Where its tokens come from is checked by who fetches them. */
function client(at: string, { clientId, clientSecret, scopes, resource }: OAuth2Credential | OidcCredential): Found {
  const url = resource === "" ? undefined : URL.parse(resource);
  return [
    ...rule(
      !isText(clientId, /^[\x20-\x7e]+$/, MAX_NAME),
      `${at}.clientId`,
      `must be 1 to ${MAX_NAME} ASCII characters`,
    ),
    ...rule(
      !isText(clientSecret, /^[\x20-\x7e]+$/, MAX_SECRET),
      `${at}.clientSecret`,
      `must be 1 to ${MAX_SECRET} ASCII characters`,
    ),
    ...listViolations(`${at}.scopes`, scopes, MAX_SCOPES, (field, scope) =>
      rule(
        !isText(scope, /^[\x21\x23-\x5b\x5d-\x7e]+$/, MAX_SCOPE),
        field,
        `must be 1 to ${MAX_SCOPE} visible ASCII characters, without spaces, " and \\`,
      ),
    ),
    ...rule(
      resource !== "" && (url?.hash !== "" || !isText(resource, /^[\x21-\x7e]+$/, MAX_URI_LENGTH)),
      `${at}.resource`,
      `must be an absolute URI without a fragment, ${MAX_URI_LENGTH} characters at most`,
    ),
  ];
}

function mutualTls(
  at: string,
  { certificateChain, privateKey, certificateAuthorities }: MutualTlsCredential,
  now: Date,
): Found {
  const chain = certificatesIn(certificateChain, MAX_CHAIN, MOST_IN_CHAIN);
  const authorities =
    certificateAuthorities === "" ? [] : certificatesIn(certificateAuthorities, MAX_AUTHORITIES, MOST_AUTHORITIES);
  const key = keyIn(privateKey);
  const [own] = chain ?? [];
  const found = [
    ...rule(
      !own,
      `${at}.certificateChain`,
      `must be PEM of 1 to ${MOST_IN_CHAIN} certificates, the router's own first`,
    ),
    ...rule(
      !authorities,
      `${at}.certificateAuthorities`,
      `must be PEM of 1 to ${MOST_AUTHORITIES} certificates, or be left out`,
    ),
    ...rule(!key, `${at}.privateKey`, "must be PEM of a private key that is not encrypted"),
  ];
  if (!own || !key) return found;
  return [
    ...found,
    ...rule(!own.checkPrivateKey(key), `${at}.privateKey`, "is not the key of the first certificate"),
    ...rule(own.validToDate <= now, `${at}.certificateChain`, `the first certificate has expired: ${own.validTo}`),
  ];
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** Undefined where the text is no PEM of so many. */
function certificatesIn(pem: string, maxLength: number, most: number): X509Certificate[] | undefined {
  if (pem.length > maxLength) return undefined;
  const blocks = pem.match(CERTIFICATE) ?? [];
  if (blocks.length === 0 || blocks.length > most) return undefined;
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch {
    return undefined;
  }
}

function keyIn(pem: string): KeyObject | undefined {
  if (pem.length > MAX_KEY || !pem.includes("-----BEGIN ")) return undefined;
  try {
    return createPrivateKey(pem);
  } catch {
    return undefined;
  }
}
