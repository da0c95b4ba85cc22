import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MessageSchema, type PartSchema, Role, TaskSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { resultDigest } from "../../src/domain/task-result.ts";

const { COMPLETED, FAILED } = TaskState;

type Parts = MessageInitShape<typeof PartSchema>[];
const text = (value: string) => ({ content: { case: "text" as const, value } });
const data = (value: object) => ({ content: { case: "data" as const, value: structOf(value) } });
const structOf = (fields: object) => ({
  kind: {
    case: "structValue" as const,
    value: {
      fields: Object.fromEntries(
        Object.entries(fields).map(([key, value]) => [
          key,
          { kind: { case: "numberValue" as const, value: value as number } },
        ]),
      ),
    },
  },
});

let ids = 0;
function taskWith(artifacts: Parts[], said: Parts = [], state: TaskState = COMPLETED) {
  const message = { messageId: `m${++ids}`, role: Role.AGENT, parts: said };
  return create(TaskSchema, {
    id: `t${ids}`,
    contextId: `c${ids}`,
    status: { state, message },
    artifacts: artifacts.map((parts, i) => ({ artifactId: `${ids}-${i}`, name: `name ${ids}`, parts })),
  });
}
const digest = (...args: Parameters<typeof taskWith>) => resultDigest({ task: taskWith(...args) });

describe("the digest of a result", () => {
  test("is the same whatever the agent calls its task, its artifacts and its messages", () => {
    expect(digest([[text("a")]], [text("done")])).toBe(digest([[text("a")]], [text("done")]));
  });

  test("is the same wherever a text was cut into chunks", () => {
    fc.assert(
      fc.property(fc.array(fc.string(), { minLength: 1 }), (chunks) => {
        expect(digest([chunks.map(text)])).toBe(digest([[text(chunks.join(""))]]));
      }),
    );
  });

  test("is the same in whatever order data were written", () => {
    expect(digest([[data({ b: 1, a: 2 })]])).toBe(digest([[data({ a: 2, b: 1 })]]));
  });

  test("of a bare Message is that of a task that was completed with it", () => {
    const message = create(MessageSchema, { messageId: "1", role: Role.AGENT, parts: [text("hello")] });
    expect(resultDigest({ message })).toBe(digest([], [text("hello")]));
  });

  test.each<[string, string]>([
    ["another state", digest([[text("a")]], [], FAILED)],
    ["another text", digest([[text("b")]])],
    ["another message", digest([[text("a")]], [text("done")])],
    ["one artifact more", digest([[text("a")], []])],
    ["two artifacts instead of one", digest([[text("")], [text("a")]])],
    ["another media type", digest([[{ ...text("a"), mediaType: "text/html" }]])],
    ["data instead of text", digest([[data({ a: 1 })]])],
    ["bytes instead of text", digest([[{ content: { case: "raw", value: new Uint8Array([97]) } }]])],
  ])("differs for %s", (_, other) => {
    expect(other).not.toBe(digest([[text("a")]]));
  });
});
