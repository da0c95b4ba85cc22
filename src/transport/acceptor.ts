/**
 * Takes the connections of a listener: on its port and on its Unix socket, with TLS on the port where there are certificates, and no
 * more of them than it may have.
 */

import { lookup } from "node:dns/promises";
import { chmod } from "node:fs/promises";
import net from "node:net";
import tls from "node:tls";
import { SignalboxError } from "../domain/errors.ts";
import { markPeer } from "./peer.ts";
import { cannotListenAt, clearSocketPath } from "./socket-path.ts";
import type { TlsFiles } from "./tls-files.ts";

export interface TlsOptions {
  files: TlsFiles;
  /** Undefined: clients are not asked for certificates. One that is shown must be good in any case. */
  clientCertificates: "accepted" | "required" | undefined;
}

/** Where a listener listens, and what it takes. */
export interface ListenOptions {
  host: string;
  /** 0 takes any free port. */
  port: number;
  /** Path of a Unix socket beside the port. */
  socketPath?: string | undefined;
  /**
   * Whether other processes of this server listen there too, by node:cluster. Then whoever started them has cleared the socket's
   * path with `clearSocketPath`: what answers there may be one of them.
   */
  isShared?: boolean;
  /** TLS on the port. The Unix socket goes without. */
  tls?: TlsOptions | undefined;
  /** Most connections at a time. Default: no limit. */
  connections?: number;
  /** Most connections of one IP address that is not loopback; 0 when there is no limit. Default 0. */
  addressConnections?: number;
}

export interface AcceptorOptions extends ListenOptions {
  /** As operators know it: HTTP or gRPC. */
  name: string;
  /** Beginning of its settings: `http` or `grpc`. */
  section: "http" | "grpc";
  /** What is spoken over TLS, the best first. */
  protocols: string[];
  /** Told of each connection that is ready, after its handshake. */
  onConnection: (socket: net.Socket) => void;
}

export interface Acceptor {
  readonly port: number;
  /** Takes no new connection. Resolves when all have ended. */
  drain(): Promise<void>;
  /** Ends every connection at once. */
  close(): void;
}

/** Longest time that a handshake may take, in milliseconds. */
const HANDSHAKE_MS = 10_000;
/**
 * How long a connection that is still silent when a drain begins may take to say what it wants, in milliseconds. It came before the
 * listener closed, perhaps from a client that has no reason to try again.
 */
export const FIRST_WORDS_MS = 500;

