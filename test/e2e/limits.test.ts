import { beforeAll, describe, expect, it } from "vitest";
import { MAX_ID_LENGTH, MAX_PARTS } from "../../src/domain/message-rules.ts";
import { MAX_CONFIGS } from "../../src/services/push-configs.ts";
import { echoAgent } from "./echo-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ agents: { echo: echoAgent("echo") } });
  return () => app.stop();
});

interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: JSON of any shape, looked into by the tests
  body: any;
}

async function call(method: string, path: string, body?: unknown): Promise<Answer> {
  const headers = { "content-type": "application/json" };
  const init = body === undefined ? { method } : { method, headers, body: JSON.stringify(body) };
  const response = await fetch(app.httpUrl + path, init);
  return { status: response.status, body: await response.json() };
}

const send = (message: object) =>
  call("POST", "/message:send", { message: { messageId: "m", role: "ROLE_USER", parts: [{ text: "x" }], ...message } });

const fieldsOf = ({ body }: Answer) =>
  body.error.details.flatMap(
    (d: { fieldViolations?: { field: string }[] }) => d.fieldViolations?.map((v) => v.field) ?? [],
  );

describe("limits of a message", () => {
  it.each(["messageId", "contextId", "taskId"])("%s", async (field) => {
    for (const id of ["x".repeat(MAX_ID_LENGTH + 1), "a\0b"]) {
      const answer = await send({ [field]: id });
      expect(answer.status).toBe(400);
      expect(fieldsOf(answer)).toEqual([`message.${field}`]);
    }
  });

  it("parts", async () => {
    const parts = Array.from({ length: MAX_PARTS + 1 }, () => ({ text: "x" }));
    expect(fieldsOf(await send({ parts }))).toEqual(["message.parts"]);
    expect((await send({ parts: parts.slice(1) })).status).toBe(200);
  });

  it("referenceTaskIds", async () => {
    expect(fieldsOf(await send({ referenceTaskIds: Array.from({ length: 101 }, () => "t") }))).toEqual([
      "message.referenceTaskIds",
    ]);
  });

  it("takes a context id of full length and any script", async () => {
    const contextId = "ж".repeat(MAX_ID_LENGTH);
    const { body } = await send({ contextId });
    expect(body.task.contextId).toBe(contextId);
    expect((await call("GET", `/tasks?contextId=${encodeURIComponent(contextId)}`)).body.totalSize).toBe(1);
  });
});

describe("limits of push configs", () => {
  it("takes so many of a task and says when there are more", async () => {
    const { body } = await send({});
    const path = `/tasks/${body.task.id}/pushNotificationConfigs`;
    const create = (id: string) => call("POST", path, { id, url: "http://127.0.0.1:9/hook" });
    const answers = await Promise.all(Array.from({ length: MAX_CONFIGS + 5 }, (_, i) => create(`c${i}`)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(MAX_CONFIGS);
    expect(answers.find(({ status }) => status === 429)?.body.error.details[0].reason).toBe("TOO_MANY_PUSH_CONFIGS");
    // One that is there may still be changed.
    const kept = answers.find(({ status }) => status === 200)!.body.id;
    expect((await create(kept)).status).toBe(200);
  });
});
