/** The gRPC listener: grpc-js on a port of its own. */
import type { Http2Server, ServerHttp2Session, ServerOptions } from "node:http2";
import tls from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { type ListenOptions, openAcceptor } from "../acceptor.ts";
import { guardSession, type Http2Limits, http2Options } from "../http2-guard.ts";
import type { BoundRpcs } from "../rpc/bound.ts";
import { addServices } from "./adapter.ts";
import { interceptCalls } from "./interceptor.ts";

export interface GrpcListenerOptions extends ListenOptions {
  rpcs: BoundRpcs;
  /** Largest message that is taken, in bytes. */
  maxBytes: number;
  /** How long a unary or server-streaming call may take to send its request, in milliseconds. Default 30 s. */
  requestTimeoutMs?: number;
  limits?: Http2Limits;
  /** Told of answers that could not be sent. */
  onError: (error: unknown) => void;
}

export interface GrpcListener {
  readonly port: number;
  /** Sends GOAWAY, takes no new call, and resolves when those under way have ended. */
  drain(): Promise<void>;
  /** Ends what is left at once. */
  close(): void;
}

/** Room for what surrounds a message; grpc-js counts only the message itself. */
const OPTIONS: grpc.ServerOptions = {
  // Whoever does not answer such a ping is gone.
  "grpc.keepalive_time_ms": 60_000,
  "grpc.keepalive_timeout_ms": 20_000,
  // Statistics of grpc-js itself, which nothing here serves; each call would pay for them.
  "grpc.enable_channelz": 0,
};

/** What grpc-js keeps to itself, and takes no options for. Its version is pinned, and test/e2e/http2-abuse.test.ts shows that it works. */
interface GrpcServerParts {
  commonServerOptions: ServerOptions;
  http2Servers: Map<Http2Server, unknown>;
}

export async function openGrpcListener(options: GrpcListenerOptions): Promise<GrpcListener> {
  const { limits = {} } = options;
  // grpc-js prints its errors, which is no log of ours. Those that matter reach us as errors; GRPC_TRACE still works.
  grpc.setLogger({ ...console, error: () => {} });
  const server = new grpc.Server({
    ...OPTIONS,
    "grpc.max_receive_message_length": options.maxBytes,
    // What we send was within the limit when it came, one message at a time; a whole task may be larger.
    "grpc.max_send_message_length": -1,
    interceptors: [interceptCalls(options.rpcs, options.requestTimeoutMs ?? 30_000, options.onError)],
  });
  addServices(server, options.rpcs, options.onError);
  const parts = server as unknown as GrpcServerParts;
  Object.assign(parts.commonServerOptions, http2Options(limits));
  let draining = false;
  // TLS is ended before grpc-js has the connection, so that both listeners do it in one way.
  const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  for (const http2Server of parts.http2Servers.keys()) {
    http2Server.on("session", (session: ServerHttp2Session) => {
      guardSession(session, limits);
      // grpc-js tells those that it has; this one was under way.
      if (draining) session.close();
    });
  }

  const acceptor = await openAcceptor({
    ...options,
    name: "gRPC",
    section: "grpc",
    protocols: ["h2"],
    onConnection(socket) {
      // gRPC over TLS says so in the handshake.
      if (socket instanceof tls.TLSSocket && socket.alpnProtocol !== "h2") socket.destroy();
      else injector.injectConnection(socket);
    },
  }).catch((error: unknown) => {
    server.forceShutdown();
    throw error;
  });
  return {
    port: acceptor.port,
    async drain() {
      draining = true;
      const closed = acceptor.drain();
      await Promise.all([closed, new Promise<void>((resolve) => server.tryShutdown(() => resolve()))]);
    },
    close() {
      server.forceShutdown();
      acceptor.close();
    },
  };
}
