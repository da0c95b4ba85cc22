/** Both kinds of HTTP under one test client. */
import { type EventEmitter, once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import type { HttpRequest, HttpResponse } from "../../src/transport/http-exchange.ts";

export interface Reply {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into JSON as it comes
  json: any;
}

export interface Exchange {
  method?: string;
  path: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  /** Leave the body open after `body`. */
  unfinished?: boolean;
}

/** A request under way: its answer, and a way to leave. */
export interface Pending {
  /** Reads the whole answer. */
  reply(): Promise<Reply>;
  /** Instead of `reply`: each piece of the answer's body as it comes, read only as fast as it is asked for. */
  chunks: AsyncIterable<string>;
  leave(): void;
}

export interface TestServer {
  port: number;
  start(exchange: Exchange): Pending;
  send(exchange: Exchange): Promise<Reply>;
  close(): Promise<void>;
}

export type Listener = (req: HttpRequest, res: HttpResponse) => void;

export const PROTOCOLS = ["HTTP/1.1", "HTTP/2"] as const;
export type Protocol = (typeof PROTOCOLS)[number];

export async function serve(protocol: Protocol, listener: Listener): Promise<TestServer> {
  return protocol === "HTTP/1.1" ? serveHttp1(listener) : serveHttp2(listener);
}

async function serveHttp1(listener: Listener): Promise<TestServer> {
  const server = http.createServer(listener);
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  const agent = new http.Agent({ keepAlive: true });

  const start = ({ method = "GET", path, headers = {}, body, unfinished = false }: Exchange): Pending => {
    const sized = body === undefined || unfinished ? {} : { "content-length": Buffer.byteLength(body) };
    const req = http.request({ host: "127.0.0.1", port, agent, method, path, headers: { ...sized, ...headers } });
    const response = once(req, "response") as Promise<[http.IncomingMessage]>;
    if (unfinished) req.write(body ?? "");
    else req.end(body);
    const chunks = (async function* () {
      const [res] = await response;
      yield* res.setEncoding("utf8");
    })();
    const reply = async () => {
      const [res] = await response;
      return toReply(res.statusCode ?? 0, res.headers, await textOf(chunks));
    };
    ignore(response, req);
    return { reply, chunks, leave: () => req.destroy() };
  };
  return {
    port,
    start,
    send: (exchange) => start(exchange).reply(),
    async close() {
      agent.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

async function serveHttp2(listener: Listener): Promise<TestServer> {
  const server = http2.createServer(listener);
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  const session = http2.connect(`http://127.0.0.1:${port}`);

  const start = ({ method = "GET", path, headers = {}, body, unfinished = false }: Exchange): Pending => {
    const endStream = body === undefined && !unfinished;
    const stream = session.request({ ":method": method, ":path": path, ...headers }, { endStream });
    const response = once(stream, "response") as Promise<[http2.IncomingHttpHeaders & { ":status": number }]>;
    if (unfinished) stream.write(body ?? "");
    else if (body !== undefined) stream.end(body);
    const chunks = (async function* () {
      await response;
      yield* stream.setEncoding("utf8");
    })();
    const reply = async () => {
      const [head] = await response;
      return toReply(head[":status"], head, await textOf(chunks));
    };
    ignore(response, stream);
    return { reply, chunks, leave: () => stream.close(http2.constants.NGHTTP2_CANCEL) };
  };
  return {
    port,
    start,
    send: (exchange) => start(exchange).reply(),
    async close() {
      session.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** A client that leaves on purpose wants to hear of no error. */
function ignore(response: Promise<unknown>, request: EventEmitter): void {
  response.catch(() => {});
  request.on("error", () => {});
}

async function textOf(chunks: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const chunk of chunks) text += chunk;
  return text;
}

function toReply(status: number, headers: Reply["headers"], text: string): Reply {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  return { status, headers, text, json };
}

/** The frames of an event stream, without its comments. */
export function framesOf(text: string): Record<string, string>[] {
  const blocks = text.split("\n\n").filter((block) => block !== "" && !block.startsWith(":"));
  return blocks.map((block) =>
    Object.fromEntries(
      block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]),
    ),
  );
}
