/** Signs requests to agents: HTTP Message Signatures (RFC 9421) with hmac-sha256, and the digest of their content (RFC 9530). */
import { createHash, createHmac } from "node:crypto";

/** A request as its agent gets it. */
export interface OutgoingRequest {
  readonly method: string;
  /** Path and query, as they are sent. */
  readonly target: string;
  /** Of gRPC: the message with the five bytes before it. */
  readonly content: Uint8Array | string;
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
  { keyId, secret, created, nonce }: RequestSigning,
): Record<string, string> {
  const at = target.indexOf("?");
  const [path, query] = at < 0 ? [target, "?"] : [target.slice(0, at), target.slice(at)];
  const digest = `sha-256=:${createHash("sha256").update(content).digest("base64")}:`;
  const params = `("@method" "@path" "@query" "content-digest");created=${created};keyid="${keyId}";nonce="${nonce}";alg="hmac-sha256"`;
  const base = [
    `"@method": ${method}`,
    `"@path": ${path || "/"}`,
    `"@query": ${query}`,
    `"content-digest": ${digest}`,
    `"@signature-params": ${params}`,
  ].join("\n");
  return {
    "content-digest": digest,
    "signature-input": `sig1=${params}`,
    signature: `sig1=:${createHmac("sha256", secret).update(base).digest("base64")}:`,
  };
}
