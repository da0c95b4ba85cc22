/** Answers of agents that break the output schema of their capability: real agents in every binding, and scripted ones. */
import { fromJson, type JsonObject, type JsonValue } from "@bufbuild/protobuf";
import { beforeAll, describe, expect, test } from "vitest";
import {
  PartSchema,
  type StreamResponse,
  StreamResponseSchema,
  type Task,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import { createSignalboxClient, type SignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { type Binding, startTestAgent } from "../agents/test-agent.ts";
import { createDatabase, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const OUTPUT_SCHEMA = {
  type: "object",
  required: ["total"],
  properties: { total: { type: "number" }, lines: { type: "array", items: { type: "string" } } },
};
const GOOD = { total: 3, lines: ["a"] };
const BAD = { total: "3", lines: ["a", 7] };

const isTask = (answer: { $typeName: string }): answer is Task => answer.$typeName === "lf.a2a.v1.Task";
const toldBy = ({ status }: Task) => status?.message?.parts[0]?.content.value;

/** Says what the parts of the message are told to be: each data part is a report of the agent, in ProtoJSON. */
const parrot: AgentHandler = async function* (message) {
  const ids = { taskId: "theirs", contextId: "theirs" };
  for (const { content } of message.parts) {
    if (content.case !== "text") continue;
    const report = JSON.parse(content.value) as JsonObject;
    const [kind = ""] = Object.keys(report);
    const own = kind === "task" ? { id: "theirs", contextId: "theirs" } : kind === "message" ? {} : ids;
    yield fromJson(StreamResponseSchema, { [kind]: { ...own, ...(report[kind] as JsonObject) } });
  }
};

const status = (state: string, message?: JsonObject): JsonObject => ({
  statusUpdate: { status: { state: `TASK_STATE_${state}`, ...(message && { message }) } },
});
const artifact = (artifactId: string, parts: JsonValue[], more: JsonObject = {}): JsonObject => ({
  artifactUpdate: { artifact: { artifactId, parts }, lastChunk: true, ...more },
});
const spoken = (...parts: JsonValue[]): JsonObject => ({ messageId: "a1", role: "ROLE_AGENT", parts });
const begun: JsonObject = { task: { status: { state: "TASK_STATE_WORKING" } } };

let app: TestApp;
let client: SignalboxClient;
let database: Awaited<ReturnType<typeof createDatabase>>;

beforeAll(async () => {
  database = await createDatabase();
  app = await startTestApp({ flags: { "database.url": database.url }, agents: { parrot } });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  await client.registry.addCapability({
    agentId: "parrot",
    capability: { capabilityId: "sum", outputSchema: OUTPUT_SCHEMA },
  });
  await client.registry.addCapability({ agentId: "parrot", capability: { capabilityId: "free" } });
  return async () => {
    await app.stop();
    await database.drop();
  };
});

/** Lets the agent say these reports, and gives what a client gets. */
async function saying(reports: readonly JsonObject[], capability = "sum") {
  const message = userMessage("");
  message.parts = reports.map((report) => fromJson(PartSchema, { text: JSON.stringify(report) }));
  return client.send(message, { capability });
}

/** The same as a task. */
async function taskOf(reports: readonly JsonObject[], capability = "sum"): Promise<Task> {
  const answer = await saying(reports, capability);
  return isTask(answer) ? answer : expect.unreachable("the answer is no task");
}

/** What the log says of the task's last row, with what no client sees. */
async function lastCause({ id }: Task): Promise<unknown> {
  const db = openPostgres({ url: database.url, poolSize: 1, log: silent });
  const [row] = await raw(db, "select cause from task_updates where task_id = $1 order by seq desc limit 1", [id]);
  await db.close();
  return row?.cause;
}

test("an answer that fits completes the task, and so does any answer without data", async () => {
  for (const parts of [[{ data: GOOD }], [{ text: "no data" }], [{ text: "and" }, { data: GOOD }]]) {
    const task = await taskOf([begun, artifact("sum", parts), status("COMPLETED")]);
    expect(task.status?.state).toBe(TaskState.COMPLETED);
  }
});

test("one that does not fails it, names the path, and is kept in the log", async () => {
  const task = await taskOf([
    begun,
    artifact("note", [{ text: "x" }]),
    artifact("sum", [{ text: "x" }, { data: BAD }]),
    status("COMPLETED"),
  ]);
  expect(task.status?.state).toBe(TaskState.FAILED);
  expect(toldBy(task)).toBe(
    "The agent's answer does not fit the output schema of its capability: artifacts[1].parts[1].data.total: must be number; artifacts[1].parts[1].data.lines[1]: must be string.",
  );
  expect(task.artifacts).toHaveLength(2);
  expect(await lastCause(task)).toBe(`OUTPUT_SCHEMA: ${toldBy(task)}\n${JSON.stringify(BAD)}`);
  // Whoever administers tasks sees what the agent has said, as the anonymous admin of this server.
  const { transitions } = await client.tasks.listTaskTransitions({ taskId: task.id });
  expect(transitions.at(-1)?.cause).toContain(JSON.stringify(BAD));
});

test("what counts is the artifact as it is in the end", async () => {
  const mended = await taskOf([
    begun,
    artifact("sum", [{ data: BAD }]),
    artifact("sum", [{ data: GOOD }]),
    status("COMPLETED"),
  ]);
  expect(mended.status?.state).toBe(TaskState.COMPLETED);
  const chunks = [
    artifact("sum", [{ text: "The sum:" }], { lastChunk: false }),
    artifact("sum", [{ data: BAD }], { append: true, lastChunk: false }),
    artifact("sum", [{ text: "!" }], { append: true }),
  ];
  const chunked = await taskOf([begun, ...chunks, status("COMPLETED")]);
  expect(chunked.status?.state).toBe(TaskState.FAILED);
  expect(toldBy(chunked)).toContain("artifacts[0].parts[1].data.total: must be number");
});

test("a task that comes as a whole is looked at as one that was streamed", async () => {
  const whole = (data: JsonValue): JsonObject => ({
    task: { status: { state: "TASK_STATE_COMPLETED" }, artifacts: [{ artifactId: "sum", parts: [{ data }] }] },
  });
  expect((await taskOf([whole(GOOD)])).status?.state).toBe(TaskState.COMPLETED);
  const bad = await taskOf([whole(BAD)]);
  expect(bad.status?.state).toBe(TaskState.FAILED);
  expect(bad.artifacts).toHaveLength(1);
});

test("so is a bare Message, and what an agent says on its way is not", async () => {
  const good = await saying([{ message: spoken({ data: GOOD }) }]);
  expect(good.$typeName).toBe("lf.a2a.v1.Message");
  const bad = await taskOf([{ message: spoken({ text: "x" }, { data: BAD }) }]);
  expect(bad.status?.state).toBe(TaskState.FAILED);
  expect(toldBy(bad)).toContain("message.parts[1].data.total: must be number");
  expect((await client.a2a.getTask({ id: bad.id })).status?.state).toBe(TaskState.FAILED);
  expect(await lastCause(bad)).toContain(JSON.stringify(BAD));
  const chatty = await taskOf([
    begun,
    status("WORKING", spoken({ data: BAD })),
    status("COMPLETED", spoken({ data: BAD })),
  ]);
  expect(chatty.status?.state).toBe(TaskState.COMPLETED);
});

test("a task that fails or asks is not looked at, and one that goes on after a question is", async () => {
  const failed = await taskOf([begun, artifact("sum", [{ data: BAD }]), status("FAILED", spoken({ text: "Mine." }))]);
  expect(toldBy(failed)).toBe("Mine.");
  const asking = await taskOf([begun, status("INPUT_REQUIRED", spoken({ text: "Which?" }))]);
  const answer = userMessage("");
  const reports = [artifact("sum", [{ data: BAD }]), status("COMPLETED")];
  answer.parts = reports.map((report) => fromJson(PartSchema, { text: JSON.stringify(report) }));
  answer.taskId = asking.id;
  const ended = await client.send(answer);
  expect(isTask(ended) && ended.status?.state).toBe(TaskState.FAILED);
});

test("watchers see FAILED and nothing else", async () => {
  const message = userMessage("");
  const reports = [begun, artifact("sum", [{ data: BAD }]), status("COMPLETED")];
  message.parts = reports.map((report) => fromJson(PartSchema, { text: JSON.stringify(report) }));
  const items: StreamResponse[] = [];
  for await (const item of client.stream(message, { capability: "sum" })) items.push(item);
  const states = items.flatMap(({ payload }) => (payload.case === "statusUpdate" ? [payload.value.status?.state] : []));
  expect(states).toEqual([TaskState.WORKING, TaskState.FAILED]);
});

test("a capability without a schema, and an agent that is asked by its name, may answer anything", async () => {
  const reports = [begun, artifact("sum", [{ data: BAD }]), status("COMPLETED")];
  expect((await taskOf(reports, "free")).status?.state).toBe(TaskState.COMPLETED);
  const message = userMessage("");
  message.parts = reports.map((report) => fromJson(PartSchema, { text: JSON.stringify(report) }));
  const named = await client.send(message, { agent: "parrot" });
  expect(isTask(named) && named.status?.state).toBe(TaskState.COMPLETED);
});

describe.each(["GRPC", "JSONRPC", "HTTP+JSON"] as const)("a real agent over %s", (binding: Binding) => {
  test("completes what fits and fails what does not", async () => {
    const inputModes = ["text/plain", "application/json"];
    const agent = await startTestAgent({ bindings: [binding], inputModes });
    const agentId = `sdk-${binding.toLowerCase().replace(/\W/g, "-")}`;
    try {
      await app.register(agentId, { card_url: agent.cardUrl });
      const capability = { capabilityId: agentId, inputModes, outputSchema: OUTPUT_SCHEMA };
      await client.registry.addCapability({ agentId, capability });
      const states = [];
      for (const data of [GOOD, BAD]) {
        const message = userMessage("parts");
        message.parts.push(fromJson(PartSchema, { data, mediaType: "application/json" }));
        const task = await client.send(message, { capability: agentId });
        states.push([isTask(task) && task.status?.state, isTask(task) && toldBy(task)]);
      }
      expect(states).toEqual([
        [TaskState.COMPLETED, undefined],
        [TaskState.FAILED, expect.stringContaining("artifacts[0].parts[1].data.total: must be number")],
      ]);
    } finally {
      await agent.close();
    }
  });
});
