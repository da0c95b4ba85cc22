/** Exchanges on a whole server: how long they wait, how they stream, what is kept of them, and what agents learn of them. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  ExchangeKind,
  type ExchangeMessage,
  type ExchangeMessageSchema,
  type RecordedMessage,
} from "../../gen/signalbox/v1/message_pb.ts";
import type { AgentHandler, HandlerContext } from "../../src/outbound/in-process-channel.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { act } from "../conformance/scripted-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
let client: SignalboxClient;
/** What came to the agent besides the last message. */
let heard: HandlerContext | undefined;

beforeAll(async () => {
  const actor: AgentHandler = (message, context) => {
    heard = context;
    return act(message, context);
  };
  app = await startTestApp({ agents: { actor } });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  return () => app.stop();
});

const say = (message: MessageInitShape<typeof ExchangeMessageSchema>): Promise<ExchangeMessage> =>
  client.messages.exchange({ message });

const delegating = (text: string, more: object = {}): MessageInitShape<typeof ExchangeMessageSchema> => ({
  receiver: "a.actor",
  payload: { case: "delegate", value: { work: { case: "input", value: { text } } } },
  ...more,
});

/** The task in an answer. */
function taskIn({ payload }: ExchangeMessage) {
  const result = payload.case === "result" ? payload.value.result : undefined;
  if (result?.case !== "delegate" && result?.case !== "revise") throw new Error(JSON.stringify(payload.value));
  return result.value.task!;
}

async function listed(correlationId: string, pageSize = 7): Promise<RecordedMessage[]> {
  const all: RecordedMessage[] = [];
  for (let pageToken = ""; ; ) {
    const page = await client.messages.listExchanges({ correlationId, pageSize, pageToken });
    all.push(...page.messages);
    pageToken = page.nextPageToken;
    if (pageToken === "") return all;
  }
}

describe("the time of a message", () => {
  test("ends the wait for a task, and not the task", async () => {
    const task = taskIn(await say(delegating("work", { timeoutMs: 300n })));
    expect(task.status?.state).toBe(TaskState.WORKING);
    expect((await client.a2a.getTask({ id: task.id })).status?.state).toBe(TaskState.WORKING);
    await client.a2a.cancelTask({ id: task.id });
  });

  test("is not waited for when the answer is wanted at once", async () => {
    const work = { case: "input" as const, value: { text: "work" } };
    const task = taskIn(
      await say(delegating("", { payload: { case: "delegate", value: { work, returnImmediately: true } } })),
    );
    expect([TaskState.SUBMITTED, TaskState.WORKING]).toContain(task.status?.state);
    await client.a2a.cancelTask({ id: task.id });
  });

  test("ends a stream that sets one, with an ERROR as its last item", async () => {
    const task = taskIn(await say(delegating("work", { timeoutMs: 300n })));
    const items: ExchangeMessage[] = [];
    const message = { timeoutMs: 200n, payload: { case: "observe" as const, value: { taskId: task.id } } };
    for await (const item of client.messages.exchangeStream({ message })) items.push(item);
    expect(items.at(-1)?.payload).toMatchObject({
      case: "error",
      value: { code: 4, info: { reason: "DEADLINE_EXCEEDED" } },
    });
    const [asked, answer] = await listed(items[0]!.correlationId);
    expect(asked!.message?.kind).toBe(ExchangeKind.OBSERVE);
    expect(answer!.message?.kind).toBe(ExchangeKind.ERROR);
    await client.a2a.cancelTask({ id: task.id });
  });
});

describe("a further message", () => {
  test("is waited for from where the task was", async () => {
    const task = taskIn(await say(delegating("ask")));
    expect(task.status?.state).toBe(TaskState.INPUT_REQUIRED);
    const revised = taskIn(
      await say({
        payload: { case: "revise", value: { taskId: task.id, content: { case: "text", value: "Lisbon" } } },
      }),
    );
    expect(revised.status?.state).toBe(TaskState.COMPLETED);
    const late = await say({
      payload: { case: "revise", value: { taskId: task.id, content: { case: "text", value: "Rome" } } },
    });
    expect(late).toMatchObject({
      success: false,
      kind: ExchangeKind.ERROR,
      payload: {
        case: "error",
        value: { code: 9, info: { reason: "UNSUPPORTED_OPERATION", domain: "a2a-protocol.org" } },
      },
    });
  });
});

