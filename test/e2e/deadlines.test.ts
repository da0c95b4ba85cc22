/** A task's deadline: what a client may ask for, how the agent learns it, and what it is not: the deadline of a call. */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { A2AService, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { cardOf, startRogueHttp2 } from "../agents/rogue-agent.ts";
import { type Binding, startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { urlOf } from "../fault/agent-lab.ts";
import { createInbox } from "../fault/inbox.ts";
import { createPuppet } from "../fault/puppet.ts";
import { asTask, failureOf, statusOf } from "../fault/said.ts";
import { journalOf, outcomeOf, reaches } from "./journal.ts";
import { startTestApp, type TestApp } from "./running-app.ts";
import { startTwoReplicas } from "./two-replicas.ts";

const { COMPLETED } = TaskState;
const ROUTING = "urn:signalbox:a2a:routing:v1";
const HEADER = "signalbox-task-deadline";
const TIMEOUT_MS = 3_600_000;
const within = (deadlineMs: unknown) => ({ metadata: { [ROUTING]: { deadlineMs } } as never });

const puppet = createPuppet();
let app: TestApp;
let client: SignalboxClient;
beforeAll(async () => {
  const flags = { "task.timeout-ms": String(TIMEOUT_MS) };
  app = await startTestApp({ flags, agents: { puppet: puppet.handler } });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  return () => app.stop();
});

/** A task's deadline, and how long after its acceptance it is, in milliseconds. */
async function deadlineOf(taskId: string): Promise<{ at: string; afterMs: number }> {
  const { deadlineTime, createTime } = await client.tasks.getTaskExecution({ taskId });
  const at = timestampDate(deadlineTime!);
  return { at: at.toISOString(), afterMs: at.getTime() - timestampDate(createTime!).getTime() };
}

test.each([0, -1, 1.5, 31_536_000_001, "60000", true, null, [], {}])(
  "deadlineMs %j is refused by path",
  async (deadlineMs) => {
    const body = {
      message: { messageId: "m", role: "ROLE_USER", parts: [{ text: "x" }] },
      metadata: { [ROUTING]: { deadlineMs, priority: "URGENT" } },
    };
    const headers = { "content-type": "application/json" };
    const answer = await fetch(`${app.httpUrl}/message:send`, { method: "POST", headers, body: JSON.stringify(body) });
    expect(answer.status).toBe(400);
    const { error } = (await answer.json()) as { error: { details: { fieldViolations?: { field: string }[] }[] } };
    const fields = error.details.flatMap(({ fieldViolations = [] }) => fieldViolations.map(({ field }) => field));
    expect(fields).toEqual([`metadata["${ROUTING}"].priority`, `metadata["${ROUTING}"].deadlineMs`]);
  },
);

test("a client may ask for less than the server gives, and not for more", async () => {
  for (const [asked, given] of [
    [1_234_567, 1_234_567],
    [31_536_000_000, TIMEOUT_MS],
  ]) {
    const { id } = asTask(await client.send("begin", { agent: "puppet", wait: false, ...within(asked) }));
    (await puppet.turn()).task(COMPLETED);
    expect((await deadlineOf(id)).afterMs).toBe(given);
  }
});

describe.each(["GRPC", "JSONRPC", "HTTP+JSON"] as const satisfies readonly Binding[])("over %s", (binding) => {
  let agent: TestAgent;
  const agentId = binding.toLowerCase().replace("+", "-");
  beforeAll(async () => {
    agent = await startTestAgent({ bindings: [binding] });
    await client.registry.registerAgent({ agentId, source: { case: "card", value: agent.card } });
    return () => agent.close();
  });

  test("the deadline travels with every message, and the client's metadata as they are", async () => {
    const wishes = within(600_000);
    const task = asTask(await client.send("ask", { agent: agentId, ...wishes }));
    await client.send("blue", { taskId: task.id });
    const { at, afterMs } = await deadlineOf(task.id);
    expect(afterMs).toBe(600_000);
    expect(agent.requests.slice(-2).map(({ headers }) => String(headers[HEADER]))).toEqual([at, at]);
    expect(agent.requests.at(-2)!.params.metadata).toEqual(wishes.metadata);
  });

  test("it ends the task, and the agent stops", async () => {
    const message = userMessage("slow");
    const answer = client.send(message, { agent: agentId, ...within(1000) });
    const turn = await agent.turn(message.messageId);
    expect(await turn.outcome).toBe("canceled");
    const task = asTask(await answer);
    expect(statusOf(task)).toBe("FAILED: The task's deadline passed before its agent finished.");
    expect(await outcomeOf([client], task.id)).toBe(statusOf(task));
  });

  test("the deadline of a call ends the call only", async () => {
    const grpc = createClient(A2AService, createGrpcTransport({ baseUrl: `http://${app.grpcAddress}` }));
    for (const { sendMessage } of [client.a2a, grpc]) {
      const message = userMessage("slow", { contextId: crypto.randomUUID() });
      const { contextId } = message;
      const call = failureOf(sendMessage({ tenant: `a.${agentId}`, message }, { timeoutMs: 1000 }));
      const turn = await agent.turn(message.messageId);
      expect(await call).toMatchObject({ code: "DeadlineExceeded" });
      const { tasks } = await client.a2a.listTasks({ contextId });
      expect(tasks.map(statusOf)).toEqual(["WORKING: At it."]);
      turn.release();
      expect(statusOf(await client.waitFor(tasks[0]!.id))).toBe("COMPLETED");
      const request = agent.requests.at(-1)!;
      expect(String(request.headers[HEADER])).toBe((await deadlineOf(tasks[0]!.id)).at);
    }
  });
});

test("gRPC is told in its own way too, a second later than the task's", async () => {
  const heard = createInbox<Record<string, unknown>>();
  const rogue = await startRogueHttp2((stream, headers) => {
    heard.put(headers);
    stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "12" }, { endStream: true });
  });
  onTestFinished(() => rogue.close());
  const card = cardOf("GRPC", urlOf("GRPC", rogue.port));
  await client.registry.registerAgent({ agentId: "rogue", source: { case: "card", value: card } });
  const task = asTask(await client.send("hello", { agent: "rogue", ...within(90_000) }));
  const headers = await heard.next();
  expect(headers[HEADER]).toBe((await deadlineOf(task.id)).at);
  const [, amount, unit] = /^(\d+)([mS])$/.exec(String(headers["grpc-timeout"]))!;
  const leftMs = Number(amount) * (unit === "S" ? 1000 : 1);
  // The time that the test has taken is missing.
  expect(leftMs).toBeLessThanOrEqual(91_000);
  expect(leftMs).toBeGreaterThan(60_000);
});

test("when its replica is gone, another one ends what waits for its client for too long", async () => {
  const lab = await startTwoReplicas({ flags: { "task.input-timeout-ms": "1500", "lease.ms": "3600000" } });
  onTestFinished(() => lab.close());
  const answer = lab.a.client.send("begin");
  const turn = await lab.puppet.turn();
  turn.name("INPUT_REQUIRED");
  const { id } = asTask(await answer);
  // It looks for nothing any more.
  lab.a.wire.sever();
  expect((await lab.puppet.canceled()).taskId).toBe(turn.taskId);
  const expected = "FAILED: The task waited for input for too long.";
  expect(await reaches(lab.b.client, id, "FAILED")).toBe(expected);
  lab.a.wire.mend();
  expect(await outcomeOf([lab.a.client, lab.b.client], id)).toBe(expected);
  const [, asked, claimed, failed] = await journalOf(lab.b.client, id);
  expect([asked!.by, claimed!.by, failed!.by]).toEqual([lab.a.id, lab.b.id, lab.b.id]);
  expect(claimed!.cause).toBe("waited too long for its client");
});
