/** What a guarded writer makes of appends that come at once, and of a task that goes to another agent, apart from any database. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { StreamResponseSchema, TaskSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { statusUpdate } from "../../src/domain/agent-report.ts";
import { COST_EXTENSION, costSaid } from "../../src/domain/cost-extension.ts";
import { SignalboxError } from "../../src/domain/errors.ts";
import { applyUpdate, type NewUpdate, newImage, stateOf, type TaskImage } from "../../src/domain/task-log.ts";
import { isTerminal } from "../../src/domain/task-state.ts";
import { createGuardedWriter, type ResultPolicy } from "../../src/services/guarded-writer.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import type { AppendOptions, MakeUpdates } from "../../src/services/task-append.ts";
import type { TaskWriter } from "../../src/services/task-writer.ts";
import { headerOf } from "../fixtures/task-header.ts";

const { signal } = new AbortController();

function open(results: Partial<ResultPolicy>, header: Parameters<typeof headerOf>[0] = {}) {
  const image = newImage(headerOf(header));
  const written: NewUpdate[] = [];
  const withheld: NewUpdate[] = [];
  const inner: TaskWriter = {
    image,
    holdsBack: false,
    async append(make: MakeUpdates, { reroute, upstreamTaskId, ...options }: AppendOptions) {
      for (const update of make(image)) {
        written.push(update);
        applyUpdate(image, { ...update, seq: image.seq + 1 });
      }
      if (isTerminal(stateOf(image))) withheld.push(...(options.withheld ?? []));
      if (reroute) Object.assign(image.header, { agentId: reroute.agentId, upstreamTaskId: reroute.upstreamTaskId });
      if (upstreamTaskId !== undefined) image.header.upstreamTaskId = upstreamTaskId;
      return "stored";
    },
    async seize() {},
    async refresh() {},
  };
  const guard = {
    results: {
      load: () => undefined,
      guards: () => true,
      factsOf: async () => ({}),
      decide: () => ({ effect: "ALLOW", rules: [] }),
      ...results,
    } satisfies ResultPolicy,
    held: { read: async () => [], hold: async () => true },
    maxBytes: 1_000,
  };
  const runtime = { ...systemRuntime(), wait: async () => {} };
  return {
    written,
    withheld,
    image,
    writer: createGuardedWriter({ guard, runtime, replicaId: () => "r", onWithheld() {} }, inner),
  };
}

const chunk = (text: string): NewUpdate => {
  const artifact = { artifactId: "a", parts: [{ content: { case: "text" as const, value: text } }] };
  return {
    kind: "artifact",
    body: create(StreamResponseSchema, { payload: { case: "artifactUpdate", value: { artifact, append: true } } }),
  };
};
const done = ({ header }: TaskImage): NewUpdate[] => [
  statusUpdate(header, { state: TaskState.COMPLETED, timestamp: { seconds: 1n, nanos: 0 } as never }, "done"),
];

test("what is appended at once is written in order, however the policy is waited for", async () => {
  const reasons = ["DATABASE_UNAVAILABLE", "POLICY_UNREADABLE", "DATABASE_UNAVAILABLE"];
  const load = () => {
    const reason = reasons.pop();
    if (reason === undefined) return undefined;
    return Promise.reject(new SignalboxError({ code: "UNAVAILABLE", reason, message: "not now" }));
  };
  const { writer, written } = open({ load, guards: () => false });
  const append = (text: string) => writer.append(() => [chunk(text)], {}, signal);
  const all = Promise.all(["one", "two", "three"].map(append));
  // What nobody waits for must not fail unheard.
  await new Promise((resolve) => setImmediate(resolve));
  await all;
  expect(written).toEqual(["one", "two", "three"].map(chunk));
});

test("what one agent said is not another's, though both call the task the same", async () => {
  const { writer, written } = open({}, { upstreamTaskId: "task-1" });
  await writer.append(() => [chunk("of the first")], {}, signal);
  const reroute = {
    agentId: "second",
    capabilityId: undefined,
    upstreamTaskId: "task-1",
    upstreamContextId: undefined,
  };
  await writer.append(() => [], { reroute: reroute as never, forgetUpstream: true }, signal);
  await writer.append(() => [chunk("of the second")], {}, signal);
  await writer.append(done, {}, signal);
  expect(written.map(({ kind }) => kind)).toEqual(["artifact", "status"]);
  expect(written[0]).toEqual(chunk("of the second"));
});

test("what an agent said of a task is told nowhere, though another has it by now of which there is no rule", async () => {
  const { writer } = open({ guards: ({ agentId }) => agentId !== "second" }, { upstreamTaskId: "task-1" });
  const reroute = { agentId: "second", capabilityId: undefined } as never;
  await writer.append(() => [], { reroute, forgetUpstream: true }, signal);
  expect(writer.image.header.agentId).toBe("second");
  expect(writer.holdsBack).toBe(true);
});

test("what is beyond the bound is withheld with what was held before it: all of it may tell what the task cost", async () => {
  const { writer, withheld } = open({});
  await writer.append(() => [chunk("cheap")], {}, signal);
  await writer.append(() => [chunk("dear".repeat(300))], {}, signal);
  expect(withheld).toEqual([chunk("cheap"), chunk("dear".repeat(300))]);
});

test.each([
  ["its client", { by: { principal: "alice" } }],
  ["its agent", { by: "agent" }],
] as const)("what is held of a task that %s cancels tells what it cost, though it never leaves", async (_, options) => {
  const { writer, withheld, written } = open({});
  const task = create(TaskSchema, { metadata: { [COST_EXTENSION]: { cost: "0.25" } } });
  const dear: NewUpdate = {
    kind: "metadata",
    body: create(StreamResponseSchema, { payload: { case: "task", value: task } }),
  };
  await writer.append(() => [chunk("secret"), dear], { by: "agent" }, signal);
  const canceled = ({ header }: TaskImage) => [
    statusUpdate(header, { state: TaskState.CANCELED, timestamp: { seconds: 1n, nanos: 0 } as never }, "canceled"),
  ];
  await writer.append(canceled, options, signal);
  expect(written.map(({ kind }) => kind)).toEqual(["status"]);
  expect(costSaid(withheld, undefined)).toEqual({ micros: 250_000 });
});
