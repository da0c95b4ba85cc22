/** What an implementation sees of a call that came over grpc-js. Everything dear is made when it is first asked for. */

import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { type ContextValues, createContextValues, type HandlerContext } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import type { SignalboxError } from "../../domain/errors.ts";
import type { Credentials } from "../../services/identity/credentials.ts";
import { cancelled, deadlineExceeded } from "../rpc/bind.ts";
import type { BoundRpc } from "../rpc/bound.ts";
import { GrpcCredentials } from "./grpc-credentials.ts";

type Call = grpc.ServerInterceptingCallInterface;

export class GrpcCallContext implements HandlerContext {
  readonly service: DescService;
  readonly method: DescMethod;
  readonly protocolName = "grpc";
  readonly requestMethod = "POST";
  readonly #rpc: BoundRpc;
  readonly #call: Call;
  readonly #metadata: grpc.Metadata;
  readonly #message: Buffer | undefined;
  #values: ContextValues | undefined;
  #controller: AbortController | undefined;
  #answered = false;
  #left = false;
  #requestHeader: Headers | undefined;
  #responseHeader: Headers | undefined;
  #responseTrailer: Headers | undefined;

  /** `call` is that of grpc-js itself; `message` is the one request, undefined where requests are a stream. */
  constructor(rpc: BoundRpc, call: Call, metadata: grpc.Metadata, message: Buffer | undefined) {
    this.#rpc = rpc;
    this.service = rpc.service;
    this.method = rpc.method;
    this.#message = message;
    this.#call = call;
    this.#metadata = metadata;
  }

  get url(): string {
    return `grpc://${this.#call.getHost()}/${this.service.typeName}/${this.method.name}`;
  }

  /** What tells who calls. */
  get credentials(): Credentials {
    return new GrpcCredentials(this.#rpc, this.#call, this.#metadata, this.#message);
  }

  get values(): ContextValues {
    this.#values ??= createContextValues();
    return this.#values;
  }

  /** Aborted when the client cancels, leaves, or its deadline passes. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#left) this.#controller.abort(this.#whyLeft());
    }
    return this.#controller.signal;
  }

  /** The client is gone. grpc-js says so of every call that has ended, however well. */
  leave(): void {
    if (this.#answered || this.#left) return;
    this.#left = true;
    this.#controller?.abort(this.#whyLeft());
  }

  /** Ends the call from within, with what its caller is told. */
  abort(reason: unknown): void {
    void this.signal;
    this.#controller?.abort(reason);
  }

  /** The answer is on its way: whatever becomes of the call, it is no longer of interest. */
  answered(): void {
    this.#answered = true;
  }

  timeoutMs(): number | undefined {
    const deadline = this.#call.getDeadline();
    const at = deadline instanceof Date ? deadline.getTime() : deadline;
    return Number.isFinite(at) ? at - Date.now() : undefined;
  }

  #whyLeft(): SignalboxError {
    return (this.timeoutMs() ?? 1) <= 0 ? deadlineExceeded() : cancelled();
  }

  /** One request header, without making all of them. */
  header(name: string): string | null {
    const values = this.#metadata.get(name);
    return values.length === 0 ? null : values.map(text).join(",");
  }

  get requestHeader(): Headers {
    if (!this.#requestHeader) {
      this.#requestHeader = new Headers();
      for (const name of Object.keys(this.#metadata.getMap())) {
        for (const value of this.#metadata.get(name)) this.#requestHeader.append(name, text(value));
      }
    }
    return this.#requestHeader;
  }

  get responseHeader(): Headers {
    this.#responseHeader ??= new Headers();
    return this.#responseHeader;
  }

  get responseTrailer(): Headers {
    this.#responseTrailer ??= new Headers();
    return this.#responseTrailer;
  }

  /** The headers that the implementation set, if any. */
  get headersToSend(): Headers | undefined {
    return this.#responseHeader;
  }

  get trailersToSend(): Headers | undefined {
    return this.#responseTrailer;
  }
}

const text = (value: grpc.MetadataValue): string => (typeof value === "string" ? value : value.toString("base64"));
