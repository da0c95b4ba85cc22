/**
 * The header X-Forwarded-Client-Cert, with which a proxy tells whose certificate it has seen. Elements are separated by commas, each
 * of pairs `key=value` that are separated by semicolons; a value in double quotes escapes with a backslash. That is how Envoy
 * writes it; nginx hands on a certificate, alone or as `Cert`. Pure.
 */
import { invalidCredential } from "./errors.ts";

export const FORWARDED_CERTIFICATE_HEADER = "x-forwarded-client-cert";

/** What the last proxy says of its client. */
export interface ForwardedCertificate {
  /** What `URI` says: once for each URI of the certificate. */
  readonly uris: readonly string[];
  /** The certificate itself, in PEM, where it was handed on. */
  readonly pem: string | undefined;
}

/** Most characters of the header, and most elements. */
const MAX_LENGTH = 32_768;
const MAX_ELEMENTS = 64;

/** A certificate alone, as nginx has it in `$ssl_client_escaped_cert`. */
const BARE_PEM = /^-----BEGIN%20CERTIFICATE-----[A-Za-z0-9%+/=._~-]*$/;

/**
 * The last element: the one that the proxy has added which is connected to this server. Those before it came to that proxy, and
 * whoever called it may have written them. Undefined where the header is empty.
 *
 * @throws SignalboxError CREDENTIAL_INVALID where any part of it is malformed.
 */
export function lastForwarded(header: string): ForwardedCertificate | undefined {
  if (header.length > MAX_LENGTH) throw malformed(`it is longer than ${MAX_LENGTH} characters`);
  const text = header.trim();
  if (text === "") return undefined;
  if (BARE_PEM.test(text)) return { uris: [], pem: decoded(text) };

  let last: Pair[] = [];
  let elements = 0;
  for (let at = 0; at <= text.length; ) {
    elements += 1;
    if (elements > MAX_ELEMENTS) throw malformed(`it has more than ${MAX_ELEMENTS} elements`);
    last = [];
    for (;;) {
      const pair = readPair(text, at);
      last.push(pair);
      at = pair.end + 1;
      if (text[pair.end] !== ";") break;
    }
  }
  return forwarded(last);
}

interface Pair {
  /** In lower case. */
  readonly key: string;
  readonly value: string;
  /** Where the separator after it stands, or the end. */
  readonly end: number;
}

function readPair(text: string, from: number): Pair {
  const equals = text.indexOf("=", from);
  const key = equals < 0 ? "" : text.slice(from, equals).trim().toLowerCase();
  if (!/^[a-z][a-z0-9-]{0,31}$/.test(key)) throw malformed("a key is missing");
  return text[equals + 1] === '"' ? readQuoted(text, key, equals + 2) : readPlain(text, key, equals + 1);
}

function readPlain(text: string, key: string, from: number): Pair {
  let end = from;
  for (; end < text.length; end++) {
    const char = text[end]!;
    if (char === "," || char === ";") break;
    if (char === '"' || isControl(char)) throw malformed("a value needs quotes");
  }
  return { key, value: text.slice(from, end).trim(), end };
}

function readQuoted(text: string, key: string, from: number): Pair {
  let value = "";
  let at = from;
  for (; text[at] !== '"'; at++) {
    if (text[at] === "\\") at += 1;
    const char = text[at];
    if (char === undefined || isControl(char))
      throw malformed("a quoted value has no end, or holds a control character");
    value += char;
  }
  let end = at + 1;
  while (text[end] === " " || text[end] === "\t") end += 1;
  if (end < text.length && text[end] !== "," && text[end] !== ";") throw malformed("something follows a quoted value");
  return { key, value, end };
}

const isControl = (char: string): boolean => char < " " || char === "\x7f";

function forwarded(pairs: readonly Pair[]): ForwardedCertificate {
  const valuesOf = (wanted: string) =>
    pairs.filter(({ key, value }) => key === wanted && value !== "").map(({ value }) => value);
  const certificates = valuesOf("cert");
  if (certificates.length > 1) throw malformed("it has several certificates");
  const [certificate] = certificates;
  return { uris: valuesOf("uri"), pem: certificate === undefined ? undefined : decoded(certificate) };
}

function decoded(escaped: string): string {
  try {
    return decodeURIComponent(escaped);
  } catch (cause) {
    throw malformed("its certificate is not percent-encoded", cause);
  }
}

const malformed = (why: string, cause?: unknown) =>
  invalidCredential(`the header ${FORWARDED_CERTIFICATE_HEADER} of a trusted proxy is malformed: ${why}.`, {}, cause);