export async function openAcceptor(options: AcceptorOptions): Promise<Acceptor> {
  const { name, host, port, section, onConnection, socketPath } = options;
  const { connections = Number.POSITIVE_INFINITY, addressConnections = 0 } = options;
  const servers: net.Server[] = [];
  const sockets = new Set<net.Socket>();
  /** Those of them whose handshake is under way. */
  const greeting = new Set<net.Socket>();
  const ofAddress = new Map<string, number>();

  const ready = (socket: net.Socket, isLocalSocket: boolean) => {
    markPeer(socket, isLocalSocket);
    onConnection(socket);
  };
  const secure = options.tls && createSecure(options.tls, options.protocols, (socket) => ready(socket, false));

  /** Whether there is room for a connection. Then it is counted until it ends. */
  function admits(socket: net.Socket): boolean {
    if (sockets.size >= connections) return false;
    const address = socket.remoteAddress;
    if (addressConnections > 0 && address !== undefined && !isLoopback(address)) {
      const count = ofAddress.get(address) ?? 0;
      if (count >= addressConnections) return false;
      ofAddress.set(address, count + 1);
      socket.once("close", () => {
        const left = ofAddress.get(address)! - 1;
        if (left > 0) ofAddress.set(address, left);
        else ofAddress.delete(address);
      });
    }
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    return true;
  }

  function open(isLocalSocket: boolean): net.Server {
    const server = net.createServer({ noDelay: true }, (socket) => {
      // A client that resets its connection is no error of the server's.
      socket.on("error", () => socket.destroy());
      if (!admits(socket)) return socket.destroy();
      if (isLocalSocket || !secure) return ready(socket, isLocalSocket);
      greeting.add(socket);
      socket.once("close", () => greeting.delete(socket));
      secure.emit("connection", socket);
    });
    servers.push(server);
    return server;
  }
  secure?.on("secureConnection", (socket: tls.TLSSocket & { _parent?: net.Socket }) => {
    if (socket._parent) greeting.delete(socket._parent);
  });

  const close = () => {
    for (const server of servers) server.close();
    secure?.close();
    for (const socket of sockets) socket.destroy();
  };
  let bound: number;
  try {
    const [first = host, ...others] = await addressesOf(host);
    bound = await listen(open(false), { host: first, port });
    for (const other of others) {
      // A name may have an address that this machine, or this port, has not: one of them is enough.
      await listen(open(false), { host: other, port: bound }).catch(() => servers.pop());
    }
  } catch (error) {
    close();
    throw cannotListen(name, host, port, `${section}.port`, error as Error);
  }
  if (socketPath !== undefined) {
    try {
      if (!options.isShared) await clearSocketPath(socketPath, section);
      await listen(open(true), { path: socketPath });
      await chmod(socketPath, 0o660);
    } catch (error) {
      close();
      throw error instanceof SignalboxError ? error : cannotListenAt(socketPath, section, error as Error);
    }
  }

  return {
    port: bound,
    async drain() {
      const closed = servers.map((server) => new Promise((resolve) => server.close(resolve)));
      setTimeout(() => {
        for (const socket of greeting) socket.destroy();
      }, FIRST_WORDS_MS).unref();
      await Promise.all(closed);
    },
    close,
  };
}

/** A server that never listens: it makes the handshakes of connections that were taken. */
function createSecure(
  { files, clientCertificates }: TlsOptions,
  protocols: string[],
  onSecure: (socket: tls.TLSSocket) => void,
): tls.Server {
  const secure = tls.createServer({
    ...files.context,
    ALPNProtocols: protocols,
    handshakeTimeout: HANDSHAKE_MS,
    requestCert: clientCertificates !== undefined,
    // Node would refuse whoever shows none, too. Who may come in is said below.
    rejectUnauthorized: false,
  });
  files.onChange((context) => secure.setSecureContext(context));
  secure.on("tlsClientError", (_error, socket) => socket.destroy());
  secure.on("secureConnection", (socket) => {
    socket.on("error", () => socket.destroy());
    if (clientCertificates !== undefined) {
      const isShown = socket.getPeerX509Certificate() !== undefined;
      if (isShown ? !socket.authorized : clientCertificates === "required") return socket.destroy();
    }
    onSecure(socket);
  });
  return secure;
}

/** All addresses of a name; those of an address are itself. */
async function addressesOf(host: string): Promise<string[]> {
  if (net.isIP(host) !== 0) return [host];
  const found = await lookup(host, { all: true });
  return [...new Set(found.map(({ address }) => address))];
}

async function listen(server: net.Server, where: net.ListenOptions): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => {
      server.off("error", reject);
      resolve();
    });
  });
  // Out of file descriptors, for one: the connection is lost, the listener is not.
  server.on("error", () => {});
  const address = server.address();
  return typeof address === "object" && address ? address.port : 0;
}

const isLoopback = (address: string): boolean => /^(?:::ffff:)?127\./.test(address) || address === "::1";

export function cannotListen(what: string, host: string, port: number, setting: string, cause: Error): SignalboxError {
  const inUse = (cause as NodeJS.ErrnoException).code === "EADDRINUSE";
  return new SignalboxError({
    code: "UNAVAILABLE",
    reason: "CANNOT_LISTEN",
    message: inUse
      ? `Port ${port} on ${host} is in use, so the ${what} listener cannot open. Stop what uses it, or choose another ${setting} (0 takes any free port).`
      : `The ${what} listener cannot open on ${host}:${port}: ${cause.message}`,
    cause,
  });
}
