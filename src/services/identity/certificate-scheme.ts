/** Certificates of clients: the SPIFFE ID of the one that a connection was made with. */
import { hash } from "node:crypto";
import { invalidCredential } from "../../domain/identity/errors.ts";
import type { Runtime } from "../runtime.ts";
import type { Identity, Scheme } from "./credentials.ts";
import { createRecentlyUsed } from "./recently-used.ts";
import type { TrustedProxies } from "./trusted-proxies.ts";
import {
  checkCertificate,
  readCertificate,
  type WorkloadCertificate,
  type WorkloadRules,
  workloadId,
} from "./workload-certificate.ts";

export interface CertificateSchemeOptions {
  rules: WorkloadRules;
  proxies: TrustedProxies;
  runtime: Pick<Runtime, "now">;
}

/** Certificates that are kept as they were read, by their SHA-256. */
const MOST_READ = 10_000;

/** A certificate as it was read. */
type Read = { readonly certificate: WorkloadCertificate; readonly identity: Identity } | "says-nothing" | Error;

/**
 * A certificate without any SPIFFE ID says nothing of who calls: it may be there to get through the door, and the caller is anonymous,
 * or says who it is by a token. One with a SPIFFE ID that does not count is refused: who means to be somebody is not let in as
 * nobody. A trusted proxy that says for whom it speaks is not asked who it is itself.
 */
export function createCertificateScheme({ rules, proxies, runtime }: CertificateSchemeOptions): Scheme {
  // A connection hands on the same bytes for each of its calls.
  const ofConnections = new WeakMap<Uint8Array, Read>();
  const read = createRecentlyUsed<Read>(MOST_READ);

  function readNow(bytes: Uint8Array): Read {
    const certificate = readCertificate(bytes);
    if (!certificate) return invalidCredential("its certificate cannot be read.");
    try {
      const id = workloadId(certificate.uris, rules);
      if (id === undefined) return "says-nothing";
      return { certificate, identity: { id, authentication: "mtls", actors: [] } };
    } catch (error) {
      return error as Error;
    }
  }

  function known(bytes: Uint8Array): Read {
    let found = ofConnections.get(bytes);
    if (!found) {
      const fingerprint = hash("sha256", bytes, "base64url");
      found = read.get(fingerprint) ?? readNow(bytes);
      read.set(fingerprint, found);
      ofConnections.set(bytes, found);
    }
    return found;
  }

  return {
    identify(credentials) {
      const bytes = credentials.peer.certificate;
      if (!bytes || proxies.forwarded(credentials) !== null) return undefined;
      const found = known(bytes);
      if (found === "says-nothing") return undefined;
      if (found instanceof Error) throw found;
      checkCertificate(found.certificate, rules, runtime.now().getTime());
      return found.identity;
    },
  };
}
