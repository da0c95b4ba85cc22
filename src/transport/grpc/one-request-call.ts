/**
 * Calls with one request, answered where interceptors stand in grpc-js. Its own handlers would make a stream for each call,
 * with buffers and events of which the call has no use.
 */
import * as grpc from "@grpc/grpc-js";
import type { BoundRpc } from "../rpc/bound.ts";
import type { TimeLimit } from "../time-limit.ts";
import { GrpcCallContext } from "./call-context.ts";
import type { OnError } from "./wire.ts";

type Call = grpc.ServerInterceptingCallInterface;
type Listener = Parameters<Call["start"]>[0];

/** A call, and the listener to itself: everything that grpc-js says of it comes here. */
export abstract class OneRequestCall extends grpc.ServerInterceptingCall implements Listener {
  protected readonly rpc: BoundRpc;
  /** The call of grpc-js itself. */
  protected readonly call: Call;
  protected readonly onError: OnError;
  readonly #arrival: TimeLimit<Call>;
  #metadata: grpc.Metadata | undefined;
  #request: Buffer | undefined;
  #context: GrpcCallContext | undefined;
  #over = false;

  /** `arrival` limits how long the request may take to come. */
  constructor(rpc: BoundRpc, call: Call, arrival: TimeLimit<Call>, onError: OnError) {
    super(call);
    this.rpc = rpc;
    this.call = call;
    this.#arrival = arrival;
    this.onError = onError;
  }

  /** Answers the request. Never rejects. */
  protected abstract answer(request: Buffer, context: GrpcCallContext): Promise<void>;

  /** Whether nobody hears any more what is answered. */
  protected get over(): boolean {
    return this.#over;
  }

  /** The listener that is not used is that of grpc-js's handler. */
  override start(_: Listener): void {
    this.#arrival.begin(this.call);
    this.call.start(this);
  }

  onReceiveMetadata(metadata: grpc.Metadata): void {
    this.#metadata = metadata;
    this.call.startRead();
  }

  onReceiveMessage(request: Buffer): void {
    if (this.#over) return;
    if (this.#request) {
      this.#refuse("Received a second request message for");
    } else {
      this.#request = request;
      this.call.startRead();
    }
  }

  onReceiveHalfClose(): void {
    if (this.#over) return;
    this.#arrival.end(this.call);
    if (this.#request) {
      this.#context = new GrpcCallContext(this.rpc, this.call, this.#metadata!, this.#request);
      void this.answer(this.#request, this.#context);
    } else {
      this.#refuse("Received no request message for");
    }
  }

  /** Of every call, when it is over. */
  onCancel(): void {
    this.#over = true;
    this.#arrival.end(this.call);
    this.#context?.leave();
  }

  #refuse(why: string): void {
    const { name, methodKind } = this.rpc.method;
    const kind = methodKind === "unary" ? "unary" : "server streaming";
    this.call.sendStatus({ code: grpc.status.UNIMPLEMENTED, details: `${why} a ${kind} method ${name}` });
  }
}
