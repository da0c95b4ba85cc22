/**
 * The peer @a2a-js/sdk: its own server, over gRPC and JSON-RPC, with an executor that does what `clerk` does. Argument: the
 * PostgreSQL database for its tasks; none to keep them in memory. Both stores of tasks are its own.
 */
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { AgentCard, type Task, TaskState, type TaskStatus } from "@a2a-js/sdk";
import { AgentEvent, type AgentExecutor, DefaultRequestHandler, InMemoryTaskStore } from "@a2a-js/sdk/server";
import { DatabaseTaskStore } from "@a2a-js/sdk/server/database";
import { jsonRpcHandler, UserBuilder } from "@a2a-js/sdk/server/express";
import { A2AService, UserBuilder as GrpcUserBuilder, grpcService } from "@a2a-js/sdk/server/grpc";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import express from "express";
import { Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import { inProcessCard } from "../../test/e2e/running-app.ts";
import { announce } from "./announce.ts";

/** As many as Signalbox has by default. */
const CONNECTIONS = 10;

const [url] = process.argv.slice(2);
const db = url === undefined ? undefined : await openDatabase(url);
const store = db ? new DatabaseTaskStore(db) : new InMemoryTaskStore();

/** With the SDK's tables in it, made by its own command, `a2a-db`. */
async function openDatabase(connectionString: string): Promise<Kysely<unknown>> {
  const command = fileURLToPath(new URL("cli/a2a_db.js", import.meta.resolve("@a2a-js/sdk")));
  await promisify(execFile)(process.execPath, [command, "upgrade", "--url", connectionString]);
  const pool = new pg.Pool({ connectionString, max: CONNECTIONS });
  pool.on("error", (error) => console.error(error));
  return new Kysely({ dialect: new PostgresDialect({ pool }) });
}

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
const requestHandler = new DefaultRequestHandler(card, store, executor);
app.use("/rpc", jsonRpcHandler({ requestHandler, userBuilder: UserBuilder.noAuthentication }));
grpc.addService(A2AService, grpcService({ requestHandler, userBuilder: GrpcUserBuilder.noAuthentication }));

announce({ authority, httpUrl });
