/** Agents whose answers are no A2A, or half of it: the caller is told, the task fails, and the raw text is kept. */
import type { RequestListener } from "node:http";
import { describe, expect, onTestFinished, test } from "vitest";
import { cardOf, type RogueAgent, startRogueHttp, startRogueHttp2 } from "../agents/rogue-agent.ts";
import type { Binding } from "../agents/test-agent.ts";
import { urlOf, useAgentLab } from "./agent-lab.ts";
import { asTask, failureOf, lineOf, statusOf, textOf } from "./said.ts";

const HTTP_BINDINGS = ["JSONRPC", "HTTP+JSON"] as const;
const lab = useAgentLab();

describe("an agent over HTTP", () => {
  const RUBBISH: Record<string, [string, string, RegExp]> = {
    "a page": ["text/html", "<html>Welcome</html>", /is text\/html|is one answer/],
    "JSON of something else": [
      "application/json",
      '{"weather":"fine"}',
      /has neither result nor error|one answer|carries the id/,
    ],
    "events that are no JSON": ["text/event-stream", "data: hello\n\n", /is no JSON/],
    "events of something else": [
      "text/event-stream",
      'data: {"result":{"weather":"fine"}}\n\n',
      /carries the id|breaks the A2A contract/,
    ],
  };

  async function answering(binding: Binding, listener: RequestListener): Promise<{ agent: string; rogue: RogueAgent }> {
    const rogue = await startRogueHttp(listener);
    onTestFinished(() => rogue.close());
    return { agent: await lab.register(cardOf(binding, urlOf(binding, rogue.port))), rogue };
  }

  describe.each(HTTP_BINDINGS)("%s", (binding) => {
    test.each(Object.entries(RUBBISH))("answers %s", async (_, [type, body, reason]) => {
      const { agent } = await answering(binding, (_request, response) => {
        response.writeHead(200, { "content-type": type }).end(body);
      });
      // Who has not seen the task is told at once; the task stays hidden, with the raw text.
      const failure = await failureOf(lab.client.send("hello", { agent }));
      expect(failure).toMatchObject({ code: "Internal", reason: "INVALID_AGENT_RESPONSE" });
      expect(failure.message).not.toContain("weather");
      const hidden = failure.metadata!.taskId!;
      expect(await failureOf(lab.client.a2a.getTask({ id: hidden }))).toMatchObject({ reason: "TASK_NOT_FOUND" });
      const raw = body.startsWith("data: ") ? body.slice(6).trim() : body;
      expect(await lab.causeOf(hidden)).toContain(raw);

      // Who has seen it finds it failed.
      const { id } = asTask(await lab.client.send("hello", { agent, wait: false }));
      const status = statusOf(await lab.client.waitFor(id));
      expect(status).toMatch(/^FAILED: The agent's answer to SendStreamingMessage/);
      expect(status).toMatch(reason);
      expect(status).not.toContain("weather");
      expect(await lab.causeOf(id)).toContain(raw);
    });

    test("breaks off in the middle of its first event", async () => {
      const { agent } = await answering(binding, (_request, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write('data: {"jsonrpc":"2.0","id":1,"result":{"task":{"id":"half', () => response.destroy());
      });
      const status = statusOf(asTask(await lab.client.send("hello", { agent })));
      expect(status).toBe("FAILED: The connection to the agent broke during SendStreamingMessage.");
    });
  });

  test("breaks off between chunks, and nothing is lost or said twice", async () => {
    const task = { id: "t", contextId: "c", status: { state: "TASK_STATE_WORKING" } };
    const part = (text: string) => ({ artifactId: "a", parts: [{ text }] });
    const chunk = (text: string, append: boolean) => ({
      artifactUpdate: { taskId: "t", contextId: "c", artifact: part(text), append },
    });
    const streams: Record<string, unknown[]> = {
      SendStreamingMessage: [{ task }, chunk("1", false), chunk("2", true)],
      SubscribeToTask: [
        { task: { ...task, artifacts: [{ artifactId: "a", parts: ["1", "2", "3"].map((text) => ({ text })) }] } },
        chunk("4", true),
        { statusUpdate: { taskId: "t", contextId: "c", status: { state: "TASK_STATE_COMPLETED" } } },
      ],
    };
    const { agent } = await answering("JSONRPC", async (request, response) => {
      let body = "";
      for await (const bytes of request) body += bytes;
      const { id, method } = JSON.parse(body);
      response.writeHead(200, { "content-type": "text/event-stream" });
      const events = streams[method]!.map((result) => `data: ${JSON.stringify({ jsonrpc: "2.0", id, result })}\n\n`);
      response.write(events.join(""), () => response.destroy());
    });
    const lines: string[] = [];
    for await (const item of lab.client.stream("go", { agent })) lines.push(lineOf(item));
    // The lost chunk came with the snapshot, which replaces what was known.
    expect(lines.slice(-5)).toEqual(["chunk 1", "chunk 2", "chunk 123", "chunk 4", "COMPLETED"]);
    const [stored] = (await lab.client.a2a.listTasks({ tenant: `a.${agent}`, includeArtifacts: true })).tasks;
    expect(textOf(stored)).toBe("1234");
  });
});

test("an agent over gRPC answers what is no gRPC", async () => {
  const rogue = await startRogueHttp2((stream) => {
    stream.respond({ ":status": 200, "content-type": "text/html" });
    stream.end("<html>Welcome</html>");
  });
  onTestFinished(() => rogue.close());
  const agent = await lab.register(cardOf("GRPC", urlOf("GRPC", rogue.port)));
  const failure = await failureOf(lab.client.send("hello", { agent }));
  expect(failure).toMatchObject({ code: "Internal", reason: "INVALID_AGENT_RESPONSE" });
  expect(await lab.causeOf(failure.metadata!.taskId!)).toMatch(/^INVALID_AGENT_RESPONSE: The agent's answer/);
});

test("an agent over gRPC sends a frame that is no message", async () => {
  const rogue = await startRogueHttp2((stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(Buffer.from([0, 0, 0, 0, 3, 0xff, 0xff, 0xff]));
  });
  onTestFinished(() => rogue.close());
  const agent = await lab.register(cardOf("GRPC", urlOf("GRPC", rogue.port)));
  const failure = await failureOf(lab.client.send("hello", { agent }));
  expect(failure).toMatchObject({ code: "Internal", reason: "INVALID_AGENT_RESPONSE" });
  expect(await lab.causeOf(failure.metadata!.taskId!)).toContain(Buffer.from([0xff, 0xff, 0xff]).toString("base64"));
});
