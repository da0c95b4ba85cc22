/** The gRPC listener: grpc-js on a port of its own. */
import * as grpc from "@grpc/grpc-js";
import { SignalboxError } from "../../domain/errors.ts";
import type { BoundRpcs } from "../rpc/bound.ts";
import { addServices } from "./adapter.ts";
import { interceptCalls } from "./interceptor.ts";

export interface GrpcListenerOptions {
  host: string;
  /** 0 takes any free port. */
  port: number;
  rpcs: BoundRpcs;
  /** Largest message that is taken, in bytes. */
  maxBytes: number;
  /** How long a unary or server-streaming call may take to send its request, in milliseconds. Default 30 s. */
  requestTimeoutMs?: number;
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
  // A client may ping as often as every 10 s, with or without calls; one that pings more is sent away.
  "grpc.keepalive_time_ms": 60_000,
  "grpc.keepalive_timeout_ms": 20_000,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.max_concurrent_streams": 1000,
  // Statistics of grpc-js itself, which nothing here serves; each call would pay for them.
  "grpc.enable_channelz": 0,
};

export async function openGrpcListener(options: GrpcListenerOptions): Promise<GrpcListener> {
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
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${host}:${options.port}`, grpc.ServerCredentials.createInsecure(), (error, bound) => {
      if (error) reject(cannotListen("gRPC", options.host, options.port, "grpc.port", error));
      else resolve(bound);
    });
  });
  return {
    port,
    drain: () =>
      new Promise((resolve) => {
        server.tryShutdown(() => resolve());
      }),
    close: () => server.forceShutdown(),
  };
}

export function cannotListen(what: string, host: string, port: number, setting: string, cause: Error): SignalboxError {
  const inUse = /EADDRINUSE/.test(`${(cause as NodeJS.ErrnoException).code} ${cause.message}`);
  return new SignalboxError({
    code: "UNAVAILABLE",
    reason: "CANNOT_LISTEN",
    message: inUse
      ? `Port ${port} on ${host} is in use, so the ${what} listener cannot open. Stop what uses it, or choose another ${setting} (0 takes any free port).`
      : `The ${what} listener cannot open on ${host}:${port}: ${cause.message}`,
    cause,
  });
}
