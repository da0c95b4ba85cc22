/** Agents that misbehave: raw servers whose answers a test writes byte by byte. */
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import {
  createServer as createHttp2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from "node:net";
import { create } from "@bufbuild/protobuf";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";

export interface RogueAgent {
  port: number;
  /** The connections that are open. */
  sockets: Set<Socket>;
  /** Resolves when no connection is open. */
  idle(): Promise<void>;
  close(): Promise<void>;
}

/** A server of HTTP/1.1. */
export const startRogueHttp = (listener: RequestListener): Promise<RogueAgent> => start(createServer(listener));

/** A server that handles connections itself. */
export const startRogueTcp = (listener: (socket: Socket) => void): Promise<RogueAgent> =>
  start(createTcpServer(listener));

/** A server of HTTP/2 without TLS, for gRPC. */
export async function startRogueHttp2(
  listener: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void,
  port = 0,
): Promise<RogueAgent> {
  const server = createHttp2Server();
  server.on("session", (session: ServerHttp2Session) => session.on("error", () => {}));
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    listener(stream, headers);
  });
  return start(server as unknown as Server, port);
}

/** A port of this machine at which nothing listens. */
export async function freePort(): Promise<number> {
  const agent = await startRogueTcp(() => {});
  await agent.close();
  return agent.port;
}

async function start(server: Server, port = 0): Promise<RogueAgent> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    sockets,
    async idle() {
      for (const socket of sockets) await new Promise((resolve) => socket.once("close", resolve));
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A card that offers one interface. */
export function cardOf(protocolBinding: string, url: string, init: { protocolVersion?: string } = {}): AgentCard {
  return create(AgentCardSchema, {
    name: "Rogue",
    description: "An agent that misbehaves.",
    version: "1",
    capabilities: { streaming: true },
    supportedInterfaces: [{ url, protocolBinding, protocolVersion: "1.0", ...init }],
  });
}
