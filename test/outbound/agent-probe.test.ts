/** Whether somebody is there, asked over every binding of agents that are, that are not, and that do not say. */
import {
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServiceDefinition,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";
import { describe, expect, onTestFinished, test } from "vitest";
import type { AgentCard } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createAgentConnector } from "../../src/outbound/agent-connector.ts";
import { cardOf, freePort, startRogueHttp, startRogueTcp } from "../agents/rogue-agent.ts";
import { startTestAgent } from "../agents/test-agent.ts";

async function probe(card: AgentCard, timeoutMs = 5_000): Promise<string> {
  const inProcess = new Map([["here", async () => Promise.reject(new Error("nobody calls"))]]);
  const connector = createAgentConnector({ allowPrivateUrls: true, inProcess });
  onTestFinished(() => connector.close());
  return connector
    .probe({ workspaceId: "w", agentId: "a", card }, { signal: new AbortController().signal, timeoutMs })
    .then(
      () => "there",
      (error: Error & { kind?: string }) => `${error.kind}: ${error.message}`,
    );
}

/** A gRPC server that knows the health protocol alone, and answers with a serving status. */
async function startHealthServer(serving: number): Promise<number> {
  const asItIs = (bytes: Buffer) => bytes;
  const service = {
    check: {
      path: "/grpc.health.v1.Health/Check",
      requestStream: false,
      responseStream: false,
      requestSerialize: asItIs,
      requestDeserialize: asItIs,
      responseSerialize: asItIs,
      responseDeserialize: asItIs,
    },
  } satisfies ServiceDefinition;
  const server = new Server();
  // HealthCheckResponse: field 1, a varint.
  server.addService(service, {
    check: (_call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) =>
      serving < 0 ? answer({ code: status.UNAVAILABLE, details: "not now" }) : answer(null, Buffer.from([8, serving])),
  });
  onTestFinished(() => server.forceShutdown());
  return new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    );
  });
}

describe.each(["GRPC", "JSONRPC", "HTTP+JSON"] as const)("over %s", (binding) => {
  const urlOf = (port: number) => (binding === "GRPC" ? `127.0.0.1:${port}` : `http://127.0.0.1:${port}/`);

  test("a real agent is there", async () => {
    const agent = await startTestAgent({ bindings: [binding] });
    onTestFinished(() => agent.close());
    expect(await probe(agent.card)).toBe("there");
  });

  test("nobody is there where nothing listens, or what listens says nothing", async () => {
    expect(await probe(cardOf(binding, urlOf(await freePort())))).toContain("unreachable: ");
    const mute = await startRogueTcp((socket) => socket.resume());
    onTestFinished(() => mute.close());
    expect(await probe(cardOf(binding, urlOf(mute.port)), 100)).toBe(
      "timeout: The agent was silent for 100 ms during the health check.",
    );
    await mute.idle();
  });
});

test("over gRPC, an agent is what it says of itself", async () => {
  const [UNKNOWN, SERVING, NOT_SERVING, UNAVAILABLE] = [0, 1, 2, -1];
  const ask = async (serving: number) => probe(cardOf("GRPC", `127.0.0.1:${await startHealthServer(serving)}`));
  expect(await ask(SERVING)).toBe("there");
  expect(await ask(UNKNOWN)).toBe("there");
  expect(await ask(NOT_SERVING)).toBe("refused: The agent says that it is not serving.");
  expect(await ask(UNAVAILABLE)).toBe("refused: The agent answered UNAVAILABLE.");
});

test("over HTTP, what is refused or sent elsewhere is an answer, and a broken server is none", async () => {
  const ask = async (code: number) => {
    const rogue = await startRogueHttp((_request, response) => response.writeHead(code, { location: "/" }).end());
    onTestFinished(() => rogue.close());
    return probe(cardOf("JSONRPC", `http://127.0.0.1:${rogue.port}/rpc`));
  };
  for (const code of [200, 302, 401, 404, 405, 501]) expect(await ask(code)).toBe("there");
  for (const code of [500, 502, 503]) expect(await ask(code)).toBe(`refused: The agent answered HTTP ${code}.`);
});

test("an agent in this process is there, and one that cannot be called is not", async () => {
  expect(await probe(cardOf("IN-PROCESS", "in-process:here"))).toBe("there");
  expect(await probe(cardOf("IN-PROCESS", "in-process:gone"))).toContain("unreachable: The agent's address is none");
});
