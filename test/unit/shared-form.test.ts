/** What is made once for all watchers is what would be made for each of them. */
import { create, toBinary, toJson } from "@bufbuild/protobuf";
import { createContextValues, type HandlerContext } from "@connectrpc/connect";
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { type StreamResponse, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { eventWriter } from "../../src/transport/event-text.ts";
import { encoderOf } from "../../src/transport/grpc/wire.ts";
import { responseWriter } from "../../src/transport/proto-json.ts";
import { eventDialectKey } from "../../src/transport/rpc/bound.ts";

const ids = { taskId: fc.string(), contextId: fc.string() };
const part = fc.string({ unit: "grapheme" }).map((value) => ({ content: { case: "text", value } }) as const);
const metadata = fc.option(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 })), { nil: undefined });
const chunk = fc.record({
  ...ids,
  append: fc.boolean(),
  artifact: fc.record({ artifactId: fc.string(), parts: fc.array(part) }),
  metadata,
});
const status = fc.record({
  ...ids,
  status: fc.record({ state: fc.constantFrom(TaskState.WORKING, TaskState.FAILED) }),
});
const item: fc.Arbitrary<StreamResponse> = fc
  .oneof(
    chunk.map((value) => ({ case: "artifactUpdate", value }) as const),
    status.map((value) => ({ case: "statusUpdate", value }) as const),
  )
  .map((payload) => create(StreamResponseSchema, { payload } as never));

/** Items of which each comes several times, in any order. */
const stream = fc
  .array(item, { minLength: 1, maxLength: 5 })
  .chain((items) => fc.array(fc.constantFrom(...items), { maxLength: 20 }));

const contextOf = (values = createContextValues()) => ({ values }) as HandlerContext;

test("bytes over gRPC", () => {
  const bytesOf = encoderOf(StreamResponseSchema);
  fc.assert(
    fc.property(stream, (items) => {
      for (const each of items) expect(bytesOf(each).equals(toBinary(StreamResponseSchema, each))).toBe(true);
    }),
  );
});

describe("text over the JSON bindings", () => {
  const write = responseWriter(StreamResponseSchema);

  test("of every stream that says nothing of a dialect", () => {
    const textOf = eventWriter(write);
    fc.assert(
      fc.property(stream, (items) => {
        for (const each of items) expect(textOf(each, contextOf())).toBe(JSON.stringify(write(each)));
      }),
    );
  });

  test("a dialect is of its stream alone", () => {
    const textOf = eventWriter(write);
    const values = createContextValues().set(eventDialectKey, (json) => ({ wrapped: json }));
    fc.assert(
      fc.property(stream, (items) => {
        for (const each of items) {
          expect(textOf(each, contextOf(values))).toBe(JSON.stringify({ wrapped: write(each) }));
          expect(textOf(each, contextOf())).toBe(JSON.stringify(write(each)));
        }
      }),
    );
  });

  test("is made once of each item", () => {
    const once = vi.fn((each: StreamResponse) => toJson(StreamResponseSchema, each));
    const textOf = eventWriter(once as never);
    const [one, other] = [create(StreamResponseSchema), create(StreamResponseSchema)];
    for (const each of [one, other, one, one, other]) textOf(each, contextOf());
    expect(once.mock.calls.map(([each]) => each)).toEqual([one, other]);
    expect(once.mock.calls[1]![0]).toBe(other);
  });
});
