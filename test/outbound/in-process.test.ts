/** Agents that are functions in this process. */
import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, test } from "vitest";
import { type StreamResponse, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createAgentConnector } from "../../src/outbound/agent-connector.ts";
import type { AgentHandler, HandlerContext } from "../../src/outbound/in-process-channel.ts";
import type { AgentClient, AgentConnector } from "../../src/services/agent-port.ts";
import { collect, failureOf, patiently, say, stateOf, taskOf } from "../agents/calling.ts";
import { cardOf } from "../agents/rogue-agent.ts";

let connector: AgentConnector;
afterEach(() => connector.close());

function connect(handler: AgentHandler): AgentClient {
  connector = createAgentConnector({ allowPrivateUrls: false, inProcess: new Map([["agent", handler]]) });
  return connector.connect({ workspaceId: "w", agentId: "a", card: cardOf("IN-PROCESS", "in-process:agent") });
}

const item = (payload: object): StreamResponse => create(StreamResponseSchema, { payload } as object);
const task = (id: string, state: TaskState = TaskState.WORKING) =>
  item({ case: "task", value: { id, contextId: "c", status: { state } } });
const status = (taskId: string, state: TaskState) =>
  item({ case: "statusUpdate", value: { taskId, contextId: "c", status: { state } } });
const chunk = (taskId: string, text: string, append = true) =>
  item({
    case: "artifactUpdate",
    value: {
      taskId,
      contextId: "c",
      append,
      artifact: { artifactId: "a", parts: [{ content: { case: "text", value: text } }] },
    },
  });

/** Works in two chunks, the second when `go` resolves. */
function worker(go: Promise<unknown>, seen: HandlerContext[] = []): AgentHandler {
  return async function* (_message, context) {
    seen.push(context);
    yield task("t");
    yield chunk("t", "one", false);
    await go;
    yield chunk("t", "two");
    yield status("t", TaskState.COMPLETED);
  };
}

