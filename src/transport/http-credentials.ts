/** What of a request over HTTP tells who it comes from. */
import { createHash } from "node:crypto";
import type { Credentials, Peer } from "../services/identity/credentials.ts";
import type { HttpRequest } from "./http-exchange.ts";
import { peerOf } from "./peer.ts";

const NOTHING: readonly Uint8Array[] = [];

export class HttpCredentials implements Credentials {
  readonly method: string;
  readonly target: string;
  readonly #req: HttpRequest;
  #content: readonly Uint8Array[] | undefined;

  /** `target` is what the client asked for, before anything was taken off. */
  constructor(req: HttpRequest, target: string) {
    this.#req = req;
    this.method = req.method ?? "";
    this.target = target;
    this.#content = hasContent(req) ? undefined : NOTHING;
  }

  /** The body as it came. */
  setContent(...chunks: readonly Uint8Array[]): void {
    this.#content = chunks;
  }

  header(name: string): string | null {
    const { headers } = this.#req;
    // Whoever signs names headers, and some names are those of what every object has.
    const value = Object.hasOwn(headers, name) ? headers[name] : undefined;
    if (value === undefined) return null;
    if (name === "authorization") return allOf(this.#req.rawHeaders, name);
    return typeof value === "string" ? value : value.join(", ");
  }

  get authority(): string {
    const { headers } = this.#req;
    return ("authority" in this.#req ? this.#req.authority : undefined) ?? headers.host ?? "";
  }

  get peer(): Peer {
    return peerOf("stream" in this.#req ? this.#req.stream.session : this.#req);
  }

  contentDigest(): Uint8Array | undefined {
    if (this.#content === undefined) return undefined;
    const digest = createHash("sha256");
    for (const chunk of this.#content) digest.update(chunk);
    return digest.digest();
  }
}

/** Node keeps the first of several, and somebody on the way may have looked at the last. */
function allOf(rawHeaders: readonly string[], name: string): string {
  const values: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const given = rawHeaders[i]!;
    if (given.length === name.length && given.toLowerCase() === name) values.push(rawHeaders[i + 1]!);
  }
  return values.join(", ");
}

/** Whether a body follows, as far as the head of a request tells. */
function hasContent(req: HttpRequest): boolean {
  const { "content-length": length, "transfer-encoding": encoding } = req.headers;
  if (length !== undefined) return length !== "0";
  return "stream" in req ? !req.stream.endAfterHeaders : encoding !== undefined;
}
