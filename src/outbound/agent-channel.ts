/** How a binding carries calls to an agent. One for gRPC, one for JSON-RPC, one for HTTP+JSON. */
import type { DescMessage, DescMethodServerStreaming, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import type { AgentCall } from "./agent-call.ts";

/** Every message that it gives holds what the contract requires. It throws AgentCallError, or the reason of the call's signal. */
export interface AgentChannel {
  unary<I extends DescMessage, O extends DescMessage>(
    rpc: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    call: AgentCall,
  ): Promise<MessageShape<O>>;
  stream<I extends DescMessage, O extends DescMessage>(
    rpc: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    call: AgentCall,
  ): AsyncIterable<MessageShape<O>>;
  /** Lets calls that run go on, and frees the rest. */
  close(): void;
}
