/**
 * One port for HTTP/1.1 and HTTP/2. In the clear they are told apart by the first three bytes of a connection: an HTTP/2 client begins
 * with "PRI", which is no method of HTTP/1.1. Over TLS the client says it in its handshake (ALPN).
 */
import http from "node:http";
import http2 from "node:http2";
import type net from "node:net";
import tls from "node:tls";
import { FIRST_WORDS_MS, type ListenOptions, openAcceptor } from "./acceptor.ts";
import type { HttpRequest, HttpResponse } from "./http-exchange.ts";
import { DEFAULT_HEADER_BYTES, guardSession, type Http2Limits, http2Options, spread } from "./http2-guard.ts";

export interface HttpListenerOptions extends ListenOptions {
  handler: (req: HttpRequest, res: HttpResponse) => void;
  /** A connection that does not say within this time which protocol it speaks is closed, in milliseconds. Default 10 s. */
  silentMs?: number;
  /** How long the headers of a request may take over HTTP/1.1, in milliseconds. Default 20 s. */
  headersMs?: number;
  /** Of HTTP/2; bytes of headers, and age, of HTTP/1.1 too. */
  limits?: Http2Limits;
}

export interface HttpListener {
  readonly port: number;
  /** Takes no new connection, tells HTTP/2 clients (GOAWAY), and resolves when every exchange has ended. */
  drain(): Promise<void>;
  /** Ends every connection at once. */
  close(): void;
}

const HEADERS_MS = 20_000;
const HTTP2_PREFACE = Buffer.from("PRI");

/** What HTTP/1.1 says to a request that it cannot read, before it hangs up. */
const REFUSALS: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: "431 Request Header Fields Too Large",
  ERR_HTTP_REQUEST_TIMEOUT: "408 Request Timeout",
};

export async function openHttpListener(options: HttpListenerOptions): Promise<HttpListener> {
  const { handler, silentMs = 10_000, headersMs = HEADERS_MS, limits = {} } = options;
  const { headerBytes = DEFAULT_HEADER_BYTES, ageMs = 0 } = limits;
  /** HTTP/1.1 connections that have become old: their next answer is the last. */
  const old = new Set<net.Socket>();
  const http1 = http.createServer(
    {
      keepAlive: true,
      maxHeaderSize: headerBytes,
      headersTimeout: headersMs,
      // How long a body may take is for its reader to say: streams have no end.
      requestTimeout: 0,
      connectionsCheckingInterval: Math.min(5_000, headersMs),
    },
    (req, res) => {
      if (old.size > 0 && old.has(req.socket)) res.setHeader("connection", "close");
      handler(req, res);
    },
  );
  // It never listens itself; this is what makes it watch its connections for slow headers and idleness.
  http1.emit("listening");
  const h2 = http2.createServer({ ...http2Options(limits), maxSessionMemory: 64 }, handler);
  /** Connections whose protocol is not known yet: browsers open some in advance. */
  const silent = new Set<net.Socket>();
  const sessions = new Set<http2.ServerHttp2Session>();
  let draining = false;

  h2.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    guardSession(session, limits);
    if (draining) session.close();
  });
  http1.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    if (!socket.writable) return void socket.destroy();
    const status = REFUSALS[error.code ?? ""] ?? "400 Bad Request";
    socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
  });
  http1.on("connection", (socket: net.Socket) => {
    if (ageMs === 0) return;
    const age = setTimeout(() => old.add(socket), spread(ageMs)).unref();
    socket.once("close", () => {
      clearTimeout(age);
      old.delete(socket);
    });
  });

  const acceptor = await openAcceptor({
    ...options,
    name: "HTTP",
    section: "http",
    protocols: ["h2", "http/1.1"],
    onConnection(socket) {
      if (socket instanceof tls.TLSSocket) {
        (socket.alpnProtocol === "h2" ? h2 : http1).emit("connection", socket);
        return;
      }
      silent.add(socket);
      socket.once("close", () => silent.delete(socket));
      sniff(socket, silentMs, (isHttp2) => {
        silent.delete(socket);
        (isHttp2 ? h2 : http1).emit("connection", socket);
      });
    },
  });

  return {
    port: acceptor.port,
    async drain() {
      draining = true;
      const closed = acceptor.drain();
      for (const session of sessions) session.close();
      setTimeout(() => {
        for (const socket of silent) socket.destroy();
      }, FIRST_WORDS_MS).unref();
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
      http1.close();
      for (const session of sessions) session.destroy();
      acceptor.close();
    },
  };
}

/** Reads as many bytes as tell the protocol, puts them back and hands the connection on. */
function sniff(socket: net.Socket, silentMs: number, found: (isHttp2: boolean) => void): void {
  let head = Buffer.alloc(0);
  const giveUp = () => socket.destroy();
  const timer = setTimeout(giveUp, silentMs);
  timer.unref();
  const look = () => {
    for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) head = Buffer.concat([head, chunk]);
    if (head.length === 0) return;
    const length = Math.min(head.length, HTTP2_PREFACE.length);
    const begins = head.subarray(0, length).equals(HTTP2_PREFACE.subarray(0, length));
    if (begins && length < HTTP2_PREFACE.length) return;
    clearTimeout(timer);
    socket.off("readable", look);
    socket.unshift(head);
    found(begins);
  };
  socket.on("readable", look);
  socket.once("close", () => clearTimeout(timer));
}
