/**
 * What `npm start` shows: the server with its embedded database, two A2A agents on loopback ports, and a first task that
 * streams before the reader's eyes. Then it keeps serving until Ctrl-C.
 *
 *     node scripts/demo.ts [flags of "signalbox serve"]
 */
import { Code, ConnectError } from "@connectrpc/connect";
import type { RunningAgent } from "../examples/agents/agent-server.ts";
import { startTravelAgent } from "../examples/agents/travel.ts";
import { startWriterAgent } from "../examples/agents/writer.ts";
import type { RunningApp } from "../src/app.ts";
import { type Io, processIo } from "../src/cli/io.ts";
import { createProgram, runProgram } from "../src/cli/run.ts";
import { addConfigOptions, banner, configOf, serve } from "../src/cli/serve.ts";
import { createUpdateTeller } from "../src/cli/task-text.ts";
import { DEFAULT_SERVER } from "../src/config/load.ts";
import { createSignalboxClient, type SignalboxClient } from "../src/sdk/client.ts";

const QUESTION = "Write about railway signals";
/** Codes by which a server does not answer at all. */
const UNREACHABLE = new Set([Code.Unavailable, Code.Canceled, Code.Internal, Code.Unknown]);

const io = processIo();
const program = createProgram("demo", io).description("Signalbox with two demo agents.");
addConfigOptions(program).action(async () => {
  // The demo speaks for itself; only what is wrong is logged, unless the user wants more.
  const config = configOf(program, io, { "log.level": "warn" });
  const [writer, travel] = await Promise.all([startWriterAgent(), startTravelAgent()]);
  try {
    await serve(config, io, async (app) => {
      io.out(`${banner(config, app)}\n`);
      // Where everybody must authenticate, it is the first admin, or whoever the environment says.
      const apiKey = app.firstKey ?? config.auth.adminKey ?? process.env.SIGNALBOX_API_KEY;
      const client = createSignalboxClient({ baseUrl: app.httpUrl, signal: io.stop, ...(apiKey && { apiKey }) });
      try {
        await registerAgents(client, { writer, travel });
        await showFirstTask(client, io);
        io.out(whatNext(app));
      } catch (error) {
        // Ctrl-C came in the middle, which is no failure.
        if (!io.stop.aborted) throw error;
      }
    });
  } finally {
    await Promise.all([writer.close(), travel.close()]);
  }
});
process.exitCode = await runProgram(program, process.argv.slice(2), { io, exitCode: 0 });

/** Registers the agents, or tells the server where they are now when it knows them from an earlier run. */
async function registerAgents({ registry }: SignalboxClient, agents: Record<string, RunningAgent>): Promise<void> {
  for (const [agentId, { url }] of Object.entries(agents)) {
    const cardUrl = `${url}/.well-known/agent-card.json`;
    try {
      await registry.registerAgent({ agentId, source: { case: "cardUrl", value: cardUrl } });
    } catch (error) {
      if (ConnectError.from(error).code !== Code.AlreadyExists) throw error;
      await registry.updateAgent({ agent: { agentId, cardUrl }, updateMask: { paths: ["card_url"] } });
    }
    io.out(`Agent "${agentId}" is registered; it serves at ${url}.\n`);
  }
  await registry.setDefaultAgent({ agentId: "writer" });
}

async function showFirstTask(client: SignalboxClient, { out }: Io): Promise<void> {
  out(`\nA first task, streamed through the public API: "${QUESTION}"\n\n`);
  const teller = createUpdateTeller();
  try {
    for await (const update of client.stream(QUESTION)) out(teller.tell(update));
  } catch (error) {
    // A policy or a budget that is kept from an earlier run may forbid it, which is no reason not to serve.
    if (!(error instanceof ConnectError) || UNREACHABLE.has(error.code)) throw error;
    out(`This server does not take it: ${error.rawMessage}\n`);
  }
  out(`${teller.end()}\n`);
}

function whatNext({ httpUrl, grpcAddress }: RunningApp): string {
  const request = {
    jsonrpc: "2.0",
    id: 1,
    method: "SendMessage",
    params: { message: { messageId: "m1", role: "ROLE_USER", parts: [{ text: "Write about lanterns" }] } },
  };
  const server = httpUrl === DEFAULT_SERVER ? "" : ` --server ${httpUrl}`;
  const signalbox = "npx node src/main.ts";
  return [
    "Try it from another terminal:",
    "",
    "  # the writer, over JSON-RPC",
    `  curl ${httpUrl}/rpc -H 'A2A-Version: 1.0' -H 'Content-Type: application/json' -d '${JSON.stringify(request)}'`,
    "",
    "  # the command line; the travel agent asks for input",
    `  ${signalbox} send${server} --stream Write about tunnels`,
    `  ${signalbox} send${server} --agent travel Plan a journey`,
    `  ${signalbox} route preview${server} Plan a journey`,
    `  ${signalbox} task list${server}`,
    `  ${signalbox} agents list${server}`,
    "",
    "  # what clients of the router see",
    `  curl ${httpUrl}/.well-known/agent-card.json`,
    `  npx buf curl --protocol grpc --http2-prior-knowledge http://${grpcAddress}/lf.a2a.v1.A2AService/ListTasks`,
    "",
    "Serving. Ctrl-C stops it.",
    "",
  ].join("\n");
}
