/** Things that cross on their way between a client, the router and an agent. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { create } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import { MessageSchema, Role } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { cardOf } from "../agents/rogue-agent.ts";
import { useAgentLab } from "./agent-lab.ts";
import { asTask, statusOf } from "./said.ts";

const lab = useAgentLab();

/** A call to the agent, and the ways to answer it. */
interface AgentCall {
  reply(result: object): void;
  refuse(code: number): void;
  /** Begins a stream, or goes on with it. */
  say(item: object): void;
  end(): void;
}

test("a message that reaches the agent while its question is on the way back ends as the agent ends it", async () => {
  let state = "WORKING";
  let stream: AgentCall | undefined;
  const agent = await scriptedAgent({
    SendStreamingMessage(call) {
      stream = call;
      call.say({ task: task(state) });
    },
    SendMessage(call) {
      state = "INPUT_REQUIRED";
      stream?.say({ statusUpdate: { taskId: "u1", contextId: "u", status: { state: `TASK_STATE_${state}` } } });
      stream?.end();
      // Only when the router has taken the question for the end of the turn does the agent take the message.
      void watched.promise.then(() => {
        state = "COMPLETED";
        call.reply({ task: task(state) });
      });
    },
    GetTask: (call) => call.reply(task(state)),
    SubscribeToTask: (call) => call.refuse(-32004),
  });
  const watched = Promise.withResolvers<void>();
  const { id } = asTask(await lab.client.send("begin", { agent, wait: false }));
  const seen: string[] = [];
  for await (const { payload } of lab.client.watch(id)) {
    if (payload.case !== "task" && payload.case !== "statusUpdate") continue;
    const status = statusOf(payload.value);
    seen.push(status);
    if (status === "WORKING" && seen.length <= 2) await lab.client.send("more", { taskId: id, wait: false });
    if (status === "INPUT_REQUIRED") watched.resolve();
  }
  expect(seen.slice(-2)).toEqual(["INPUT_REQUIRED", "COMPLETED"]);
});

test("a task that its agent cancels in its own time is followed until it has", async () => {
  let state = "INPUT_REQUIRED";
  const agent = await scriptedAgent({
    SendStreamingMessage(call) {
      call.say({ task: task(state) });
      call.end();
    },
    CancelTask(call) {
      state = "WORKING";
      call.reply(task(state));
    },
    SubscribeToTask: (call) => call.refuse(-32004),
    GetTask(call) {
      call.reply(task(state));
      state = "CANCELED";
    },
  });
  const { id } = asTask(await lab.client.send("begin", { agent }));
  await lab.client.a2a.cancelTask({ id });
  let last = "";
  for await (const { payload } of lab.client.watch(id)) {
    if (payload.case === "task" || payload.case === "statusUpdate") last = statusOf(payload.value);
  }
  expect(last).toBe("CANCELED");
});

test("two cancels at once have one outcome", async () => {
  let calls = 0;
  const agent = await scriptedAgent({
    SendStreamingMessage: (call) => call.say({ task: task("WORKING") }),
    CancelTask: (call) => call.reply(task(++calls > 0 ? "CANCELED" : "WORKING")),
    SubscribeToTask: (call) => call.refuse(-32004),
    GetTask: (call) => call.reply(task(calls > 0 ? "CANCELED" : "WORKING")),
  });
  const { id } = asTask(await lab.client.send("begin", { agent, wait: false }));
  for await (const { payload } of lab.client.watch(id)) {
    if (payload.case === "statusUpdate" || (payload.case === "task" && statusOf(payload.value) === "WORKING")) break;
  }
  const outcomes = await Promise.allSettled([1, 2, 3].map(() => lab.client.a2a.cancelTask({ id })));
  for (const outcome of outcomes) {
    if (outcome.status === "fulfilled") expect(statusOf(outcome.value)).toBe("CANCELED");
    else expect(String(outcome.reason)).toContain("it is CANCELED already");
  }
  expect(outcomes.some(({ status }) => status === "fulfilled")).toBe(true);
});

test("an agent that answers with a message and goes on talking keeps no place", async () => {
  const answer = lab.client.send("say hello", { agent: "puppet" });
  const turn = await lab.puppet.turn();
  const parts = [{ content: { case: "text" as const, value: "hello" } }];
  turn.say({ case: "message", value: create(MessageSchema, { messageId: "m", role: Role.AGENT, parts }) });
  // It never ends its turn. That no task runs any more is looked at after each test.
  expect(await answer).toMatchObject({ messageId: "m" });
});

const task = (state: string) => ({ id: "u1", contextId: "u", status: { state: `TASK_STATE_${state}` } });

/** Registers an agent that answers JSON-RPC as its script says; its id. */
async function scriptedAgent(script: Record<string, (call: AgentCall) => void>): Promise<string> {
  const server = createServer((req, res) => void answer(req, res, script));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return lab.register(cardOf("JSONRPC", `http://127.0.0.1:${(server.address() as AddressInfo).port}`));
}

async function answer(req: IncomingMessage, res: ServerResponse, script: Record<string, (call: AgentCall) => void>) {
  let text = "";
  for await (const chunk of req) text += chunk;
  const { id, method } = JSON.parse(text) as { id: unknown; method: string };
  const body = (content: object) => JSON.stringify({ jsonrpc: "2.0", id, ...content });
  const send = (content: object) => res.setHeader("content-type", "application/json").end(body(content));
  script[method]?.({
    reply: (result) => send({ result }),
    refuse: (code) => send({ error: { code, message: "no" } }),
    say(item) {
      if (!res.headersSent) res.setHeader("content-type", "text/event-stream");
      res.write(`data: ${body({ result: item })}\n\n`);
    },
    end: () => res.end(),
  });
}
