/** gRPC by grpc-js (A2A specification, section 10). Messages are coded by protobuf-es; grpc-js sees bytes. */
import { type DescMethod, fromBinary, toBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import {
  type CallOptions,
  type ChannelCredentials,
  Client,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { StatusSchema } from "../../gen/google/rpc/status_pb.ts";
import { AgentCallError } from "../services/agent-port.ts";
import { brokenConnection, decodeBinary, invalidAnswer, refusedCall, unreachableAgent } from "./agent-answer.ts";
import { type AgentCall, listen } from "./agent-call.ts";
import type { AgentChannel } from "./agent-channel.ts";
import type { TlsIdentity } from "./agent-proof.ts";
import { guardedTarget, RESOLUTION_FAILED } from "./grpc-resolver.ts";
import type { GrpcTarget, UrlGuard } from "./url-guard.ts";

export function createGrpcChannel(
  guard: UrlGuard,
  { host, port, tls }: GrpcTarget,
  maxMessageBytes: number,
  identity?: TlsIdentity,
): AgentChannel {
  const { target, options } = guardedTarget(guard, host, port);
  const client = new Client(target, tls ? secured(identity) : credentials.createInsecure(), {
    ...options,
    "grpc.max_receive_message_length": maxMessageBytes,
    "grpc.max_send_message_length": -1,
    // An agent that comes back is found soon: a call that comes during the back-off fails at once.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2000,
    // An agent that nobody calls costs no connection, and no attempts at one.
    "grpc.client_idle_timeout_ms": 60_000,
    // Connections belong to this channel and end with it. A proxy would resolve names behind the guard's back.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_http_proxy": 0,
  });

  return {
    async unary(rpc, request, call) {
      const sending = toBinary(rpc.input, request);
      const bytes = await new Promise<Buffer>((resolve, reject) => {
        const sent = begun(call, () =>
          client.makeUnaryRequest(
            pathOf(rpc),
            toBuffer,
            asItIs,
            sending,
            metadataOf(call, rpc, sending),
            optionsOf(call),
            (error, value) => (error ? reject(grpcFailure(call, error)) : resolve(value!)),
          ),
        );
        onAbort(call, () => sent.cancel());
      });
      return decodeBinary(rpc.name, rpc.output, bytes);
    },

    async *stream(rpc, request, call) {
      const sending = toBinary(rpc.input, request);
      const sent = begun(call, () =>
        client.makeServerStreamRequest(
          pathOf(rpc),
          toBuffer,
          asItIs,
          sending,
          metadataOf(call, rpc, sending),
          optionsOf(call),
        ),
      );
      // The end of a call whose items nobody awaits any more is an error event too.
      sent.on("error", () => {});
      onAbort(call, () => sent.cancel());
      try {
        for await (const bytes of listen<Buffer>(call, sent)) yield decodeBinary(rpc.name, rpc.output, bytes);
      } catch (error) {
        throw error instanceof AgentCallError ? error : grpcFailure(call, error as ServiceError);
      }
    },

    close: () => client.close(),
  };
}

/** grpc-js throws at once on a channel that was closed. */
function begun<T>(call: AgentCall, begin: () => T): T {
  try {
    return begin();
  } catch (error) {
    throw brokenConnection(call.rpc, error);
  }
}

/** A little after the task's deadline: the router ends the task itself, and then the call. */
const DEADLINE_GRACE_MS = 1_000;

const optionsOf = ({ deadlineAt }: AgentCall): CallOptions =>
  deadlineAt ? { deadline: deadlineAt.getTime() + DEADLINE_GRACE_MS } : {};
const pathOf = (rpc: DescMethod): string => `/${rpc.parent.typeName}/${rpc.name}`;
const toBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const asItIs = (bytes: Buffer): Buffer => bytes;

/** What the router shows, and by whom the agent's certificate may be signed: the system's authorities if nothing is said. */
const secured = (identity: TlsIdentity | undefined): ChannelCredentials =>
  identity
    ? credentials.createSsl(
        identity.ca === undefined ? null : Buffer.from(identity.ca),
        Buffer.from(identity.key),
        Buffer.from(identity.cert),
      )
    : credentials.createSsl();

function metadataOf(call: AgentCall, rpc: DescMethod, sending: Uint8Array): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(call.headers)) metadata.set(name, value);
  if (!call.proof) return metadata;
  const proven = call.proof.headers({ method: "POST", target: () => pathOf(rpc), content: () => framed(sending) });
  for (const [name, value] of Object.entries(proven)) metadata.set(name, value);
  return metadata;
}

/** A message as gRPC sends it: after a byte that says that it is not compressed, and four of its length. */
function framed(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return frame;
}

function onAbort(call: AgentCall, cancel: () => void): void {
  if (call.signal.aborted) cancel();
  else call.signal.addEventListener("abort", cancel, { once: true });
}

/** What the client library says when no agent has seen the call. A server that says the same only harms itself. */
const NEVER_SENT = new RegExp(`^(No connection established|${RESOLUTION_FAILED}|Stream refused by server)`);
const BROKEN_OFF = /^(Connection dropped|Received RST_STREAM|read ECONN|write E|Call cancelled|Channel closed)/;
const TOO_LARGE = /^Received message larger than max/;
const NOT_ONE_ANSWER = /^(Too many responses received|No message received)/;

function grpcFailure(call: AgentCall, error: ServiceError): unknown {
  if (call.signal.aborted) return call.signal.reason;
  if (error.code === status.UNAUTHENTICATED) call.isUnknownCaller = true;
  const { rpc } = call;
  const details = error.details ?? error.message;
  if (NEVER_SENT.test(details)) return unreachableAgent(connectError(error, details));
  if (BROKEN_OFF.test(details)) return brokenConnection(rpc, error);
  if (TOO_LARGE.test(details)) return invalidAnswer(rpc, "is larger than this router takes", details, error);
  if (NOT_ONE_ANSWER.test(details)) return invalidAnswer(rpc, "is not exactly one message", details, error);
  return refusedCall(rpc, reasonOf(error) ?? status[error.code] ?? `GRPC_${error.code}`, details);
}

/** The failure with the system's error code, which grpc-js gives as text only. */
function connectError(error: ServiceError, details: string): Error {
  const code = /\b[A-Z][A-Z0-9_]{4,}\b/.exec(details)?.[0];
  return Object.assign(new Error(details, { cause: error }), { code });
}

/** The reason in google.rpc.ErrorInfo, when the agent gives details (section 10.6). */
function reasonOf(error: ServiceError): string | undefined {
  const [packed] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!(packed instanceof Buffer)) return undefined;
  try {
    for (const detail of fromBinary(StatusSchema, packed).details) {
      const info = anyUnpack(detail, ErrorInfoSchema);
      if (info?.reason) return info.reason;
    }
  } catch {
    // Details that do not parse are no reason to hide the agent's own status.
  }
  return undefined;
}
