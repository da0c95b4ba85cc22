/** What a task looks like in plain words. */
import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { TaskSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { EngineState as ContractState } from "../../gen/signalbox/v1/task_pb.ts";
import { plainTask, priorityOf } from "../../src/domain/plain-task.ts";
import { PRIORITIES } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { headerOf } from "../fixtures/task-header.ts";

const shown = (task: JsonValue) => {
  const made = plainTask({
    header: headerOf({ taskId: "t", contextId: "c" }),
    seq: 1,
    state: EngineState.WORKING,
    task: fromJson(TaskSchema, { id: "t", status: { state: "TASK_STATE_WORKING" }, ...(task as object) }),
    reply: undefined,
  });
  const json = (value: typeof made.input) => value && toJson(ValueSchema, value);
  return { ...made, input: json(made.input), output: json(made.output) };
};

const message = (parts: JsonValue, role = "ROLE_USER") => ({ messageId: "m", role, parts });
const artifact = (artifactId: string, parts: JsonValue) => ({ artifactId, parts });

test.each<[string, JsonValue, unknown]>([
  ["nothing yet", [], undefined],
  ["one datum", [artifact("a", [{ data: { n: 1 } }])], { n: 1 }],
  ["null", [artifact("a", [{ data: null }])], null],
  [
    "several data, in their order",
    [artifact("a", [{ data: 1 }, { text: "x" }]), artifact("b", [{ data: [2] }])],
    [1, [2]],
  ],
  ["text, whose pieces follow each other", [artifact("a", [{ text: "Once " }, { text: "upon" }])], "Once upon"],
  ["texts of several artifacts", [artifact("a", [{ text: "one" }]), artifact("b", [{ text: "two" }])], "one\ntwo"],
  ["an empty text", [artifact("a", [{ text: "" }])], ""],
  ["files and links only", [artifact("a", [{ url: "http://x/" }, { raw: "aGk=" }])], undefined],
])("output: %s", (_, artifacts, output) => {
  expect(shown({ artifacts }).output).toEqual(output);
});

test("the input is the first message; what the agent says without artifacts is the output, when it is done", () => {
  const history = [message([{ data: { q: 1 } }]), message([{ text: "more" }])];
  expect(shown({ history }).input).toEqual({ q: 1 });
  const said = (state: string) => ({ status: { state, message: message([{ text: "Hi." }], "ROLE_AGENT") } });
  expect(shown(said("TASK_STATE_COMPLETED"))).toMatchObject({ output: "Hi.", message: "Hi.", error: "" });
  expect(shown(said("TASK_STATE_INPUT_REQUIRED"))).toMatchObject({ output: undefined, message: "Hi." });
  expect(shown(said("TASK_STATE_FAILED"))).toMatchObject({ output: undefined, error: "Hi." });
  expect(shown({ status: { state: "TASK_STATE_REJECTED" } }).error).toBe("The agent gave no reason.");
});

test("a result of the cache names its task, and nonsense there is ignored", () => {
  const from = (said: JsonValue) => shown({ metadata: { "urn:signalbox:a2a:routing:v1": said } }).cachedFrom;
  expect(from({ cachedFrom: "t0" })).toBe("t0");
  for (const said of [{ cachedFrom: 1 }, [], null, "t0"]) expect(from(said)).toBe("");
});

test("only what has ended has an end", () => {
  const at = "2026-01-02T03:04:05.678Z";
  expect(shown({ status: { state: "TASK_STATE_WORKING", timestamp: at } }).endTime).toBeUndefined();
  const { endTime, updateTime } = shown({ status: { state: "TASK_STATE_CANCELED", timestamp: at } });
  expect(endTime).toEqual(updateTime);
});

test("the contract has the domain's numbers", () => {
  expect({ ...EngineState, UNSPECIFIED: 0 }).toEqual({ ...ContractState });
  expect([1, 2, 3, 4, 5].map(priorityOf)).toEqual([...PRIORITIES]);
  expect([0, 6].map(priorityOf)).toEqual([undefined, undefined]);
});
