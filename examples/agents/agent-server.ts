/** Serves an A2A agent on loopback, as any agent might be served: JSON-RPC and HTTP+JSON on one port, gRPC on another. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { promisify } from "node:util";
import { A2A_PROTOCOL_VERSION, AGENT_CARD_PATH, type AgentCard, type AgentSkill } from "@a2a-js/sdk";
import { type AgentExecutor, DefaultRequestHandler, InMemoryTaskStore } from "@a2a-js/sdk/server";
import { agentCardHandler, jsonRpcHandler, restHandler, UserBuilder } from "@a2a-js/sdk/server/express";
import { A2AService, UserBuilder as GrpcUserBuilder, grpcService } from "@a2a-js/sdk/server/grpc";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import express from "express";

export interface AgentOptions {
  /** Port for HTTP; 0, the default, takes any free one. */
  port?: number;
}

export interface RunningAgent {
  /** The agent's address; its card is found below it. */
  url: string;
  close(): Promise<void>;
}

/** What is the agent's own: its name, its skill, and what it does. */
export interface AgentParts {
  name: string;
  description: string;
  skill: Pick<AgentSkill, "id" | "name" | "description" | "tags" | "examples">;
  executor: AgentExecutor;
  /** Whether gRPC is offered too, as the preferred interface. */
  grpc: boolean;
}

const HOST = "127.0.0.1";

export async function startAgent(parts: AgentParts, { port = 0 }: AgentOptions): Promise<RunningAgent> {
  const http = createServer();
  http.listen(port, HOST);
  await once(http, "listening");
  const url = `http://${HOST}:${(http.address() as AddressInfo).port}`;

  const grpc = new Server();
  const credentials = ServerCredentials.createInsecure();
  const grpcPort = parts.grpc ? await promisify(grpc.bindAsync.bind(grpc))(`${HOST}:0`, credentials) : undefined;

  const requestHandler = new DefaultRequestHandler(
    agentCard(parts, url, grpcPort === undefined ? undefined : `${HOST}:${grpcPort}`),
    new InMemoryTaskStore(),
    parts.executor,
  );
  const app = express();
  app.use(`/${AGENT_CARD_PATH}`, agentCardHandler({ agentCardProvider: requestHandler }));
  app.use("/rpc", jsonRpcHandler({ requestHandler, userBuilder: UserBuilder.noAuthentication }));
  app.use("/", restHandler({ requestHandler, userBuilder: UserBuilder.noAuthentication }));
  http.on("request", app);
  grpc.addService(A2AService, grpcService({ requestHandler, userBuilder: GrpcUserBuilder.noAuthentication }));

  return {
    url,
    async close() {
      grpc.forceShutdown();
      const closed = once(http, "close");
      http.close();
      http.closeAllConnections();
      await closed;
    },
  };
}

function agentCard(parts: AgentParts, url: string, grpcAddress: string | undefined): AgentCard {
  const offer = (protocolBinding: string, address: string) => ({
    url: address,
    protocolBinding,
    protocolVersion: A2A_PROTOCOL_VERSION,
    tenant: "",
  });
  return {
    name: parts.name,
    description: parts.description,
    version: "1.0.0",
    supportedInterfaces: [
      ...(grpcAddress === undefined ? [] : [offer("GRPC", grpcAddress)]),
      offer("JSONRPC", `${url}/rpc`),
      offer("HTTP+JSON", url),
    ],
    capabilities: { streaming: true, pushNotifications: false, extensions: [], extendedAgentCard: false },
    defaultInputModes: ["text/plain"],
    defaultOutputModes: ["text/plain"],
    skills: [{ ...parts.skill, inputModes: [], outputModes: [], securityRequirements: [] }],
    provider: undefined,
    documentationUrl: "",
    securitySchemes: {},
    securityRequirements: [],
    signatures: [],
  };
}
