/** What the certificate of a client says of who it is, and whether that counts. */
import { X509Certificate } from "node:crypto";
import { invalidCredential } from "../../domain/identity/errors.ts";
import { claimsSpiffe, parseSpiffeId, spiffePrincipal } from "../../domain/identity/spiffe-id.ts";

/** What of a certificate tells who has it. */
export interface WorkloadCertificate {
  /** Its URIs, from the subject alternative names. */
  readonly uris: readonly string[];
  /** Whether it signs others. */
  readonly isAuthority: boolean;
  /** In milliseconds since 1970. */
  readonly validFrom: number;
  readonly validTo: number;
}

/** Which SPIFFE IDs count. */
export interface WorkloadRules {
  readonly trustDomains: ReadonlySet<string>;
  /** Longest time that a certificate may have been issued for, in milliseconds. Infinity when there is no limit. */
  readonly maxCertificateMs: number;
}

/** Reads a certificate, DER or PEM. Undefined for what is none, or of which the names cannot be read. */
export function readCertificate(bytes: Uint8Array | string): WorkloadCertificate | undefined {
  try {
    const certificate = new X509Certificate(bytes);
    const uris = urisIn(certificate.subjectAltName ?? "");
    return (
      uris && {
        uris,
        isAuthority: certificate.ca,
        validFrom: certificate.validFromDate.getTime(),
        validTo: certificate.validToDate.getTime(),
      }
    );
  } catch {
    return undefined;
  }
}

/** Node writes `kind:value, kind:value`, and a value as JSON that could be taken for more than one. */
const ALTERNATIVE_NAME = /([A-Za-z][A-Za-z0-9 ]*):("(?:[^"\\]|\\.)*"|[^",]*)(?:, |$)/y;

function urisIn(names: string): string[] | undefined {
  const uris: string[] = [];
  ALTERNATIVE_NAME.lastIndex = 0;
  while (ALTERNATIVE_NAME.lastIndex < names.length) {
    const found = ALTERNATIVE_NAME.exec(names);
    if (!found) return undefined;
    const [, kind, value = ""] = found;
    if (kind === "URI") uris.push(value.startsWith('"') ? (JSON.parse(value) as string) : value);
  }
  return uris;
}

/**
 * The id of the principal that URIs name. Undefined where none of them means to be a SPIFFE ID: then they say nothing.
 *
 * @throws SignalboxError CREDENTIAL_INVALID for one that does not count.
 */
export function workloadId(uris: readonly string[], { trustDomains }: WorkloadRules): string | undefined {
  if (!uris.some(claimsSpiffe)) return undefined;
  // X509-SVID, section 2: several would leave it to the reader who it is.
  if (uris.length > 1) throw invalidCredential("its certificate has several URIs, and may have one.");
  const id = parseSpiffeId(uris[0]!);
  if (!id) throw invalidCredential("its certificate has no well-formed SPIFFE ID with a path.");
  if (!trustDomains.has(id.trustDomain)) {
    throw invalidCredential("its certificate is of a trust domain that does not count here.");
  }
  return spiffePrincipal(id);
}

/**
 * Whether a certificate is one of a workload, at a time in milliseconds since 1970. A connection may outlive the certificate that it
 * began with, so this is asked for each call.
 *
 * @throws SignalboxError CREDENTIAL_INVALID
 */
export function checkCertificate(
  { isAuthority, validFrom, validTo }: WorkloadCertificate,
  { maxCertificateMs }: WorkloadRules,
  now: number,
): void {
  if (isAuthority) throw invalidCredential("its certificate is that of an authority, not of a workload.");
  if (now < validFrom) throw invalidCredential("its certificate is not valid yet.");
  if (now > validTo) throw invalidCredential("its certificate has expired.");
  if (validTo - validFrom > maxCertificateMs) {
    throw invalidCredential("its certificate was issued for longer than this server takes.");
  }
}
