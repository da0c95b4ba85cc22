/** Certificates for tests: an authority, and what it signs. */
import { webcrypto } from "node:crypto";
// Before what needs it.
import "reflect-metadata";
import * as x509 from "@peculiar/x509";

x509.cryptoProvider.set(webcrypto as never);

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const HOUR_MS = 3_600_000;
export const START = Date.parse("2026-01-01T00:00:00Z");

export interface Made {
  /** URIs among the alternative names. */
  uris?: readonly string[];
  dns?: readonly string[];
  /** Since 1970, in milliseconds. */
  from?: number;
  hours?: number;
  isAuthority?: boolean;
  commonName?: string;
}

export interface TestCertificate {
  readonly der: Uint8Array;
  readonly pem: string;
}

/** A certificate of a client. Who signed it is no matter here: TLS has checked that, or the proxy. */
export async function certificate({
  uris = [],
  dns = [],
  from = START - HOUR_MS,
  hours = 24,
  isAuthority = false,
  commonName = "client",
}: Made = {}): Promise<TestCertificate> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const names = [
    ...uris.map((value) => ({ type: "url" as const, value })),
    ...dns.map((value) => ({ type: "dns" as const, value })),
  ];
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: "01",
    name: [{ CN: [commonName] }],
    notBefore: new Date(from),
    notAfter: new Date(from + hours * HOUR_MS),
    signingAlgorithm: ALGORITHM,
    keys: keys as never,
    extensions: [
      new x509.BasicConstraintsExtension(isAuthority),
      ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
    ],
  });
  return { der: new Uint8Array(made.rawData), pem: `${made.toString("pem")}\n` };
}
