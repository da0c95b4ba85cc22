/** A way to say who one is that lets everybody in, and keeps what it was told of each call. */
import { hash } from "node:crypto";
import type { Credentials, Scheme } from "../../src/services/identity/credentials.ts";

/** What one call told, read while it was made. */
export interface Told {
  method: string;
  target: string;
  authority: string;
  address: string | undefined;
  isLocalSocket: boolean;
  certificate: string | undefined;
  /** Hex. */
  digest: string | undefined;
  forwarded: string | null;
  signature: string | null;
}

/** `told` grows with each call. `reads` says whether the digest is asked for. */
export function recordingScheme(): Scheme & { readonly told: Told[]; last(): Told } {
  const told: Told[] = [];
  return {
    told,
    last() {
      const last = told.at(-1);
      if (!last) throw new Error("Nobody has called yet.");
      return last;
    },
    identify(credentials: Credentials) {
      const { peer } = credentials;
      const digest = credentials.contentDigest();
      told.push({
        method: credentials.method,
        target: credentials.target,
        authority: credentials.authority,
        address: peer.address,
        isLocalSocket: peer.isLocalSocket,
        certificate: peer.certificate && Buffer.from(peer.certificate).toString("base64"),
        digest: digest && Buffer.from(digest).toString("hex"),
        forwarded: credentials.header("x-forwarded-client-cert"),
        signature: credentials.header("signature-input"),
      });
      return {
        id: "somebody",
        authentication: "mtls",
        actors: [],
        granted: { workspaceId: "default", roles: ["admin"], scopes: [] },
      };
    },
  };
}

/** SHA-256 in hex. */
export const sha256 = (bytes: Uint8Array): string => hash("sha256", bytes, "hex");
