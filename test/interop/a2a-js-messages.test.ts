/** Agents of @a2a-js/sdk that answer with a bare Message, over every pair of bindings. */
import type { Message } from "@a2a-js/sdk";
import type { Client } from "@a2a-js/sdk/client";
import { expect, test } from "vitest";
import {
  asTask,
  collect,
  historyOf,
  lineOf,
  readUntil,
  say,
  settled,
  shownTask,
  statusOf,
  textOf,
} from "./a2a-js-client.ts";
import { describeEveryWay } from "./a2a-js-lab.ts";

const HELLO = "Hello from the agent.";

describeEveryWay("a bare Message", {}, (way) => {
  test("passes through, and leaves no task that a client can see", async () => {
    const requests = [say("message")];
    const answer = (await way.client.sendMessage(requests[0]!)) as Message;
    expect(answer).toMatchObject({ taskId: "", messageId: expect.stringMatching(/./) });
    expect(textOf(answer.parts)).toBe(HELLO);

    requests.push(say("message", { contextId: answer.contextId }));
    const items = await collect(way.client.sendMessageStream(requests[1]!));
    expect(items.map(lineOf)).toEqual([`message ${HELLO}`]);
    expect(items[0]?.payload?.value).toMatchObject({ taskId: "", contextId: answer.contextId });

    const turns = await Promise.all(requests.map(({ message }) => way.agent.turn(message.messageId)));
    expect(turns[1]!.contextId).toBe(turns[0]!.contextId);
    expect(turns[0]!.contextId).not.toBe(answer.contextId);
    expect(await tasksIn(way.client, answer.contextId)).toEqual([]);
  });

  test("is how a task ends whose id the client has already", async () => {
    const fresh = asTask(await way.client.sendMessage(say("message", { returnImmediately: true })));
    expect(["SUBMITTED", `COMPLETED: ${HELLO}`]).toContain(statusOf(fresh));
    const task = await settled(way.client, fresh.id);
    expect(statusOf(task)).toBe(`COMPLETED: ${HELLO}`);
    expect(task.status?.message).toMatchObject({ taskId: task.id, contextId: task.contextId });
    expect(historyOf(task)).toEqual(["message"]);
    expect(await tasksIn(way.client, task.contextId)).toEqual([task.id]);
  });
});

describeEveryWay("a bare Message after a silence", { flags: { "task.silence-ms": "1" } }, (way) => {
  test("is how the task ends that the stream has shown", async () => {
    const request = say("later");
    const stream = way.client.sendMessageStream(request);
    const [first] = await readUntil(stream, "task SUBMITTED");
    const { id, contextId } = shownTask(first);
    expect(await tasksIn(way.client, contextId)).toEqual([id]);
    (await way.agent.turn(request.message.messageId)).release();
    const rest = await collect(stream);
    expect(rest.map(lineOf)).toEqual([`COMPLETED: ${HELLO}`]);
    expect(rest[0]?.payload?.value).toMatchObject({ taskId: id, contextId });
    expect(statusOf(await way.client.getTask({ tenant: "", id }))).toBe(`COMPLETED: ${HELLO}`);
  });
});

async function tasksIn(client: Client, contextId: string): Promise<string[]> {
  const { tasks } = await client.listTasks({
    tenant: "",
    contextId,
    status: 0,
    pageToken: "",
    statusTimestampAfter: undefined,
  });
  return tasks.map(({ id }) => id);
}
