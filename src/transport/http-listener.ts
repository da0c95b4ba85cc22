/**
 * One port for HTTP/1.1 and HTTP/2 in the clear, told apart by the first three bytes of a connection: an HTTP/2 client
 * begins with "PRI", which is no method of HTTP/1.1.
 */
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import { cannotListen } from "./grpc/grpc-listener.ts";
import type { HttpRequest, HttpResponse } from "./http-exchange.ts";

export interface HttpListenerOptions {
  host: string;
  /** 0 takes any free port. */
  port: number;
  handler: (req: HttpRequest, res: HttpResponse) => void;
  /** A connection that does not say within this time which protocol it speaks is closed, in milliseconds. Default 10 s. */
  silentMs?: number;
}

export interface HttpListener {
  readonly port: number;
  /** Takes no new connection, tells HTTP/2 clients (GOAWAY), and resolves when every exchange has ended. */
  drain(): Promise<void>;
  /** Ends every connection at once. */
  close(): void;
}

/** Longest time that the headers of a request may take, in milliseconds. */
const HEADERS_MS = 20_000;
const HTTP2_PREFACE = Buffer.from("PRI");
/** Bound of all headers of a request, in bytes. */
const MAX_HEADER_BYTES = 32 * 1024;

export async function openHttpListener(options: HttpListenerOptions): Promise<HttpListener> {
  const { host, port, handler, silentMs = 10_000 } = options;
  const http1 = http.createServer(
    // How long a body may take is for its reader to say: streams have no end.
    { keepAlive: true, maxHeaderSize: MAX_HEADER_BYTES, headersTimeout: HEADERS_MS, requestTimeout: 0 },
    handler,
  );
  // It never listens itself; this is what makes it watch its connections for slow headers and idleness.
  http1.emit("listening");
  const h2 = http2.createServer(
    { settings: { maxConcurrentStreams: 1000, maxHeaderListSize: MAX_HEADER_BYTES }, maxSessionMemory: 64 },
    handler,
  );
  const sockets = new Set<net.Socket>();
  /** Those of them whose protocol is not known yet: browsers open some in advance. */
  const silent = new Set<net.Socket>();
  const sessions = new Set<http2.ServerHttp2Session>();
  let draining = false;

  h2.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    // A client that resets its connection is no error of the server's.
    session.on("error", () => session.destroy());
    if (draining) session.close();
  });
  http1.on("clientError", (_error, socket) => {
    if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    else socket.destroy();
  });

  const server = net.createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    silent.add(socket);
    socket.once("close", () => {
      sockets.delete(socket);
      silent.delete(socket);
    });
    sniff(socket, silentMs, (isHttp2) => {
      silent.delete(socket);
      (isHttp2 ? h2 : http1).emit("connection", socket);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(cannotListen("HTTP", host, port, "http.port", error)));
    server.listen({ host, port }, resolve);
  });

  return {
    port: (server.address() as net.AddressInfo).port,
    async drain() {
      draining = true;
      const closed = new Promise((resolve) => server.close(resolve));
      for (const session of sessions) session.close();
      for (const socket of silent) socket.destroy();
      // Connections that are between two requests end now, the others with their answer.
      http1.closeIdleConnections();
      const sweep = setInterval(() => http1.closeIdleConnections(), 50);
      try {
        await closed;
      } finally {
        clearInterval(sweep);
        http1.close();
      }
    },
    close() {
      server.close();
      http1.close();
      for (const session of sessions) session.destroy();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Reads as many bytes as tell the protocol, puts them back and hands the connection on. */
function sniff(socket: net.Socket, silentMs: number, found: (isHttp2: boolean) => void): void {
  let head = Buffer.alloc(0);
  const giveUp = () => socket.destroy();
  const timer = setTimeout(giveUp, silentMs);
  timer.unref();
  socket.on("error", giveUp);
  const look = () => {
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) head = Buffer.concat([head, chunk]);
    if (head.length === 0) return;
    const length = Math.min(head.length, HTTP2_PREFACE.length);
    const begins = head.subarray(0, length).equals(HTTP2_PREFACE.subarray(0, length));
    if (begins && length < HTTP2_PREFACE.length) return;
    clearTimeout(timer);
    socket.off("readable", look);
    socket.off("error", giveUp);
    socket.unshift(head);
    found(begins);
  };
  socket.on("readable", look);
  socket.once("close", () => clearTimeout(timer));
}
