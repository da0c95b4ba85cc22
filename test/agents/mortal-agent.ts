/**
 * A small agent over JSON-RPC, a program of its own that a test can kill: `node mortal-agent.ts PORT DESCRIPTION`. It completes
 * every task, serves its card with an ETag, and prints a line when it is ready and for each answer that it gives for its card.
 */
import { createHash, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";

const [port = "0", description = ""] = process.argv.slice(2);
const card = JSON.stringify({
  name: "Mortal",
  description,
  version: "1",
  supportedInterfaces: [{ url: `http://127.0.0.1:${port}/rpc`, protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
  capabilities: {},
  defaultInputModes: ["text/plain"],
  defaultOutputModes: ["text/plain"],
  skills: [{ id: "work", name: "Work", description: "Works.", tags: ["test"] }],
});
const etag = `"${createHash("sha1").update(card).digest("hex")}"`;

const server = createServer(async (request, response) => {
  if (request.method === "GET") {
    const status = request.headers["if-none-match"] === etag ? 304 : 200;
    console.log(`card ${status}`);
    response.writeHead(status, { etag, "content-type": "application/json" }).end(status === 200 ? card : undefined);
    return;
  }
  const { id } = JSON.parse(await text(request)) as { id: unknown };
  const task = { id: randomUUID(), contextId: randomUUID(), status: { state: "TASK_STATE_COMPLETED" } };
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify({ jsonrpc: "2.0", id, result: { task } }));
});
server.listen(Number(port), "127.0.0.1", () => console.log("ready"));
// It dies with the test, however that ends.
process.stdin.on("end", () => process.exit(0)).resume();