describe("a stream over HTTP+JSON", () => {
  const observe = (taskId: string, headers: Record<string, string> = {}) =>
    fetch(`${app.httpUrl}/v1/messages:stream`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify({ observe: { taskId } }),
    });

  test("numbers its items and goes on after Last-Event-ID", async () => {
    const task = taskIn(await say(delegating("chunks")));
    const read = async (headers: Record<string, string>) => {
      const text = await (await observe(task.id, headers)).text();
      return [...text.matchAll(/^id: (.*)\ndata: (.*)$/gm)].map(([, id, data]) => {
        const message = JSON.parse(data!) as { result: { observe: { sequence?: string } } };
        return { id: id!, sequence: message.result.observe.sequence };
      });
    };
    const all = await read({ "last-event-id": "0" });
    expect(all.length).toBeGreaterThan(4);
    // The task as it stood at 0 has no number in JSON, which leaves zeros out.
    expect(all.map(({ id }) => id)).toEqual(all.map(({ sequence }) => sequence ?? "0"));
    const rest = await read({ "last-event-id": all[2]!.id });
    expect(rest.slice(1).map(({ id }) => id)).toEqual(all.slice(3).map(({ id }) => id));
  });

  test("one that the client leaves is kept as far as it was told", async () => {
    const task = taskIn(await say(delegating("work", { timeoutMs: 300n })));
    const correlationId = `left-${task.id}`;
    const message = { correlationId, payload: { case: "observe" as const, value: { taskId: task.id } } };
    const leaving = new AbortController();
    const items = client.messages.exchangeStream({ message }, { signal: leaving.signal });
    await items[Symbol.asyncIterator]().next();
    leaving.abort();
    await expect.poll(async () => (await listed(correlationId)).length).toBe(2);
    await client.a2a.cancelTask({ id: task.id });
  });
});

describe("the record", () => {
  test("of messages that come at once is whole and in order", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uuid(), fc.integer({ min: 1, max: 20 }), async (correlationId, count) => {
        const intent = (text: string) =>
          say({ correlationId, messageId: text, payload: { case: "intent", value: { text } } });
        await Promise.all(Array.from({ length: count }, (_, i) => intent(`m${i}`)));
        const messages = await listed(correlationId);
        expect(messages.map(({ sequence }) => Number(sequence))).toEqual(
          Array.from({ length: 2 * count }, (_, i) => i + 1),
        );
        for (let i = 0; i < count; i++) {
          const asked = messages.findIndex(({ message }) => message?.messageId === `m${i}`);
          const answer = messages.findIndex(({ message }) => message?.inReplyTo === `m${i}`);
          expect(asked).toBeGreaterThanOrEqual(0);
          expect(answer).toBeGreaterThan(asked);
        }
      }),
      { numRuns: 8 },
    );
  });

  test("of all exchanges begins with the latest", async () => {
    const { correlationId } = await say({ payload: { case: "discover", value: {} } });
    const { messages, nextPageToken } = await client.messages.listExchanges({ pageSize: 2 });
    expect(messages.map(({ message }) => [message?.correlationId, message?.kind])).toEqual([
      [correlationId, ExchangeKind.RESPONSE],
      [correlationId, ExchangeKind.DISCOVER],
    ]);
    const older = await client.messages.listExchanges({ pageSize: 2, pageToken: nextPageToken });
    expect(older.messages.some(({ message }) => message?.correlationId === correlationId)).toBe(false);
  });

  test("says of a message that is too large how large it was; the answer is whole all the same", async () => {
    const text = `echo ${"x".repeat(100_000)}`;
    const answer = await say(delegating(text));
    expect(taskIn(answer).artifacts[0]?.parts[0]?.content.value).toBe(text);
    const [asked, answered] = await listed(answer.correlationId);
    for (const kept of [asked!, answered!]) {
      expect(Number(kept.omittedBytes)).toBeGreaterThan(100_000);
      expect(kept.message?.payload.case).toBeUndefined();
    }
    expect(answered!.taskId).toBe(taskIn(answer).id);
  });

  test("an exchange that is full takes no more, but its answers", async () => {
    const { correlationId } = await say({ payload: { case: "discover", value: { capabilityId: "none" } } });
    const result = { case: "data" as const, value: { n: 1 } };
    const note = () => say({ correlationId, payload: { case: "result", value: { result } } });
    for (let i = 2; i < 256; i++) await note();
    await expect(note()).rejects.toThrow("has 256 messages");
  });
});

test("an agent learns which exchange its task belongs to, and can answer in it", async () => {
  const answer = await say(delegating("complete"));
  const { correlationId } = answer;
  expect(heard?.metadata).toEqual({ "urn:signalbox:a2a:exchange:v1": { correlationId } });
  const response = await fetch(`${app.httpUrl}/v1/messages:exchange`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      correlationId,
      sender: "a.actor",
      inReplyTo: answer.inReplyTo,
      result: { data: { tip: 1 } },
    }),
  });
  expect(await response.json()).toMatchObject({ success: true, result: { recorded: { sequence: "3" } } });
  expect((await listed(correlationId)).at(-1)?.message).toMatchObject({
    sender: "a.actor",
    kind: ExchangeKind.RESPONSE,
  });
});

test("a message that names the extension reaches agents without it", async () => {
  const metadata = { "urn:signalbox:a2a:exchange:v1": { kind: "DELEGATE", receiver: "a.actor" } };
  const response = await fetch(`${app.httpUrl}/message:send`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "a2a-version": "1.0",
      "a2a-extensions": "urn:signalbox:a2a:exchange:v1, urn:example:other",
    },
    body: JSON.stringify({ message: { messageId: "m", role: "ROLE_USER", parts: [{ text: "complete" }] }, metadata }),
  });
  expect(await response.json()).toMatchObject({ task: { status: { state: "TASK_STATE_COMPLETED" } } });
  expect(heard?.headers["a2a-extensions"]).toBe("urn:example:other");
  expect(heard?.metadata).toMatchObject({ "urn:signalbox:a2a:exchange:v1": { correlationId: expect.any(String) } });
});
