/** What of a call over grpc-js tells who it comes from. */
import { createHash } from "node:crypto";
import type * as grpc from "@grpc/grpc-js";
import type { Credentials, Peer } from "../../services/identity/credentials.ts";
import { peerOf } from "../peer.ts";
import type { BoundRpc } from "../rpc/bound.ts";

/** What grpc-js keeps to itself of a call. Without it nobody is known by a connection, and nothing has a digest. */
interface CallParts {
  stream?: { session?: { socket?: unknown } };
  incomingEncoding?: string;
}

const METADATA_NAME = /^[0-9a-z_.-]+$/;

export class GrpcCredentials implements Credentials {
  readonly method = "POST";
  readonly #rpc: BoundRpc;
  readonly #call: grpc.ServerInterceptingCallInterface;
  readonly #metadata: grpc.Metadata;
  readonly #message: Buffer | undefined;

  /** `call` is that of grpc-js itself. `message` is the one request; undefined where requests are a stream. */
  constructor(
    rpc: BoundRpc,
    call: grpc.ServerInterceptingCallInterface,
    metadata: grpc.Metadata,
    message: Buffer | undefined,
  ) {
    this.#rpc = rpc;
    this.#call = call;
    this.#metadata = metadata;
    this.#message = message;
  }

  header(name: string): string | null {
    // grpc-js throws where a name is none of metadata, though HTTP has such headers.
    if (!METADATA_NAME.test(name)) return null;
    const values = this.#metadata.get(name);
    if (values.length === 0) return null;
    return values.map((value) => (typeof value === "string" ? value : value.toString("base64"))).join(", ");
  }

  get target(): string {
    return `/${this.#rpc.service.typeName}/${this.#rpc.method.name}`;
  }

  get authority(): string {
    return this.#call.getHost();
  }

  get peer(): Peer {
    return peerOf((this.#call as CallParts).stream?.session);
  }

  contentDigest(): Uint8Array | undefined {
    // A compressed message came as other bytes than those that are here.
    if (this.#message === undefined || (this.#call as CallParts).incomingEncoding !== "identity") return undefined;
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(this.#message.length, 1);
    return createHash("sha256").update(prefix).update(this.#message).digest();
  }
}
