/** The life of a task between a client and an agent of @a2a-js/sdk, over every pair of bindings. */
import { randomUUID } from "node:crypto";
import { SendMessageRequest, Task, TaskState } from "@a2a-js/sdk";
import { ServiceParameters, withA2AExtensions } from "@a2a-js/sdk/client";
import { TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError } from "@a2a-js/sdk/errors";
import { expect, test } from "vitest";
import {
  artifactsOf,
  assemble,
  asTask,
  collect,
  historyOf,
  lineOf,
  readUntil,
  say,
  shownTask,
  statusOf,
} from "./a2a-js-client.ts";
import { describeEveryWay } from "./a2a-js-lab.ts";

const EXTENSIONS = ["urn:example:a", "urn:example:b"];

const AGENT = {
  extensions: EXTENSIONS.map((uri) => ({ uri })),
  inputModes: ["text/plain", "application/json", "application/x-thing"],
};

describeEveryWay("tasks", { agent: AGENT }, (way) => {
  test("completes, and is there to be read", async () => {
    const request = say("complete");
    const task = asTask(await way.client.sendMessage(request));
    expect(statusOf(task)).toBe("COMPLETED: Done.");
    expect(artifactsOf(task)).toEqual({ result: "complete" });
    expect(historyOf(task)).toEqual(["complete"]);
    expect(await way.client.getTask({ tenant: "", id: task.id })).toEqual(task);
    const turn = await way.agent.turn(request.message.messageId);
    expect([task.id, task.contextId]).not.toContain(turn.taskId);
    expect([task.id, task.contextId]).not.toContain(turn.contextId);
  });

  test("streams an artifact in chunks", async () => {
    const items = await collect(way.client.sendMessageStream(say("chunks 4")));
    expect(items.map(lineOf)).toEqual([
      "task SUBMITTED",
      "WORKING",
      "story: chunk 1;",
      "+story: chunk 2;",
      "+story: chunk 3;",
      "+story: chunk 4; (last)",
      "COMPLETED: The end.",
    ]);
    const { id, contextId } = shownTask(items[0]);
    for (const { payload } of items.slice(1)) expect(payload?.value).toMatchObject({ taskId: id, contextId });
    const stored = await way.client.getTask({ tenant: "", id });
    expect(artifactsOf(stored)).toEqual(assemble(items));
    expect(stored.artifacts).toHaveLength(1);
  });

  test("asks for input and goes on with the answer", async () => {
    const asked = asTask(await way.client.sendMessage(say("ask")));
    expect(statusOf(asked)).toBe("INPUT_REQUIRED: What else?");
    const answered = asTask(await way.client.sendMessage(say("blue", { taskId: asked.id })));
    expect(answered).toMatchObject({ id: asked.id, contextId: asked.contextId });
    expect(statusOf(answered)).toBe("COMPLETED: You said: blue");
    expect(historyOf(answered)).toEqual(["ask", "What else?", "blue"]);
    expect(artifactsOf(answered)).toEqual({ answer: "blue" });
  });

  test("asks in a stream, which ends, and goes on in another", async () => {
    const asked = await collect(way.client.sendMessageStream(say("ask")));
    expect(asked.map(lineOf)).toEqual(["task SUBMITTED", "INPUT_REQUIRED: What else?"]);
    const { id, contextId } = shownTask(asked[0]);
    const answered = await collect(way.client.sendMessageStream(say("green", { taskId: id, contextId })));
    expect(answered.map(lineOf)).toEqual(["task WORKING", "answer: green", "COMPLETED: You said: green"]);
    expect(historyOf(await way.client.getTask({ tenant: "", id }))).toEqual(["ask", "What else?", "green"]);
  });

  test("is canceled, and the agent is told", async () => {
    const request = say("cancel-me");
    const stream = way.client.sendMessageStream(request);
    const [first] = await readUntil(stream, "WORKING");
    const { id } = shownTask(first);
    const canceled = await way.client.cancelTask({ tenant: "", id, metadata: undefined });
    expect(statusOf(canceled)).toBe("CANCELED");
    expect((await collect(stream)).map(lineOf)).toEqual(["CANCELED"]);
    expect(await (await way.agent.turn(request.message.messageId)).outcome).toBe("canceled");
    const again = way.client.cancelTask({ tenant: "", id, metadata: undefined });
    await expect(again).rejects.toBeInstanceOf(TaskNotCancelableError);
  });

  test("goes on when its agent will not cancel it", async () => {
    const request = say("stubborn");
    const stream = way.client.sendMessageStream(request);
    const [first] = await readUntil(stream, "WORKING");
    const { id } = shownTask(first);
    const refusal = way.client.cancelTask({ tenant: "", id, metadata: undefined });
    await expect(refusal).rejects.toBeInstanceOf(TaskNotCancelableError);
    await expect(refusal).rejects.toThrow(`Task ${id} will not be canceled.`);
    (await way.agent.turn(request.message.messageId)).release();
    expect((await collect(stream)).map(lineOf)).toEqual(["COMPLETED"]);
  });

  test("is canceled while it waits for its client", async () => {
    const { id } = asTask(await way.client.sendMessage(say("ask")));
    const canceled = await way.client.cancelTask({ tenant: "", id, metadata: undefined });
    expect(statusOf(canceled)).toBe("CANCELED");
    const late = way.client.sendMessage(say("blue", { taskId: id }));
    await expect(late).rejects.toBeInstanceOf(UnsupportedOperationError);
  });

  test.each([
    ["reject", "REJECTED: Not this one."],
    ["fail", "FAILED: It broke."],
    ["throw", "FAILED: Agent execution error: a bug in the agent"],
  ])("%s: ends as the agent says", async (text, status) => {
    const task = asTask(await way.client.sendMessage(say(text)));
    expect(statusOf(task)).toBe(status);
    const items = await collect(way.client.sendMessageStream(say(text)));
    expect(lineOf(items.at(-1)!)).toBe(status);
    const more = way.client.sendMessage(say("more", { taskId: task.id }));
    await expect(more).rejects.toBeInstanceOf(UnsupportedOperationError);
    await expect(collect(way.client.resubscribeTask({ tenant: "", id: task.id }))).rejects.toBeInstanceOf(
      UnsupportedOperationError,
    );
  });

  test("is not found when there is none", async () => {
    const { client } = way;
    const id = randomUUID();
    const calls = [
      client.getTask({ tenant: "", id }),
      client.cancelTask({ tenant: "", id, metadata: undefined }),
      client.sendMessage(say("hello", { taskId: id })),
      collect(client.resubscribeTask({ tenant: "", id })),
      collect(client.sendMessageStream(say("hello", { taskId: id }))),
    ];
    await Promise.all(calls.map((call) => expect(call).rejects.toBeInstanceOf(TaskNotFoundError)));
  });

  test("shows as much of its history as is asked for", async () => {
    const { id } = asTask(await way.client.sendMessage(say("ask")));
    const answered = await way.client.sendMessage(say("blue", { taskId: id, historyLength: 2 }));
    expect(historyOf(asTask(answered))).toEqual(["What else?", "blue"]);
    const lengths = [undefined, 0, 1, 2, 3, 100];
    const histories = lengths.map(async (historyLength) =>
      historyOf(await way.client.getTask({ tenant: "", id, ...(historyLength !== undefined && { historyLength }) })),
    );
    const all = ["ask", "What else?", "blue"];
    expect(await Promise.all(histories)).toEqual([all, [], ["blue"], ["What else?", "blue"], all, all]);
    const none = asTask(await way.client.sendMessage(say("complete", { historyLength: 0 })));
    expect(historyOf(none)).toEqual([]);
  });

  test("is listed page by page, newest first", async () => {
    const contextId = randomUUID();
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) ids.unshift(asTask(await way.client.sendMessage(say("complete", { contextId }))).id);
    const filter = { tenant: "", contextId, status: TaskState.TASK_STATE_COMPLETED, statusTimestampAfter: undefined };
    const pages: string[][] = [];
    let pageToken = "";
    do {
      const page = await way.client.listTasks({ ...filter, pageSize: 2, pageToken });
      expect(page).toMatchObject({ totalSize: 5, pageSize: 2 });
      expect(page.tasks.flatMap((task) => task.artifacts ?? [])).toEqual([]);
      pages.push(page.tasks.map((task) => task.id));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(pages.map((page) => page.length)).toEqual([2, 2, 1]);
    expect(pages.flat()).toEqual(ids);

    const whole = await way.client.listTasks({ ...filter, pageToken: "", includeArtifacts: true, historyLength: 1 });
    expect(whole.tasks.map(artifactsOf)).toEqual(ids.map(() => ({ result: "complete" })));
    expect(whole.tasks.map(historyOf)).toEqual(ids.map(() => ["complete"]));
    const failed = { ...filter, status: TaskState.TASK_STATE_FAILED, pageToken: "" };
    expect((await way.client.listTasks(failed)).tasks).toEqual([]);
  });

  test("continues a context, which has an id of its own at the agent", async () => {
    const requests = [say("complete")];
    const first = asTask(await way.client.sendMessage(requests[0]!));
    requests.push(say("complete", { contextId: first.contextId }));
    const second = asTask(await way.client.sendMessage(requests[1]!));
    expect(second.contextId).toBe(first.contextId);
    expect(second.id).not.toBe(first.id);
    const turns = await Promise.all(requests.map(({ message }) => way.agent.turn(message.messageId)));
    expect(turns[1]!.contextId).toBe(turns[0]!.contextId);
    expect(turns[1]!.taskId).not.toBe(turns[0]!.taskId);
    expect(turns[1]!.contextId).not.toBe(first.contextId);
  });

  test("refers to other tasks, which both sides know by their own ids", async () => {
    const requests = [say("complete")];
    const first = asTask(await way.client.sendMessage(requests[0]!));
    requests.push(say("refer", { referenceTaskIds: [first.id] }));
    const second = asTask(await way.client.sendMessage(requests[1]!));
    const [known, referring] = await Promise.all(requests.map(({ message }) => way.agent.turn(message.messageId)));
    expect(referring!.message.referenceTaskIds).toEqual([known!.taskId]);
    expect(second.status?.message?.referenceTaskIds).toEqual([first.id]);
    expect(second.history?.[0]?.referenceTaskIds).toEqual([first.id]);
  });

  test("brings the agent all that the client said, and none of its credentials", async () => {
    const messageId = randomUUID();
    const parts = [
      { text: "parts", metadata: { of: ["the", { part: 1.5 }] } },
      { data: { deep: [1, { x: null }, "ü€😀"] }, mediaType: "application/json" },
      { raw: Buffer.from([0, 1, 254, 255]).toString("base64"), filename: "f.bin", mediaType: "application/x-thing" },
      { url: "https://example.com/a?b=c", mediaType: "text/plain" },
    ];
    const request = SendMessageRequest.fromJSON({
      message: {
        messageId,
        role: "ROLE_USER",
        parts,
        metadata: { of: { the: "message" } },
        extensions: [EXTENSIONS[1]],
      },
      configuration: { acceptedOutputModes: ["text/plain", "application/json"] },
      metadata: { of: ["the", "request"] },
    });
    const made = await fetch(`${way.lab.app.httpUrl}/v1/keys`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ principalId: "client", roles: ["caller"] }),
    });
    const { token } = (await made.json()) as { token: string };
    const serviceParameters = ServiceParameters.create(withA2AExtensions(...EXTENSIONS), (given) => {
      given.Authorization = `Bearer ${token}`;
      given.Cookie = "session=secret-of-the-client";
    });
    const task = asTask(await way.client.sendMessage(request, { serviceParameters }));
    expect(Task.toJSON(task)).toMatchObject({ artifacts: [{ artifactId: "parts", parts }], history: [{ parts }] });

    const received = way.agent.requests.find(({ params }) => params.message?.messageId === messageId)!;
    expect(SendMessageRequest.toJSON(received.params)).toEqual(SendMessageRequest.toJSON(request));
    expect(received.extensions).toEqual(EXTENSIONS);
    expect(JSON.stringify(received.headers)).not.toContain("secret-of-the-client");
    expect(JSON.stringify(received.headers)).not.toContain(token);
  });
});
