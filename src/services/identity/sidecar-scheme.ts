/** Callers whose certificate a trusted proxy has seen: what it says in X-Forwarded-Client-Cert. */
import { hash } from "node:crypto";
import { invalidCredential } from "../../domain/identity/errors.ts";
import { lastForwarded } from "../../domain/identity/forwarded-certificate.ts";
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

export interface SidecarSchemeOptions {
  rules: WorkloadRules;
  proxies: TrustedProxies;
  runtime: Pick<Runtime, "now">;
}

/** Headers that are kept as they were read, by their SHA-256. */
const MOST_READ = 10_000;

/** What a header says; the certificate where it was handed on. `nobody`: its client has shown none with a SPIFFE ID. */
type Read = { readonly identity: Identity; readonly certificate: WorkloadCertificate | undefined } | "nobody";

/**
 * From a peer that is not among the trusted ones the header counts for nothing. From one that is, it says who calls, or that nobody does
 * who could be told; what names somebody and does not count is refused.
 */
export function createSidecarScheme({ rules, proxies, runtime }: SidecarSchemeOptions): Scheme {
  const read = createRecentlyUsed<Read>(MOST_READ);

  function readNow(header: string): Read {
    const forwarded = lastForwarded(header);
    if (!forwarded) return "nobody";
    const { uris, pem } = forwarded;
    const certificate = pem === undefined ? undefined : readCertificate(onlyCertificate(pem));
    if (pem !== undefined && !certificate)
      throw invalidCredential("the certificate that a proxy hands on cannot be read.");
    const said = uris.length === 0 ? undefined : workloadId(uris, rules);
    const shown = certificate && workloadId(certificate.uris, rules);
    if (uris.length > 0 && certificate && said !== shown) {
      throw invalidCredential("the certificate and the URI that a proxy hands on name different callers.");
    }
    const id = said ?? shown;
    return id === undefined ? "nobody" : { identity: { id, authentication: "sidecar", actors: [] }, certificate };
  }

  return {
    identify(credentials) {
      const header = proxies.forwarded(credentials);
      if (header === null) return undefined;
      const digest = hash("sha256", header, "base64url");
      let found = read.get(digest);
      if (!found) {
        found = readNow(header);
        read.set(digest, found);
      }
      if (found === "nobody") return undefined;
      if (found.certificate) checkCertificate(found.certificate, rules, runtime.now().getTime());
      return found.identity;
    },
  };
}

/** A text with one certificate, and nothing beside it. */
function onlyCertificate(pem: string): string {
  const isOne = /^\s*-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*$/.test(pem);
  if (!isOne) throw invalidCredential("a proxy hands on something that is not one certificate in PEM.");
  return pem;
}
