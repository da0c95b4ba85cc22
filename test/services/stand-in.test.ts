/** Who answers a task's first message: who knows the answer, else the agent. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { MessageSchema, type StreamResponse, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { AgentClient } from "../../src/services/agent-port.ts";
import { createRunningTasks } from "../../src/services/running-tasks.ts";
import { NotAskedError, standingIn } from "../../src/services/stand-in.ts";
import type { TaskRunner } from "../../src/services/task-runner.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { silent } from "../store/backends.ts";
import { said, taskIn } from "./engine-lab.ts";

const message = create(MessageSchema, { messageId: "m" });
const options = { signal: new AbortController().signal, timeoutMs: 1000 };
const known = said(taskIn("known", TaskState.COMPLETED));
const ofAgent = said(taskIn("agent's", TaskState.WORKING));

function lab(answer: StreamResponse | undefined, hasRoom = true) {
  const asked: string[] = [];
  const agent: AgentClient = {
    streaming: true,
    send: async () => ofAgent,
    async *sendStream() {
      yield ofAgent;
    },
    async *subscribe() {},
    get: async (id) => taskIn(id, TaskState.WORKING),
    async cancel(id) {
      asked.push(`cancel ${id}`);
      return taskIn(id, TaskState.CANCELED);
    },
    release: () => void asked.push("release"),
  };
  const standIn = {
    isReady: true,
    async answer() {
      asked.push("stand-in");
      return answer;
    },
  };
  return { asked, client: standingIn(standIn, agent, async () => hasRoom) };
}

async function streamed(client: AgentClient): Promise<StreamResponse[]> {
  const items: StreamResponse[] = [];
  for await (const item of client.sendStream(message, options)) items.push(item);
  return items;
}

test("who knows the answer gives it, and the agent hears nothing", async () => {
  const { client, asked } = lab(known);
  expect(await client.send(message, options)).toBe(known);
  expect(await streamed(client)).toEqual([known]);
  expect(client.standsIn).toBe(true);
  await expect(client.cancel("known", options)).rejects.toMatchObject({ kind: "refused", reason: "TASK_NOT_FOUND" });
  client.release();
  expect(asked).toEqual(["stand-in", "stand-in", "release"]);
});

test("where nobody does, and the agent has no room, the agent hears nothing", async () => {
  const { client, asked } = lab(undefined, false);
  await expect(streamed(client)).rejects.toBeInstanceOf(NotAskedError);
  await expect(client.send(message, options)).rejects.toBeInstanceOf(NotAskedError);
  expect(client.standsIn).toBe(true);
  expect(asked).toEqual(["stand-in", "stand-in"]);
});

test("who is stopped does not go on to the agent", async () => {
  const { client } = lab(undefined);
  const stopped = { ...options, signal: AbortSignal.abort(new Error("stopped")) };
  await expect(streamed({ ...client, sendStream: (m) => client.sendStream(m, stopped) })).rejects.toThrow("stopped");
  expect(client.standsIn).toBe(true);
});

test("where nobody does, the agent has the task from there on", async () => {
  const { client, asked } = lab(undefined);
  expect(await streamed(client)).toEqual([ofAgent]);
  expect(await client.send(message, options)).toBe(ofAgent);
  expect(client.standsIn).toBe(false);
  await client.cancel("agent's", options);
  expect(asked).toEqual(["stand-in", "cancel agent's"]);
});

test.each([
  [true, TaskState.UNSPECIFIED],
  [false, TaskState.COMPLETED],
])("how long a task took says something of the agent, unless another answered: %s", async (isStoodIn, state) => {
  const ends: TaskState[] = [];
  const loads = { begin() {}, end: (_: unknown, ended: TaskState) => void ends.push(ended) };
  const running = createRunningTasks({
    hub: createUpdateHub(),
    log: silent,
    loads,
    onRest() {},
    now: () => new Date(),
    permits: { force: () => undefined },
  });
  const header = headerOf();
  const image = { header, task: taskIn(header.taskId, TaskState.COMPLETED) };
  running.start({ writer: { image }, isStoodIn, release() {} } as unknown as TaskRunner, async () => {});
  await running.settled();
  expect(ends).toEqual([state]);
});
