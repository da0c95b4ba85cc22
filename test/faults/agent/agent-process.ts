/**
 * An agent of the fault suite, a program of its own: `node agent-process.ts FOLDER HTTP_PORT GRPC_PORT`. It speaks all three
 * bindings, keeps its journal and its tasks in the folder, and prints a line when it is ready.
 */
import { createServer } from "node:http";
import { join } from "node:path";
import { AgentCard, type SendMessageRequest } from "@a2a-js/sdk";
import { DefaultRequestHandler, type ServerCallContext } from "@a2a-js/sdk/server";
import { jsonRpcHandler, restHandler, UserBuilder } from "@a2a-js/sdk/server/express";
import { A2AService, UserBuilder as GrpcUserBuilder, grpcService } from "@a2a-js/sdk/server/grpc";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import express from "express";
import { createFaultBehaviour } from "./behaviour.ts";
import { openJournal, readJournal } from "./journal.ts";
import { RememberedTasks } from "./remembered-tasks.ts";

const [folder = "", httpPort = "", grpcPort = ""] = process.argv.slice(2);
const journalFile = join(folder, "journal");
const before = readJournal(journalFile);
const known = new Set(before.flatMap(({ messageId }) => messageId ?? []));
const journal = openJournal(journalFile);
// What it had in hand when it died it does not go on with.
const open = new Set(before.filter(({ kind }) => kind === "began").map(({ taskId }) => taskId));
for (const { kind, taskId } of before) if (kind === "ended" || kind === "canceled") open.delete(taskId);
for (const taskId of open) journal.write({ kind: "ended", taskId });

/** The SDK's own handler; it only writes down what comes in. */
class RecordingHandler extends DefaultRequestHandler {
  override sendMessage(params: SendMessageRequest, context: ServerCallContext) {
    record(params);
    return super.sendMessage(params, context);
  }
  override sendMessageStream(params: SendMessageRequest, context: ServerCallContext) {
    record(params);
    return super.sendMessageStream(params, context);
  }
}

function record({ message }: SendMessageRequest): void {
  if (message) journal.write({ kind: "got", taskId: message.taskId, messageId: message.messageId });
}

const card = AgentCard.fromJSON({
  name: "Fault agent",
  description: "An agent that fails.",
  version: "1.0.0",
  supportedInterfaces: [
    { url: `127.0.0.1:${grpcPort}`, protocolBinding: "GRPC", protocolVersion: "1.0" },
    { url: `http://127.0.0.1:${httpPort}/rpc`, protocolBinding: "JSONRPC", protocolVersion: "1.0" },
    { url: `http://127.0.0.1:${httpPort}/rest`, protocolBinding: "HTTP+JSON", protocolVersion: "1.0" },
  ],
  capabilities: { streaming: true },
  defaultInputModes: ["text/plain"],
  defaultOutputModes: ["text/plain"],
  skills: [],
});
const tasks = new RememberedTasks(join(folder, "tasks"));
const requestHandler = new RecordingHandler(card, tasks, createFaultBehaviour(journal, known));
const app = express();
app.use("/rpc", jsonRpcHandler({ requestHandler, userBuilder: UserBuilder.noAuthentication }));
app.use("/rest", restHandler({ requestHandler, userBuilder: UserBuilder.noAuthentication }));
const http = createServer(app).listen(Number(httpPort), "127.0.0.1");
await new Promise((resolve) => http.once("listening", resolve));
const grpc = new Server();
grpc.addService(A2AService, grpcService({ requestHandler, userBuilder: GrpcUserBuilder.noAuthentication }));
await new Promise<void>((resolve, reject) => {
  const credentials = ServerCredentials.createInsecure();
  grpc.bindAsync(`127.0.0.1:${grpcPort}`, credentials, (error) => (error ? reject(error) : resolve()));
});
// It dies with the suite, however that ends.
process.stdin.on("end", () => process.exit(0)).resume();
console.log("ready");
