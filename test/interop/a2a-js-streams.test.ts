/** Tasks that take a while between clients and agents of @a2a-js/sdk: many watchers, many voices, broken wires. */
import type { StreamResponse } from "@a2a-js/sdk";
import { UnsupportedOperationError } from "@a2a-js/sdk/errors";
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
  settled,
  shownTask,
  statusOf,
  TRANSPORTS,
} from "./a2a-js-client.ts";
import { describeEveryWay } from "./a2a-js-lab.ts";

describeEveryWay("streams", {}, (way) => {
  test("show all watchers the same updates in the same order, whoever leaves", async () => {
    const request = say("pause 5");
    const sender = way.client.sendMessageStream(request);
    const [first] = await readUntil(sender, "story: chunk 1;");
    const { id } = shownTask(first);

    const others = await Promise.all(TRANSPORTS.map((transport) => way.lab.client(transport, way.binding)));
    const leaving = new AbortController();
    const leaver = way.client.resubscribeTask({ tenant: "", id }, { signal: leaving.signal });
    const watchers = others.map((client) => client.resubscribeTask({ tenant: "", id }));
    const firsts = await Promise.all([leaver, ...watchers].map((watcher) => watcher.next()));
    for (const { value } of firsts) {
      expect(lineOf(value as StreamResponse)).toBe("task WORKING");
      expect(artifactsOf(shownTask(value as StreamResponse))).toEqual({ story: "chunk 1;" });
    }
    leaving.abort();
    await expect(leaver.next()).rejects.toThrow();

    (await way.agent.turn(request.message.messageId)).release();
    const rests = await Promise.all([sender, ...watchers].map(collect));
    expect(rests[0]!.map(lineOf)).toEqual([
      "+story: chunk 2;",
      "+story: chunk 3;",
      "+story: chunk 4;",
      "+story: chunk 5; (last)",
      "COMPLETED: The end.",
    ]);
    for (const rest of rests) expect(rest).toEqual(rests[0]);
    const stored = await way.client.getTask({ tenant: "", id });
    expect(artifactsOf(stored)).toEqual({ story: "chunk 1;chunk 2;chunk 3;chunk 4;chunk 5;" });
  });

  test("stay open while the task waits for an authentication elsewhere", async () => {
    const request = say("login");
    const stream = way.client.sendMessageStream(request);
    const [first] = await readUntil(stream, "AUTH_REQUIRED: Who are you?");
    const { id } = shownTask(first);
    (await way.agent.turn(request.message.messageId)).release();
    expect((await collect(stream)).map(lineOf)).toEqual(["WORKING: I know you now.", "COMPLETED"]);
    expect(historyOf(await way.client.getTask({ tenant: "", id }))).toEqual([
      "login",
      "Who are you?",
      "I know you now.",
    ]);
  });

  test("end no wait for an authentication: who waits for an answer gets it, and the task goes on", async () => {
    const request = say("login");
    const waiting = asTask(await way.client.sendMessage(request));
    expect(statusOf(waiting)).toBe("AUTH_REQUIRED: Who are you?");
    (await way.agent.turn(request.message.messageId)).release();
    expect(statusOf(await settled(way.client, waiting.id))).toBe("COMPLETED");
  });

  test("tell of a message that comes while the agent works", async () => {
    const stream = way.client.sendMessageStream(say("slow"));
    const [first] = await readUntil(stream, "WORKING: At it.");
    const { id } = shownTask(first);
    const more = say("hurry", { taskId: id });
    const answer = asTask(await way.client.sendMessage(more));
    expect(statusOf(answer)).toBe("COMPLETED: You said: hurry");
    const rest = await collect(stream);
    // Whether the agent says that the artifact is complete depends on how fast it is.
    expect(rest.map((item) => lineOf(item).replace(" (last)", ""))).toEqual([
      "answer: hurry",
      "COMPLETED: You said: hurry",
    ]);
    const stored = await way.client.getTask({ tenant: "", id });
    expect(historyOf(stored).sort()).toEqual(["At it.", "hurry", "slow"]);
    expect(stored.artifacts).toHaveLength(1);
  });

  test("bring the agent no further message before it has named its task", async () => {
    const request = say("hush", { returnImmediately: true });
    const { id } = asTask(await way.client.sendMessage(request));
    const turn = await way.agent.turn(request.message.messageId);
    const more = say("hurry", { taskId: id, returnImmediately: true });
    await way.client.sendMessage(more);
    turn.release();
    expect(statusOf(await settled(way.client, id))).toBe("COMPLETED: You said: hurry");
    expect((await way.agent.turn(more.message.messageId)).taskId).toBe(turn.taskId);
  });

  test("end when the task is canceled, even while a further message is on its way", async () => {
    const stream = way.client.sendMessageStream(say("slow"));
    const [first] = await readUntil(stream, "WORKING: At it.");
    const { id } = shownTask(first);
    const more = say("hang", { taskId: id, returnImmediately: true });
    await way.client.sendMessage(more);
    await way.agent.turn(more.message.messageId);
    expect(statusOf(await way.client.cancelTask({ tenant: "", id, metadata: undefined }))).toBe("CANCELED");
    expect((await collect(stream)).map(lineOf).at(-1)).toBe("CANCELED");
  });

  test("hold what two clients say who answer one question at the same time", async () => {
    const { id } = asTask(await way.client.sendMessage(say("ask")));
    const clients = await Promise.all(TRANSPORTS.slice(0, 2).map((t) => way.lab.client(t, way.binding)));
    const requests = ["red", "blue"].map((text) => say(text, { taskId: id }));
    const outcomes = await Promise.allSettled(clients.map((client, i) => client.sendMessage(requests[i]!)));
    const accepted = requests.filter((_, i) => outcomes[i]!.status === "fulfilled");
    for (const outcome of outcomes) {
      // The slower one may find the task ended.
      if (outcome.status === "rejected") expect(outcome.reason).toBeInstanceOf(UnsupportedOperationError);
      else expect(statusOf(asTask(outcome.value))).toMatch(/^COMPLETED: You said: (red|blue)$/);
    }
    expect(accepted).not.toEqual([]);

    const task = await settled(way.client, id);
    expect(statusOf(task)).toMatch(/^COMPLETED: You said: (red|blue)$/);
    expect(historyOf(task).slice(0, 2)).toEqual(["ask", "What else?"]);
    const told = task.history!.map((message) => message.messageId);
    for (const { message } of accepted) expect(told.filter((m) => m === message.messageId)).toHaveLength(1);
  });
});

