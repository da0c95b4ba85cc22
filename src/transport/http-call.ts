/** What an implementation sees of a call that came over HTTP. */

import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { type ContextValues, createContextValues, type HandlerContext } from "@connectrpc/connect";
import type { Credentials } from "../services/identity/credentials.ts";
import { HttpCredentials } from "./http-credentials.ts";
import { clientLeft } from "./http-errors.ts";
import { type HttpRequest, type HttpResponse, isGone } from "./http-exchange.ts";
import { addressTargetKey, type BoundRpc } from "./rpc/bound.ts";

/** The request parameter that may stand for the A2A-Version header (section 3.6.1). */
export const VERSION_PARAMETER = "a2a-version";

/**
 * The context of one call. Headers and the signal are made when they are first asked for: most calls need neither.
 * HTTP+JSON and JSON-RPC carry no deadline; a call ends when the client leaves.
 */
export class HttpCall implements HandlerContext {
  readonly service: DescService;
  readonly method: DescMethod;
  readonly protocolName: string;
  readonly requestMethod: string;
  readonly url: string;
  readonly values: ContextValues;
  readonly #req: HttpRequest;
  readonly #query: URLSearchParams;
  #content: Buffer | undefined;
  #left = false;
  #controller: AbortController | undefined;
  #requestHeader: Headers | undefined;
  #responseHeader: Headers | undefined;
  #responseTrailer: Headers | undefined;

  constructor(
    protocolName: "http+json" | "json-rpc",
    rpc: BoundRpc,
    req: HttpRequest,
    res: HttpResponse,
    query: URLSearchParams,
    target: string | undefined,
  ) {
    this.service = rpc.service;
    this.method = rpc.method;
    this.protocolName = protocolName;
    this.requestMethod = req.method ?? "";
    this.url = req.url ?? "";
    this.values = createContextValues();
    if (target !== undefined) this.values.set(addressTargetKey, target);
    this.#req = req;
    this.#query = query;
    if (isGone(res)) this.#leave();
    else res.once("close", () => res.writableEnded || this.#leave());
  }

  /** What tells who calls. */
  get credentials(): Credentials {
    const credentials = new HttpCredentials(this.#req, this.url);
    if (this.#content) credentials.setContent(this.#content);
    return credentials;
  }

  /** The body as it came, for its digest. */
  setContent(body: Buffer): void {
    this.#content = body;
  }

  timeoutMs(): undefined {
    return undefined;
  }

  /** Ends the call from within, with what its caller is told. */
  abort(reason: unknown): void {
    void this.signal;
    this.#controller?.abort(reason);
  }

  /** Aborted when the client leaves before it has its whole answer. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#left) this.#controller.abort(clientLeft());
    }
    return this.#controller.signal;
  }

  /** One request header, by its name in lower case, without making all of them. */
  header(name: string): string | null {
    const value = this.#req.headers[name];
    if (value !== undefined) return typeof value === "string" ? value : value.join(", ");
    return (name === VERSION_PARAMETER && versionIn(this.#query)) || null;
  }

  get requestHeader(): Headers {
    this.#requestHeader ??= requestHeaders(this.#req, this.#query);
    return this.#requestHeader;
  }

  get responseHeader(): Headers {
    this.#responseHeader ??= new Headers();
    return this.#responseHeader;
  }

  /** Goes nowhere: neither binding has trailers. */
  get responseTrailer(): Headers {
    this.#responseTrailer ??= new Headers();
    return this.#responseTrailer;
  }

  /** What the implementation wants to be sent, if anything. */
  get headersToSend(): Iterable<[string, string]> {
    return this.#responseHeader ?? [];
  }

  #leave(): void {
    this.#left = true;
    this.#controller?.abort(clientLeft());
  }
}

function requestHeaders(req: HttpRequest, query: URLSearchParams): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(req.headers)) {
    if (value === undefined || name.startsWith(":")) continue;
    if (typeof value === "string") headers.set(name, value);
    else for (const item of value) headers.append(name, item);
  }
  const version = versionIn(query);
  if (version !== undefined && !headers.has(VERSION_PARAMETER)) headers.set(VERSION_PARAMETER, version);
  return headers;
}

/** The version that a request's parameters name; the last one, where there are several. */
function versionIn(query: URLSearchParams): string | undefined {
  let version: string | undefined;
  if (query.size === 0) return version;
  for (const [name, value] of query) {
    if (name.toLowerCase() === VERSION_PARAMETER && /^[\x21-\x7e]+$/.test(value)) version = value;
  }
  return version;
}
