/** The wire to an agent of @a2a-js/sdk breaks in the middle of a task: the client is told all the same, once. */
import { toJson } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { startTcpProxy, type TcpProxy } from "../fault/tcp-proxy.ts";
import {
  artifactsOf,
  assemble,
  collect,
  connect,
  historyOf,
  lineOf,
  readUntil,
  say,
  shownTask,
} from "./a2a-js-client.ts";
import { BINDINGS } from "./a2a-js-lab.ts";

const STORY = { story: "chunk 1;chunk 2;chunk 3;" };

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ flags: { "task.silence-ms": "20000" } });
});
afterAll(() => app.stop());

describe.each(BINDINGS)("an agent over %s", (binding) => {
  const agentId = `over-${binding.toLowerCase().replace("+", "-")}`;
  let agent: TestAgent;
  let wire: TcpProxy;

  beforeAll(async () => {
    agent = await startTestAgent({ bindings: [binding] });
    const [offered] = agent.card.supportedInterfaces;
    const port = /:(\d+)/.exec(offered!.url.replace("http://", ""))![1]!;
    wire = await startTcpProxy(Number(port));
    offered!.url = offered!.url.replace(port, String(wire.port));
    await app.register(agentId, { card: toJson(AgentCardSchema, agent.card) });
  });
  afterAll(async () => {
    await agent.close();
    await wire.close();
  });

  /** A task whose agent has told the first chunk of three and waits. */
  async function begun() {
    const client = await connect(`${app.httpUrl}/agents/${agentId}`, "JSONRPC");
    const request = say("pause 3");
    const stream = client.sendMessageStream(request);
    const items = await readUntil(stream, "story: chunk 1;");
    return { client, stream, items, turn: await agent.turn(request.message.messageId) };
  }

  test("goes on where its stream was cut", async () => {
    const { client, stream, items, turn } = await begun();
    wire.cut();
    await agent.subscribed(turn.taskId);
    turn.release();
    const rest = await collect(stream);
    expect(rest.map(lineOf)).toEqual(["+story: chunk 2;", "+story: chunk 3; (last)", "COMPLETED: The end."]);
    const stored = await client.getTask({ tenant: "", id: shownTask(items[0]).id });
    expect(artifactsOf(stored)).toEqual(STORY);
  });

  test("ends while it cannot be reached", async () => {
    const { client, stream, items, turn } = await begun();
    wire.sever();
    turn.release();
    wire.mend();
    const rest = await collect(stream);
    expect(lineOf(rest.at(-1)!)).toBe("COMPLETED: The end.");
    expect(assemble([...items, ...rest])).toEqual(STORY);
    const stored = await client.getTask({ tenant: "", id: shownTask(items[0]).id });
    expect(artifactsOf(stored)).toEqual(STORY);
    expect(historyOf(stored)).toEqual(["pause 3"]);
  });
});

test("a server stops while a message is on its way to an agent that says nothing to it", async () => {
  const agent = await startTestAgent();
  const stopping = await startTestApp();
  await stopping.register("lone", { cardUrl: agent.cardUrl });
  const client = await connect(stopping.httpUrl, "JSONRPC");
  const stream = client.sendMessageStream(say("slow"));
  const [first] = await readUntil(stream, "WORKING: At it.");
  const more = say("hang", { taskId: shownTask(first).id, returnImmediately: true });
  await client.sendMessage(more);
  await agent.turn(more.message.messageId);
  await stream.return();
  await stopping.stop();
  await agent.close();
});
