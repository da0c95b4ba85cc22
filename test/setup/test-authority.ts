/** A certificate authority for tests: makes certificates of servers and clients, and lists of those that were revoked. */
import { webcrypto } from "node:crypto";
// Before what needs it.
import "reflect-metadata";
import * as x509 from "@peculiar/x509";

x509.cryptoProvider.set(webcrypto as webcrypto.Crypto);

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const HOUR_MS = 3_600_000;

export interface IssueOptions {
  /** URI in its subject alternative name, such as a SPIFFE ID. */
  uri?: string;
  /** When it begins and ends, in milliseconds from now. Default: an hour ago, and in an hour. */
  fromMs?: number;
  untilMs?: number;
}

/** A certificate and its key, in PEM. */
export interface Issued {
  readonly cert: string;
  readonly key: string;
  /** DER. */
  readonly raw: Buffer;
  readonly serialNumber: string;
}

export interface TestAuthority {
  /** PEM. */
  readonly ca: string;
  /** For 127.0.0.1 and localhost, as a server and as a client. */
  issue(name: string, options?: IssueOptions): Promise<Issued>;
  /** A list that has these serial numbers, in PEM. */
  revoke(...serialNumbers: string[]): Promise<string>;
}

export async function createTestAuthority(name = "Authority of the tests"): Promise<TestAuthority> {
  const keys = (await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
  const now = Date.now();
  let serial = 100;
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: "01",
    name: `CN=${name}`,
    notBefore: new Date(now - HOUR_MS),
    notAfter: new Date(now + 24 * HOUR_MS),
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 1, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });

  return {
    ca: authority.toString("pem"),
    async issue(subject, { uri, fromMs = -HOUR_MS, untilMs = HOUR_MS } = {}) {
      const own = (await webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"])) as webcrypto.CryptoKeyPair;
      serial++;
      const names: x509.JsonGeneralNames = [
        { type: "dns", value: "localhost" },
        { type: "ip", value: "127.0.0.1" },
      ];
      if (uri !== undefined) names.push({ type: "url", value: uri });
      const certificate = await x509.X509CertificateGenerator.create({
        serialNumber: String(serial),
        subject: `CN=${subject}`,
        issuer: authority.subject,
        notBefore: new Date(Date.now() + fromMs),
        notAfter: new Date(Date.now() + untilMs),
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: ALGORITHM,
        extensions: [
          new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
          new x509.SubjectAlternativeNameExtension(names),
        ],
      });
      const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", own.privateKey));
      return {
        cert: certificate.toString("pem"),
        key: x509.PemConverter.encode(der, "PRIVATE KEY"),
        raw: Buffer.from(certificate.rawData),
        serialNumber: certificate.serialNumber,
      };
    },
    async revoke(...serialNumbers) {
      const list = await x509.X509CrlGenerator.create({
        issuer: authority.subject,
        thisUpdate: new Date(Date.now() - HOUR_MS),
        nextUpdate: new Date(Date.now() + 24 * HOUR_MS),
        signingKey: keys.privateKey,
        signingAlgorithm: ALGORITHM,
        entries: serialNumbers.map((serialNumber) => ({
          serialNumber,
          revocationDate: new Date(Date.now() - HOUR_MS),
          reason: x509.X509CrlReason.keyCompromise,
        })),
      });
      return x509.PemConverter.encode(list.rawData, "X509 CRL");
    },
  };
}
