import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { type StreamResponse, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { age, facts, printable, table } from "../../src/cli/printable.ts";
import { createUpdateTeller } from "../../src/cli/task-text.ts";

test("text of others cannot steer the terminal", () => {
  expect(printable("a\u001b[2Jb\u0007\u009b1m\r\nc\td\re")).toBe("a[2Jb1m\nc\tde");
});

test("tables and facts align, and a cell is one line", () => {
  expect(
    table(
      ["ID", "NAME"],
      [
        ["a", "two\nlines"],
        ["long-id", ""],
      ],
    ),
  ).toBe("ID        NAME\na         two lines\nlong-id\n");
  expect(
    facts([
      ["Task", "1"],
      ["Nothing", undefined],
      ["Context", "2"],
    ]),
  ).toBe("Task      1\nContext   2\n");
});

test.each([
  [0, "0s"],
  [119, "119s"],
  [120, "2m"],
  [7200, "2h"],
  [172_800, "2d"],
  [-5, "0s"],
])("%i seconds ago is %s", (seconds, shown) => {
  expect(age(new Date(1e12 - seconds * 1000), new Date(1e12))).toBe(shown);
});

test("chunks of one artifact make one text, others begin anew", () => {
  const teller = createUpdateTeller();
  const told = [
    chunk("a", "one ", false),
    chunk("a", "two", true),
    chunk("b", "three", false),
    chunk("a", "four", true),
    status(TaskState.WORKING),
    status(TaskState.WORKING),
    chunk("a", "five", true),
    status(TaskState.COMPLETED),
  ].map((update) => teller.tell(update));
  expect(told.join("") + teller.end()).toBe(
    "Artifact a:\none two\nArtifact b:\nthree\nArtifact a:\nfour\nWORKING\nArtifact a:\nfive\nCOMPLETED\n",
  );
});

function chunk(artifactId: string, text: string, append: boolean): StreamResponse {
  const artifact = { artifactId, parts: [{ content: { case: "text" as const, value: text } }] };
  return create(StreamResponseSchema, {
    payload: { case: "artifactUpdate", value: { taskId: "t", contextId: "c", artifact, append } },
  });
}

function status(state: TaskState): StreamResponse {
  return create(StreamResponseSchema, {
    payload: { case: "statusUpdate", value: { taskId: "t", contextId: "c", status: { state } } },
  });
}
