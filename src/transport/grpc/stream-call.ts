/**
 * Calls that are answered with a stream. Items that come together are handed to HTTP/2 together: waiting for each to be written, as
 * grpc-js does, makes a turn of the event loop of every item and watcher.
 */
import * as grpc from "@grpc/grpc-js";
import type { GrpcCallContext } from "./call-context.ts";
import { OneRequestCall } from "./one-request-call.ts";
import { decode, encoderOf, fail, metadataOf, trailersOf } from "./wire.ts";

/** What a reader that is slow has on its way at most: so many items, or the one that makes it so many bytes. */
const MOST_ITEMS = 64;
const MOST_BYTES = 64 * 1024;

export class StreamCall extends OneRequestCall {
  /** What HTTP/2 has not taken yet. */
  #items = 0;
  #bytes = 0;
  /** Lets the next item be asked for. */
  #wake: (() => void) | undefined;

  override onCancel(): void {
    super.onCancel();
    this.#wake?.();
  }

  protected override async answer(request: Buffer, context: GrpcCallContext): Promise<void> {
    const { call, rpc } = this;
    const bytesOf = encoderOf(rpc.method.output);
    try {
      let first = true;
      for await (const item of rpc.stream(decode(rpc, request), context)) {
        if (this.over) return;
        if (first && context.headersToSend) call.sendMetadata(metadataOf(context.headersToSend));
        first = false;
        this.#send(bytesOf(item));
        if (this.#isFull()) await this.#taken();
        if (this.over) return;
      }
      context.answered();
      call.sendStatus({ code: grpc.status.OK, details: "OK", metadata: trailersOf(context) });
    } catch (error) {
      if (!this.over) fail(error, (status) => call.sendStatus(status), this.onError);
    }
  }

  #send(bytes: Buffer): void {
    this.#items += 1;
    this.#bytes += bytes.length;
    this.call.sendMessage(bytes, () => {
      this.#items -= 1;
      this.#bytes -= bytes.length;
      if (this.#wake && !this.#isFull()) this.#wake();
    });
  }

  #isFull(): boolean {
    return this.#items >= MOST_ITEMS || this.#bytes >= MOST_BYTES;
  }

  /** Resolves when there is room again, and when the reader has left. */
  #taken(): Promise<void> {
    if (this.over) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
    });
  }
}
