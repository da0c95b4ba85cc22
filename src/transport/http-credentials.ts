/** What of a bare HTTP request, one that is no call of an RPC, tells who it comes from. */
import { hash } from "node:crypto";
import type { Credentials } from "../services/identity/credentials.ts";
import type { HttpRequest } from "./http-exchange.ts";

const NO_BYTES = hash("sha256", "", "buffer");

/** Of a request without content: GET and HEAD. */
export function credentialsOf(req: HttpRequest): Credentials {
  const { headers, socket } = req;
  // As the client has sent it: what is looked for below a base path is another.
  const target = req.url ?? "";
  return {
    header(name) {
      const value = headers[name];
      if (value === undefined) return null;
      return typeof value === "string" ? value : value.join(", ");
    },
    method: req.method ?? "",
    target,
    authority: String(headers[":authority"] ?? headers.host ?? ""),
    peer: { address: socket.remoteAddress, isLocalSocket: socket.remoteAddress === undefined, certificate: undefined },
    contentDigest: () => NO_BYTES,
  };
}
