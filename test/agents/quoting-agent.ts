/** A real A2A agent of @a2a-js/sdk that declares our quote extension and says what the test has it say. */
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Message, AgentCard as SdkAgentCard, Task } from "@a2a-js/sdk";
import { AgentEvent, type AgentExecutor, DefaultRequestHandler, InMemoryTaskStore } from "@a2a-js/sdk/server";
import { jsonRpcHandler, UserBuilder } from "@a2a-js/sdk/server/express";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import express from "express";
import { QUOTE_EXTENSION } from "../../src/domain/quote-extension.ts";

export interface QuotingAgentOptions {
  name: string;
  /** The id of its one skill. */
  skill: string;
  /** The data part of its answer to a quoteRequest; undefined: it answers with a task. */
  quote: (request: JsonObject) => JsonValue | undefined | Promise<JsonValue | undefined>;
}

export interface QuotingAgent {
  /** ProtoJSON. */
  readonly card: Record<string, unknown>;
  /** The quoteRequests that came. */
  readonly asked: JsonObject[];
  /** The extensions that were named with each message, and the metadata of its request. */
  readonly named: string[][];
  /** Tasks that were canceled. */
  readonly canceled: string[];
  close(): Promise<void>;
}

export async function startQuotingAgent({ name, skill, quote }: QuotingAgentOptions): Promise<QuotingAgent> {
  const app = express();
  const http = createServer(app).listen(0, "127.0.0.1");
  await new Promise((resolve) => http.once("listening", resolve));
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/rpc`;
  const card = {
    name,
    description: `The agent ${name}, which gives quotes.`,
    version: "1.0.0",
    supportedInterfaces: [{ url, protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
    capabilities: { streaming: true, extensions: [{ uri: QUOTE_EXTENSION }] },
    defaultInputModes: ["text/plain", "application/json"],
    defaultOutputModes: ["text/plain"],
    skills: [{ id: skill, name: skill, description: "Translates texts.", tags: ["language"] }],
  };
  const asked: JsonObject[] = [];
  const named: string[][] = [];
  const canceled: string[] = [];

  const executor: AgentExecutor = {
    async execute({ userMessage, contextId, taskId, context }, bus) {
      named.push([...(context?.requestedExtensions ?? [])]);
      const parts = (Message.toJSON(userMessage) as { parts: { data?: JsonObject }[] }).parts;
      const request = parts.find(({ data }) => data?.quoteRequest)?.data?.quoteRequest as JsonObject | undefined;
      if (request) asked.push(request);
      const answer = request && (await quote(request));
      const ids = { messageId: randomUUID(), contextId, role: "ROLE_AGENT" };
      if (answer !== undefined) {
        bus.publish(AgentEvent.message(Message.fromJSON({ ...ids, parts: [{ data: answer }] })));
      } else {
        const artifacts = [{ artifactId: "result", parts: [{ text: `${name} did it` }] }];
        const state = request ? "TASK_STATE_INPUT_REQUIRED" : "TASK_STATE_COMPLETED";
        const status = { state, timestamp: new Date().toISOString() };
        bus.publish(AgentEvent.task(Task.fromJSON({ id: taskId, contextId, status, artifacts })));
      }
      bus.finished();
    },
    async cancelTask(taskId) {
      canceled.push(taskId);
    },
  };
  const requestHandler = new DefaultRequestHandler(SdkAgentCard.fromJSON(card), new InMemoryTaskStore(), executor);
  app.use("/rpc", jsonRpcHandler({ requestHandler, userBuilder: UserBuilder.noAuthentication }));
  return {
    card,
    asked,
    named,
    canceled,
    async close() {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    },
  };
}