describeEveryWay("agents that do not stream", { agent: { streaming: false } }, (way) => {
  test("complete, with all their artifacts", async () => {
    const items = await collect(way.client.sendMessageStream(say("chunks 3")));
    expect(lineOf(items[0]!)).toBe("task SUBMITTED");
    expect(lineOf(items.at(-1)!)).toBe("COMPLETED: The end.");
    expect(assemble(items)).toEqual({ story: "chunk 1;chunk 2;chunk 3;" });
    const stored = await way.client.getTask({ tenant: "", id: shownTask(items[0]).id });
    expect(artifactsOf(stored)).toEqual(assemble(items));
    expect(historyOf(stored)).toEqual(["chunks 3"]);
  });

  test("ask, and go on with the answer", async () => {
    const asked = asTask(await way.client.sendMessage(say("ask")));
    expect(statusOf(asked)).toBe("INPUT_REQUIRED: What else?");
    const answered = asTask(await way.client.sendMessage(say("blue", { taskId: asked.id })));
    expect(statusOf(answered)).toBe("COMPLETED: You said: blue");
    expect(historyOf(answered)).toEqual(["ask", "What else?", "blue"]);
  });

  test("answer with a bare Message", async () => {
    const items = await collect(way.client.sendMessageStream(say("message")));
    expect(items.map(lineOf)).toEqual(["message Hello from the agent."]);
  });

  test("go on after an authentication elsewhere", async () => {
    const request = say("login");
    const stream = way.client.sendMessageStream(request);
    await readUntil(stream, "AUTH_REQUIRED: Who are you?");
    (await way.agent.turn(request.message.messageId)).release();
    expect((await collect(stream)).map(lineOf).at(-1)).toBe("COMPLETED");
  });

  test("name their task at once, and hear what their client adds while they work", async () => {
    const request = say("slow", { returnImmediately: true });
    const { id } = asTask(await way.client.sendMessage(request));
    const turn = await way.agent.turn(request.message.messageId);
    const more = say("hurry", { taskId: id, returnImmediately: true });
    await way.client.sendMessage(more);
    const heard = await way.agent.turn(more.message.messageId);
    heard.release();
    turn.release();
    const task = await settled(way.client, id);
    expect(statusOf(task)).toMatch(/^COMPLETED/);
    expect(historyOf(task)).toEqual(expect.arrayContaining(["slow", "hurry"]));
  });

  test.each(["reject", "fail"])("%s", async (text) => {
    const task = asTask(await way.client.sendMessage(say(text)));
    expect(statusOf(task)).toBe(text === "reject" ? "REJECTED: Not this one." : "FAILED: It broke.");
  });
});
