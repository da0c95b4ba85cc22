/** Whatever is sent to the routes of the simple face gets an answer that they document, and the server goes on. */
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { TaskService } from "../../gen/signalbox/v1/task_pb.ts";
import { echoAgent } from "./echo-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ agents: { echo: echoAgent("echo") } });
  return () => app.stop();
});

const RUNS = { numRuns: 200 };
const fields = [
  ...new Set(
    TaskService.methods.flatMap(({ input }) => input.fields.flatMap(({ name, jsonName }) => [name, jsonName])),
  ),
];

/** Values that a field may have, and others. */
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom<unknown>(
    "echo",
    "c",
    true,
    0,
    1,
    -1,
    1e20,
    "ENGINE_STATE_WORKING",
    "TASK_PRIORITY_LOW",
    "\0",
    "\ud800",
  ),
  fc.integer({ min: 0, max: 50 }),
);
const body = fc
  .dictionary(fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...fields) }, fc.string()), value, { maxKeys: 6 })
  // Waiting is for other tests.
  .map((json) => ({ ...json, timeoutMs: 1, timeout_ms: undefined }));
const batch = fc.oneof(
  body,
  fc.array(body, { maxLength: 4 }).map((requests) => ({ requests })),
);

async function expectAnswer(path: string, init: RequestInit): Promise<void> {
  const response = await fetch(app.httpUrl + path, init);
  const text = await response.text();
  expect([200, 400, 404, 405, 409, 429], `${path} ${init.body} ${text}`).toContain(response.status);
  const json = JSON.parse(text);
  if (response.status === 200) expect(json).toBeTypeOf("object");
  else expect(json.error.details[0].reason).toMatch(/^[A-Z_]+$/);
}

const post = (json: unknown): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify(json),
});

test.each(["/v1/tasks", "/tasks", "/v1/tasks:cleanup", "/v1/tasks/x:cancel", "/tasks/x/cancel"])(
  "bodies at %s",
  async (path) => {
    await fc.assert(
      fc.asyncProperty(body, (json) => expectAnswer(path, post(json))),
      RUNS,
    );
  },
);

test("bodies of batches", async () => {
  await fc.assert(
    fc.asyncProperty(batch, (json) => expectAnswer("/v1/tasks:batchSubmit", post(json))),
    RUNS,
  );
});

test("addresses", async () => {
  const path = fc.constantFrom(
    "/v1/tasks",
    "/v1/tasks/x",
    "/v1/tasks/x:wait",
    "/v1/tasks/x/execution",
    "/capabilities",
  );
  const parameter = fc.tuple(fc.constantFrom(...fields), fc.oneof(fc.string(), value.map(String)));
  const query = fc.array(parameter, { maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(path, query, fc.constantFrom("GET", "DELETE"), (path, query, method) =>
      expectAnswer(
        `${path}?${new URLSearchParams(query.map(([name, text]): [string, string] => [name, text.toWellFormed()]))}`,
        {
          method,
        },
      ),
    ),
    RUNS,
  );
});

test("cursors of the stream of all tasks", async () => {
  const cursor = fc.oneof(
    fc.string(),
    fc.tuple(fc.nat(), fc.nat(), fc.string()).map((parts) => Buffer.from(parts.join(".")).toString("base64url")),
  );
  await fc.assert(
    fc.asyncProperty(cursor, async (cursor) => {
      const leaving = new AbortController();
      const url = `${app.httpUrl}/v1/tasks:watch?${new URLSearchParams({ cursor: cursor.toWellFormed() })}`;
      const response = await fetch(url, { signal: leaving.signal });
      expect([200, 400]).toContain(response.status);
      leaving.abort();
    }),
    { numRuns: 60 },
  );
});
