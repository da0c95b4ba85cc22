/** Signs requests to agents: HTTP Message Signatures (RFC 9421) with hmac-sha256, and the digest of their content (RFC 9530). */
import { hash } from "node:crypto";
import { signHttpRequest } from "../domain/identity/http-signature.ts";

/** A request as its agent gets it. */
export interface OutgoingRequest {
  readonly method: string;
  /** Path and query, as they are sent. Made where they are asked for: most proofs have no use for them. */
  target(): string;
  /** Of gRPC: the message with the five bytes before it. The same holds. */
  content(): Uint8Array | string;
}

export interface RequestSigning {
  readonly keyId: string;
  readonly secret: Uint8Array;
  /** Seconds of the epoch. */
  readonly created: number;
  /** Never used twice. */
  readonly nonce: string;
}

/** The headers that sign a request: its method, path, query and content, when it was made and under which nonce. */
export function signatureHeaders(
  { method, target, content }: OutgoingRequest,
  signing: RequestSigning,
): Record<string, string> {
  const contentDigest = hash("sha256", content(), "buffer");
  const request = { method, target: target(), authority: "", header: () => null };
  return { ...signHttpRequest(request, { ...signing, contentDigest }) };
}