describe("an agent in this process", () => {
  test("streams, and is the same to a caller that waits", async () => {
    const client = connect(worker(Promise.resolve()));
    const kinds = (await collect(client.sendStream(say("x"), patiently()))).map((one) => one.payload.case);
    expect(kinds).toEqual(["task", "artifactUpdate", "artifactUpdate", "statusUpdate"]);
    const done = taskOf(await client.send(say("x"), patiently()));
    expect(done.status?.state).toBe(TaskState.COMPLETED);
    expect(done.artifacts[0]?.parts.map((part) => part.content.value)).toEqual(["one", "two"]);
    expect((await client.get("t", patiently())).status?.state).toBe(TaskState.COMPLETED);
  });

  test("goes on when its caller leaves, and others may watch", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const client = connect(worker(promise));
    expect(taskOf(await client.send(say("x"), { ...patiently(), returnImmediately: true })).status?.state).toBe(
      TaskState.WORKING,
    );
    const watcher = client.subscribe("t", patiently())[Symbol.asyncIterator]();
    expect(taskOf((await watcher.next()).value).id).toBe("t");
    resolve();
    const rest: StreamResponse[] = [];
    for (let next = await watcher.next(); !next.done; next = await watcher.next()) rest.push(next.value);
    expect(stateOf(rest.at(-1)!)).toBe(TaskState.COMPLETED);
  });

  test("answers with a Message, or with one Task", async () => {
    const reply = { messageId: "r", role: 2, parts: [{ content: { case: "text", value: "hi" } }] };
    const client = connect(async (message) =>
      message.parts[0]?.content.value === "task"
        ? task("t", TaskState.COMPLETED)
        : item({ case: "message", value: reply }),
    );
    expect((await client.send(say("x"), patiently())).payload.case).toBe("message");
    expect((await collect(client.sendStream(say("x"), patiently()))).map((one) => one.payload.case)).toEqual([
      "message",
    ]);
    expect(taskOf(await client.send(say("task"), patiently())).id).toBe("t");
  });

  test("is told what goes beside the message", async () => {
    const seen: HandlerContext[] = [];
    const client = connect(worker(Promise.resolve(), seen));
    const beside = {
      acceptedOutputModes: ["text/plain"],
      metadata: { k: 1 },
      extensions: ["urn:x"],
      traceparent: "00-ab",
    };
    await client.send(say("x"), { ...patiently(), ...beside });
    expect(seen[0]).toMatchObject({
      task: undefined,
      acceptedOutputModes: ["text/plain"],
      metadata: { k: 1 },
      headers: { "a2a-extensions": "urn:x", traceparent: "00-ab" },
    });
  });

  test("asks and goes on; a finished task takes no message", async () => {
    const client = connect(async function* (_message, { task: before }) {
      if (before) yield status("t", TaskState.COMPLETED);
      else yield task("t", TaskState.INPUT_REQUIRED);
    });
    expect(taskOf(await client.send(say("x"), patiently())).status?.state).toBe(TaskState.INPUT_REQUIRED);
    const after = taskOf(await client.send(say("y", { taskId: "t" }), patiently()));
    expect(after.status?.state).toBe(TaskState.COMPLETED);
    expect(after.history.map((message) => message.parts[0]?.content.value)).toEqual(["y"]);
    expect((await failureOf(client.send(say("z", { taskId: "t" }), patiently()))).reason).toBe("UNSUPPORTED_OPERATION");
    expect((await failureOf(client.cancel("t", patiently()))).reason).toBe("TASK_NOT_CANCELABLE");
  });

  test("is canceled at once, whether it listens or not", async () => {
    const seen: HandlerContext[] = [];
    const client = connect(worker(new Promise(() => {}), seen));
    const watched = collect(client.sendStream(say("x"), patiently()));
    await client.send(say("x"), { ...patiently(), returnImmediately: true });
    const canceled = await client.cancel("t", patiently());
    expect(canceled.status?.state).toBe(TaskState.CANCELED);
    expect(seen.at(-1)?.signal.aborted).toBe(true);
    expect((await client.cancel("t", patiently())).status?.state).toBe(TaskState.CANCELED);
    await connector.close();
    expect((await failureOf(watched)).kind).toBe("broken");
    expect(seen.every(({ signal }) => signal.aborted)).toBe(true);
  });

  test("what it throws fails the task, after what it said", async () => {
    const client = connect(async function* () {
      yield task("t");
      throw new Error("a bug");
    });
    const items: StreamResponse[] = [];
    expect(await failureOf(collect(client.sendStream(say("x"), patiently()), items))).toMatchObject({
      kind: "refused",
      reason: "INTERNAL",
      message: expect.stringContaining("a bug"),
    });
    expect(items).toHaveLength(1);
    expect((await client.get("t", patiently())).status?.state).toBe(TaskState.FAILED);
  });

  test.each<[string, AgentHandler]>([
    [
      "throws before it answers",
      () => {
        throw new Error("a bug");
      },
    ],
    ["breaks the contract", async () => task("")],
    ["begins with an update", async () => status("t", TaskState.COMPLETED)],
    ["says nothing", async function* () {}],
  ])("one that %s fails the call", async (_name, handler) => {
    const client = connect(handler);
    expect(["refused", "invalid"]).toContain((await failureOf(client.send(say("x"), patiently()))).kind);
    expect(["refused", "invalid", "broken"]).toContain(
      (await failureOf(collect(client.sendStream(say("x"), patiently())))).kind,
    );
  });

  test("its silence ends the call", async () => {
    const client = connect(worker(new Promise(() => {})));
    expect((await failureOf(client.send(say("x"), patiently(50)))).kind).toBe("timeout");
    expect((await failureOf(collect(client.sendStream(say("x"), patiently(50))))).kind).toBe("timeout");
  });

  test("forgets the oldest of more than a thousand tasks that have ended, and none that is at work", async () => {
    const client = connect(async function* (message) {
      const id = message.parts[0]?.content.value as string;
      yield task(id);
      if (id === "long") await new Promise(() => {});
      yield status(id, TaskState.COMPLETED);
    });
    await client.send(say("long"), { ...patiently(), returnImmediately: true });
    for (let i = 0; i <= 1000; i++) await client.send(say(`t${i}`), patiently());
    expect((await failureOf(client.get("t0", patiently()))).reason).toBe("TASK_NOT_FOUND");
    expect((await client.get("t1", patiently())).id).toBe("t1");
    expect((await client.get("long", patiently())).status?.state).toBe(TaskState.WORKING);
  });

  test("unknown tasks and unknown names are refused", async () => {
    const client = connect(worker(Promise.resolve()));
    expect((await failureOf(client.get("no", patiently()))).reason).toBe("TASK_NOT_FOUND");
    expect((await failureOf(collect(client.subscribe("no", patiently())))).reason).toBe("TASK_NOT_FOUND");
    expect((await failureOf(client.send(say("x", { taskId: "no" }), patiently()))).reason).toBe("TASK_NOT_FOUND");
    expect(connector.pick(cardOf("IN-PROCESS", "in-process:other"))).toBeUndefined();
  });
});
