import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  createWaitingHints,
  type HintMessage,
  MAX_WAITING,
  readHints,
} from "../../src/services/background/hint-payload.ts";

/** PostgreSQL's own limit is 7,999 bytes. */
const LIMIT = 8_000;
const FROM = "019a0000-0000-7000-8000-000000000000";

function takeAll(waiting: ReturnType<typeof createWaitingHints>): HintMessage[] {
  const messages: HintMessage[] = [];
  for (let payload = waiting.take(); payload !== undefined; payload = waiting.take()) {
    expect(Buffer.byteLength(payload)).toBeLessThan(LIMIT);
    const message = readHints(payload);
    expect(message).toMatchObject({ from: FROM });
    messages.push(message!);
  }
  return messages;
}

const id = fc.oneof(fc.uuid(), fc.string({ unit: "binary", maxLength: 256 }), fc.string({ maxLength: 4 }));
const task = fc.record({
  workspaceId: fc.constantFrom("default", "w", "__proto__"),
  taskId: id,
  seq: fc.integer({ min: 1, max: 1000 }),
});

describe("what waits to be told", () => {
  test("is told whole: the greatest number of each task, in payloads that PostgreSQL takes", () => {
    fc.assert(
      fc.property(fc.array(task, { maxLength: 400, size: "max" }), (tasks) => {
        const waiting = createWaitingHints(FROM);
        const latest = new Map<string, number>();
        for (const grown of tasks) {
          waiting.grown(grown);
          const name = JSON.stringify([grown.workspaceId, grown.taskId]);
          latest.set(name, Math.max(latest.get(name) ?? 0, grown.seq));
        }
        const told = takeAll(waiting).flatMap((message) => message.tasks);
        expect(new Map(told.map(([workspaceId, taskId, seq]) => [JSON.stringify([workspaceId, taskId]), seq]))).toEqual(
          latest,
        );
        expect(told).toHaveLength(latest.size);
      }),
      { numRuns: 100 },
    );
  });

  test("is one number for a task, however often its log has grown", () => {
    const waiting = createWaitingHints(FROM);
    for (const seq of [3, 9, 4]) waiting.grown({ workspaceId: "default", taskId: "a", seq });
    expect(takeAll(waiting)).toEqual([{ from: FROM, tasks: [["default", "a", 9]] }]);
  });

  test("fills several payloads with the longest ids", () => {
    const waiting = createWaitingHints(FROM);
    const taskIds = Array.from({ length: 100 }, (_, n) => `${n}${"\u0001".repeat(250)}`);
    for (const taskId of taskIds) waiting.grown({ workspaceId: "w".repeat(63), taskId, seq: 1 });
    const messages = takeAll(waiting);
    expect(messages.length).toBeGreaterThan(10);
    expect(messages.flatMap(({ tasks }) => tasks.map(([, taskId]) => taskId))).toEqual(taskIds);
  });

  test("is that everything may have changed, where a name fits into no payload", () => {
    const waiting = createWaitingHints(FROM);
    waiting.grown({ workspaceId: "default", taskId: "x".repeat(9_000), seq: 1 });
    expect(takeAll(waiting)).toEqual([{ from: FROM, all: true, tasks: [] }]);
  });

  test("is that everything may have changed, where there is too much", () => {
    const waiting = createWaitingHints(FROM);
    for (let n = 0; n <= MAX_WAITING + 5; n++) waiting.grown({ workspaceId: "default", taskId: `${n}`, seq: 1 });
    waiting.work();
    expect(takeAll(waiting)).toEqual([{ from: FROM, all: true, work: true, tasks: [] }]);
    waiting.grown({ workspaceId: "default", taskId: "next", seq: 1 });
    expect(takeAll(waiting)).toEqual([{ from: FROM, tasks: [["default", "next", 1]] }]);
  });

  test("says hello, work and all once", () => {
    const waiting = createWaitingHints(FROM);
    waiting.hello();
    waiting.work();
    waiting.all();
    expect(takeAll(waiting)).toEqual([{ from: FROM, hello: true, work: true, all: true, tasks: [] }]);
    expect(waiting.take()).toBeUndefined();
  });
});

test.each(["", "null", "7", "{}", '{"from":1,"tasks":[]}', '{"from":"a"}', '{"from":"a","tasks":[["w","t"]]}', "{"])(
  "%j is none of our payloads",
  (payload) => {
    expect(readHints(payload)).toBeUndefined();
  },
);
