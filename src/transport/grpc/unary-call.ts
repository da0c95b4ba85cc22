/**
 * Unary calls, answered where interceptors stand in grpc-js. Its own handler for them would make a stream for each call,
 * with buffers and events of which a unary call has no use.
 */
import * as grpc from "@grpc/grpc-js";
import type { BoundRpc } from "../rpc/bound.ts";
import type { TimeLimit } from "../time-limit.ts";
import { GrpcCallContext } from "./call-context.ts";
import { decode, fail, metadataOf, type OnError, trailersOf } from "./wire.ts";

type Call = grpc.ServerInterceptingCallInterface;
type Listener = Parameters<Call["start"]>[0];

/** A call, and the listener to itself: everything that grpc-js says of it comes here. */
export class UnaryCall extends grpc.ServerInterceptingCall implements Listener {
  readonly #rpc: BoundRpc;
  readonly #call: Call;
  readonly #arrival: TimeLimit<Call>;
  readonly #onError: OnError;
  #metadata: grpc.Metadata | undefined;
  #request: Buffer | undefined;
  #context: GrpcCallContext | undefined;
  #over = false;

  /** `arrival` limits how long the request may take to come. */
  constructor(rpc: BoundRpc, call: Call, arrival: TimeLimit<Call>, onError: OnError) {
    super(call);
    this.#rpc = rpc;
    this.#call = call;
    this.#arrival = arrival;
    this.#onError = onError;
  }

  /** The listener that is not used is that of grpc-js's handler. */
  override start(_: Listener): void {
    this.#arrival.begin(this.#call);
    this.#call.start(this);
  }

  onReceiveMetadata(metadata: grpc.Metadata): void {
    this.#metadata = metadata;
    this.#call.startRead();
  }

  onReceiveMessage(request: Buffer): void {
    if (this.#over) return;
    if (this.#request) {
      this.#refuse("Received a second request message for a unary method");
    } else {
      this.#request = request;
      this.#call.startRead();
    }
  }

  onReceiveHalfClose(): void {
    if (this.#over) return;
    this.#arrival.end(this.#call);
    if (this.#request) {
      this.#context = new GrpcCallContext(this.#rpc, this.#call, this.#metadata!, this.#request);
      void this.#answer(this.#request, this.#context);
    } else {
      this.#refuse("Received no request message for a unary method");
    }
  }

  /** Of every call, when it is over. */
  onCancel(): void {
    this.#over = true;
    this.#arrival.end(this.#call);
    this.#context?.leave();
  }

  #refuse(why: string): void {
    this.#call.sendStatus({ code: grpc.status.UNIMPLEMENTED, details: `${why} ${this.#rpc.method.name}` });
  }

  async #answer(request: Buffer, context: GrpcCallContext): Promise<void> {
    const call = this.#call;
    try {
      const response = await this.#rpc.unary(decode(this.#rpc, request), context);
      if (context.headersToSend) call.sendMetadata(metadataOf(context.headersToSend));
      const metadata = trailersOf(context);
      context.answered();
      // The status does not wait for the message to be written: both leave together.
      call.sendMessage(response, () => {});
      call.sendStatus({ code: grpc.status.OK, details: "OK", metadata });
    } catch (error) {
      context.answered();
      fail(error, (status) => call.sendStatus(status), this.#onError);
    }
  }
}
