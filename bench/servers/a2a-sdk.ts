/**
 * The peer @a2a-js/sdk: its own server, over gRPC and JSON-RPC, with an executor that does what `clerk` does. Argument: the
 * PostgreSQL database for its tasks; none to keep them in memory.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { promisify } from "node:util";
import { AgentCard, type Task, TaskState, type TaskStatus } from "@a2a-js/sdk";
import { AgentEvent, type AgentExecutor, DefaultRequestHandler, InMemoryTaskStore } from "@a2a-js/sdk/server";
import { jsonRpcHandler, UserBuilder } from "@a2a-js/sdk/server/express";
import { A2AService, UserBuilder as GrpcUserBuilder, grpcService } from "@a2a-js/sdk/server/grpc";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import express from "express";
import { inProcessCard } from "../../test/e2e/running-app.ts";
import { createPostgresTaskStore } from "./a2a-sdk-postgres-store.ts";
import { announce } from "./announce.ts";

const [url] = process.argv.slice(2);
const store = url === undefined ? undefined : await createPostgresTaskStore(url);

const executor: AgentExecutor = {
  async execute({ taskId, contextId, userMessage }, bus) {
    const status = (state: TaskState): TaskStatus => ({
      state,
      message: undefined,
      timestamp: new Date().toISOString(),
    });
    const task: Task = {
      id: taskId,
      contextId,
      status: status(TaskState.TASK_STATE_WORKING),
      artifacts: [],
      history: [userMessage],
      metadata: undefined,
    };
    bus.publish(AgentEvent.task(task));
    const completed = status(TaskState.TASK_STATE_COMPLETED);
    bus.publish(AgentEvent.statusUpdate({ taskId, contextId, status: completed, metadata: undefined }));
  },
  async cancelTask() {},
};

const app = express();
const http = createServer(app).listen(0, "127.0.0.1");
await once(http, "listening");
const httpUrl = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
const grpc = new Server();
const bind = promisify(grpc.bindAsync.bind(grpc));
const authority = `127.0.0.1:${await bind("127.0.0.1:0", ServerCredentials.createInsecure())}`;

const card = AgentCard.fromJSON({
  ...inProcessCard("clerk"),
  supportedInterfaces: [
    { url: authority, protocolBinding: "GRPC", protocolVersion: "1.0" },
    { url: `${httpUrl}/rpc`, protocolBinding: "JSONRPC", protocolVersion: "1.0" },
  ],
});
const requestHandler = new DefaultRequestHandler(card, store ?? new InMemoryTaskStore(), executor);
app.use("/rpc", jsonRpcHandler({ requestHandler, userBuilder: UserBuilder.noAuthentication }));
grpc.addService(A2AService, grpcService({ requestHandler, userBuilder: GrpcUserBuilder.noAuthentication }));

announce({ authority, httpUrl }, { stop: async () => store?.close() });
