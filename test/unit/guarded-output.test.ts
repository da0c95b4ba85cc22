/** What a policy about results is told of an output: all that is said in it, wherever. */
import { create, fromJson, type JsonValue, type MessageInitShape } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { HeldView, partsOf, wordsOf } from "../../src/domain/guarded-output.ts";
import { type NewUpdate, newImage } from "../../src/domain/task-log.ts";
import { headerOf } from "../fixtures/task-header.ts";

type Payload = MessageInitShape<typeof StreamResponseSchema>["payload"];

const update = (payload: Payload): NewUpdate => ({
  kind: "artifact",
  body: create(StreamResponseSchema, { payload: payload! }),
});
const artifact = (more: object, around: object = {}) =>
  update({ case: "artifactUpdate", value: { artifact: { artifactId: "a", ...more }, ...around } });
const text = (value: string) => ({ content: { case: "text" as const, value } });
const data = (json: JsonValue) => ({ content: { case: "data" as const, value: fromJson(ValueSchema, json) } });
const file = (mediaType: string) => ({
  content: { case: "raw" as const, value: new TextEncoder().encode("in a file") },
  mediaType,
});

test("parts come first, one after another; what is said beside them follows", () => {
  const said = [
    artifact({ parts: [text("sec"), text("ret")], name: "report", description: "of today" }, { metadata: { x: 1 } }),
    update({ case: "message", value: { parts: [data({ y: 2 })], extensions: ["urn:e"], metadata: { z: 3 } } }),
    update({ case: "statusUpdate", value: { status: { message: { parts: [text("done")] } }, metadata: { s: 4 } } }),
    update({ case: "task", value: { metadata: { t: 5 } } }),
    artifact({ parts: [{ ...text("!"), filename: "a.txt", metadata: { p: 6 } }] }),
  ];
  expect(wordsOf(said).split("\n")).toEqual([
    "secret!",
    '{"y":2}',
    "done",
    '{"x":1}',
    "report",
    "of today",
    '{"z":3}',
    "urn:e",
    '{"s":4}',
    '{"t":5}',
    "a.txt",
    '{"p":6}',
  ]);
});

test("files that are text are read", () => {
  const wordsIn = (mediaType: string) => wordsOf([artifact({ parts: [file(mediaType)] })]);
  for (const type of ["text/plain", "Text/CSV; charset=utf-8", "application/json", "application/ld+json;v=1"]) {
    expect(wordsIn(type)).toBe("in a file");
  }
  for (const type of ["", "image/png", "application/octet-stream", "application/jsonish"]) {
    expect(wordsIn(type)).toBe("");
  }
});

test("a letter of a file hides no word, though its bytes come in two chunks", () => {
  const bytes = new TextEncoder().encode("prix: 5 €, confidentiel é");
  for (let cut = 0; cut <= bytes.length; cut++) {
    const chunks = [bytes.slice(0, cut), bytes.slice(cut)].map((value) =>
      artifact({ parts: [{ content: { case: "raw" as const, value }, mediaType: "text/plain" }] }),
    );
    expect(wordsOf(chunks)).toBe("prix: 5 €, confidentiel é");
  }
  const half = { content: { case: "raw" as const, value: bytes.slice(-1) }, mediaType: "text/plain" };
  expect(wordsOf([artifact({ parts: [half, text("a"), half] })])).toBe("\uFFFDa\uFFFD");
});

test("a chunk may have more parts than a call takes arguments", () => {
  const many = Array.from({ length: 200_000 }, () => text("x"));
  const { groups, artifacts } = partsOf([artifact({ parts: [text("x")] }), artifact({ parts: many })]);
  expect([artifacts, groups[0]!.length]).toEqual([1, 200_001]);
});

test("what is held is added to the task once, however often it is looked at", () => {
  const image = newImage(headerOf({ taskId: "t" }));
  const view = new HeldView(image);
  const held = [artifact({ parts: [text("a")] }, { append: true })];
  const shown = () => view.with(held).task.artifacts.map(({ parts }) => parts.length);
  expect([shown(), shown()]).toEqual([[1], [1]]);
  held.push(artifact({ parts: [text("b")] }, { append: true }));
  expect(shown()).toEqual([2]);
  expect([image.task.artifacts, view.with(held).seq, view.isOf(image)]).toEqual([[], 0, true]);
  image.seq += 1;
  expect(view.isOf(image)).toBe(false);
});
