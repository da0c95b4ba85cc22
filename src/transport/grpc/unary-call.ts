/** Unary calls. */
import * as grpc from "@grpc/grpc-js";
import type { GrpcCallContext } from "./call-context.ts";
import { OneRequestCall } from "./one-request-call.ts";
import { decode, fail, metadataOf, trailersOf } from "./wire.ts";

export class UnaryCall extends OneRequestCall {
  protected override async answer(request: Buffer, context: GrpcCallContext): Promise<void> {
    const { call, rpc } = this;
    try {
      const response = await rpc.unary(decode(rpc, request), context);
      if (context.headersToSend) call.sendMetadata(metadataOf(context.headersToSend));
      const metadata = trailersOf(context);
      context.answered();
      // The status does not wait for the message to be written: both leave together.
      call.sendMessage(response, () => {});
      call.sendStatus({ code: grpc.status.OK, details: "OK", metadata });
    } catch (error) {
      context.answered();
      fail(error, (status) => call.sendStatus(status), this.onError);
    }
  }
}
