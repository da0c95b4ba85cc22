/** What agents say of tasks whose output is looked at first: nobody reads of it before the verdict, whatever happens meanwhile. */
import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import {
  Role,
  type StreamResponse,
  StreamResponseSchema,
  type Task,
  TaskSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { SignalboxError } from "../../src/domain/errors.ts";
import type { Facts } from "../../src/domain/policy/facts.ts";
import { type NewUpdate, stateOf, type TaskImage } from "../../src/domain/task-log.ts";
import { isInterrupted, isTerminal } from "../../src/domain/task-state.ts";
import { AgentCallError, type AgentClient } from "../../src/services/agent-port.ts";
import type { ResultPolicy } from "../../src/services/guarded-writer.ts";
import { createHeldUpdates } from "../../src/store/held-updates.ts";
import { textOf } from "../fault/said.ts";
import { logLines } from "../store/log-lines.ts";
import { expectWholeLogs, raw } from "../store/tables.ts";
import { hang, isNamed, openLab, workingAgent } from "./engine-lab.ts";

const { WORKING, COMPLETED, FAILED, INPUT_REQUIRED, CANCELED } = TaskState;
const NAMES = { taskId: "theirs-1", contextId: "theirs" };

const status = (state: TaskState, text?: string) =>
  create(StreamResponseSchema, {
    payload: {
      case: "statusUpdate",
      value: { ...NAMES, status: { state, ...(text !== undefined && { message: words(text) }) } },
    },
  });
const words = (text: string) => ({
  messageId: `m-${text}`,
  parts: [{ content: { case: "text" as const, value: text } }],
});
const chunk = (text: string, append = true) =>
  create(StreamResponseSchema, {
    payload: {
      case: "artifactUpdate",
      value: {
        ...NAMES,
        append,
        artifact: { artifactId: "a", parts: [{ content: { case: "text", value: text } }] },
      },
    },
  });

async function* hangUp(fail: () => Promise<never>): AsyncGenerator<StreamResponse> {
  yield await fail();
}

/** What it was asked, and the verdict: nothing with "secret" in it leaves. */
function policy(overrides: Partial<ResultPolicy> = {}) {
  const asked: Facts[] = [];
  const rule = {
    path: "rules[2]",
    effect: "DENY",
    scope: "GLOBAL",
    description: "No secrets",
    file: "",
    line: 3,
  } as const;
  const results: ResultPolicy = {
    load: () => undefined,
    guards: () => true,
    factsOf: async () => ({}),
    decide(_, facts) {
      asked.push(facts);
      const isDenied = String(facts.output_text).includes("secret");
      return isDenied ? { effect: "DENY", rules: [rule] } : { effect: "ALLOW", rules: [] };
    },
    ...overrides,
  };
  return { asked, results };
}

/** An agent whose stream is written by the test. */
function scripted() {
  const lines: StreamResponse[] = [];
  let more = Promise.withResolvers<void>();
  const say = (...said: StreamResponse[]) => {
    lines.push(...said);
    more.resolve();
  };
  async function* listen(signal: AbortSignal, from = 0): AsyncGenerator<StreamResponse> {
    for (let i = from; ; i++) {
      while (i >= lines.length) {
        more = Promise.withResolvers();
        await Promise.race([more.promise, hang(signal)]);
      }
      yield lines[i]!;
    }
  }
  /** The task as the agent has it. */
  const task = (): Task => {
    const text = lines.flatMap(({ payload }) =>
      payload.case === "artifactUpdate" ? (payload.value.artifact?.parts ?? []) : [],
    );
    const last = lines.findLast(({ payload }) => payload.case === "statusUpdate")?.payload;
    const now = last?.case === "statusUpdate" ? last.value.status : { state: WORKING };
    return create(TaskSchema, {
      id: NAMES.taskId,
      contextId: NAMES.contextId,
      status: now as never,
      artifacts: text.length === 0 ? [] : [{ artifactId: "a", parts: text }],
    });
  };
  const client: Partial<AgentClient> = {
    sendStream: (_, { signal }) => listen(signal),
    async *subscribe(_, { signal }) {
      yield create(StreamResponseSchema, { payload: { case: "task", value: task() } });
      yield* listen(signal, lines.length);
    },
    get: async () => task(),
  };
  return { say, client: workingAgent(client), lines };
}

const rests = (image: TaskImage) => isTerminal(stateOf(image)) || isInterrupted(stateOf(image));
const leaks = (image: TaskImage) => JSON.stringify(image.task, (_, v) => (typeof v === "bigint" ? String(v) : v));

it("is held while the agent works, and leaves in order with the verdict", async () => {
  const [{ say, client }, { results, asked }] = [scripted(), policy()];
  const start = await openLab();
  const a = await start(client, { results });
  const begun = await a.begin();
  say(status(WORKING, "thinking"), chunk("one ", false), chunk("two"));
  const held = () => raw(a.db, "select 1 from held_updates");
  await expect.poll(held).toHaveLength(3);
  const meanwhile = await a.load(begun);
  expect(stateOf(meanwhile)).toBe(WORKING);
  expect(leaks(meanwhile)).not.toMatch(/thinking|one|two/);
  expect(asked).toEqual([]);
  say(status(COMPLETED, "done"));
  const { task } = await a.when(begun, rests);
  expect(task.status?.state).toBe(COMPLETED);
  expect(textOf(task)).toBe("one two");
  expect(task.history.map((message) => textOf(message))).toContain("thinking");
  expect(asked.at(-1)).toMatchObject({
    output_state: "COMPLETED",
    output_text: "thinking\none two\ndone",
    output_artifacts: 1,
    output_modes: ["text/plain"],
  });
  expect(await held()).toEqual([]);
  await expectWholeLogs(a.db);
});

it("never leaves when it is refused, nor any trace of it", async () => {
  const [{ say, client }, { results }] = [scripted(), policy()];
  const start = await openLab();
  const a = await start(client, { results });
  const begun = await a.begin();
  say(status(WORKING), chunk("the sec", false), chunk("ret"), status(COMPLETED, "done"));
  const image = await a.when(begun, rests);
  expect(stateOf(image)).toBe(FAILED);
  expect(textOf(image.task.status?.message)).toBe(
    "The output of this task was withheld by policy: rules[2] (No secrets).",
  );
  const rows = await raw(a.db, "select convert_from(body, 'LATIN1') || coalesce(cause, '') as text from task_updates");
  expect(rows.map(({ text }) => text).join()).not.toMatch(/the sec|done/);
  expect(await raw(a.db, "select 1 from held_updates")).toEqual([]);
  await expectWholeLogs(a.db);
});

it("never leaves as a message that says it is its client's", async () => {
  const [{ say, client }, { results }] = [scripted(), policy()];
  const start = await openLab();
  const a = await start(client, { results });
  const begun = await a.begin();
  const payload = { case: "message" as const, value: { ...words("secret"), role: Role.USER } };
  say(status(WORKING), create(StreamResponseSchema, { payload }), status(COMPLETED, "done"));
  const image = await a.when(begun, rests);
  expect(stateOf(image)).toBe(FAILED);
  // Its rule is named, which says that it is about secrets.
  const rows = await raw(a.db, "select convert_from(body, 'LATIN1') as text from task_updates");
  expect(`${leaks(image)}${rows.map(({ text }) => text).join()}`).not.toMatch(/secret(?!s\))/);
});

it("is told by no line of this server's log", async () => {
  const { log, lines } = logLines();
  const { results } = policy();
  const start = await openLab();
  const refuse = () => Promise.reject(new AgentCallError("refused", "secret words", { reason: "SECRET" }));
  const a = await start(workingAgent({ sendStream: () => hangUp(refuse), send: refuse }), { results, log });
  await a.when(await a.begin(), rests);
  expect(lines.find(({ msg }) => msg === "the agent failed the task")).toMatchObject({ kind: "refused" });
  expect(JSON.stringify(lines)).not.toMatch(/secret/i);
});

it("waits where this server cannot read the policy, and strands no task", async () => {
  const [{ say, client }, { results }] = [scripted(), policy()];
  let looks = 0;
  const load = () => {
    looks += 1;
    if (looks > 2) return undefined;
    return Promise.reject(new SignalboxError({ code: "UNAVAILABLE", reason: "POLICY_UNREADABLE", message: "no" }));
  };
  const start = await openLab();
  const a = await start(client, { results: { ...results, load } });
  const begun = await a.begin();
  say(status(WORKING), chunk("one", false), status(COMPLETED, "done"));
  expect(stateOf(await a.when(begun, rests))).toBe(COMPLETED);
  expect(looks).toBeGreaterThan(2);
});

it("is looked at when the agent asks, too", async () => {
  const [{ say, client }, { results, asked }] = [scripted(), policy()];
  const start = await openLab();
  const a = await start(client, { results });
  const begun = await a.begin();
  say(status(WORKING), chunk("draft", false), status(INPUT_REQUIRED, "is it a secret?"));
  const image = await a.when(begun, rests);
  expect(stateOf(image)).toBe(FAILED);
  expect(asked.at(-1)).toMatchObject({ output_state: "INPUT_REQUIRED" });
  expect(leaks(image)).not.toMatch(/draft|is it/);
});

it.each(["let go", "killed"])(
  "is taken up by another replica when the first is %s: nothing twice, nothing lost",
  async (how) => {
    const [{ say, client }, { results }] = [scripted(), policy()];
    const start = await openLab();
    const a = await start(client, { results });
    const begun = await a.begin();
    say(status(WORKING, "thinking"), chunk("one ", false));
    await expect.poll(() => raw(a.db, "select 1 from held_updates")).toHaveLength(2);
    await a.kill();
    if (how === "let go") a.dispatcher.abandon();
    const b = await start(client, { results });
    await b.rescue();
    // What the first one still hears, it may not hold.
    say(chunk("two"));
    await b.when(begun, isNamed);
    say(status(COMPLETED));
    const { task } = await b.when(begun, rests);
    expect(textOf(task)).toBe("one two");
    expect(task.history.filter((message) => textOf(message) === "thinking")).toHaveLength(1);
    expect(await raw(b.db, "select 1 from held_updates")).toEqual([]);
    await expectWholeLogs(b.db);
  },
);

it("is not another attempt's, though its agent had not named the task", async () => {
  const [{ say, client }, { results }] = [scripted(), policy()];
  const called = Promise.withResolvers<void>();
  const lost = Promise.withResolvers<never>();
  const calls: AsyncGenerator<StreamResponse>[] = [hangUp(() => lost.promise)];
  const start = await openLab();
  const sendStream: AgentClient["sendStream"] = (message, options) => {
    called.resolve();
    return calls.pop() ?? client.sendStream(message, options);
  };
  const a = await start({ ...client, sendStream }, { results });
  const begun = await a.begin();
  await called.promise;
  const { workspaceId, taskId, fence } = begun.header;
  // What a replica leaves that dies before it has written down how the agent calls the task.
  const first: NewUpdate = { kind: "artifact", body: chunk("of the first, ", false) };
  expect(await createHeldUpdates(a.db).hold({ workspaceId, taskId, fence, replicaId: a.id() }, 1, [first])).toBe(true);
  lost.reject(new AgentCallError("unreachable", "nobody there"));
  await expect.poll(() => a.claim()).toBe(1);
  say(status(WORKING), chunk("of the second"), status(COMPLETED));
  const image = await a.when(begun, rests);
  expect([image.header.attempt, textOf(image.task)]).toEqual([2, "of the second"]);
  await expectWholeLogs(a.db);
});

it("is forgotten when its client cancels the task", async () => {
  const [{ say, client }, { results }] = [scripted(), policy()];
  const start = await openLab();
  const a = await start(
    { ...client, cancel: async (id) => create(TaskSchema, { id, contextId: "theirs", status: { state: CANCELED } }) },
    { results },
  );
  const begun = await a.begin();
  say(status(WORKING), chunk("one", false));
  await expect.poll(() => raw(a.db, "select 1 from held_updates")).toHaveLength(1);
  await a.cancel(await a.load(begun));
  const image = await a.load(begun);
  expect(stateOf(image)).toBe(CANCELED);
  expect(leaks(image)).not.toContain("one");
  expect(await raw(a.db, "select 1 from held_updates")).toEqual([]);
});

it("is told to nobody who cancels the task in vain", async () => {
  const [{ say, client }, { results }] = [scripted(), policy()];
  const start = await openLab();
  const cancel = () => Promise.reject(new AgentCallError("refused", "secret words"));
  const a = await start({ ...client, cancel }, { results });
  const begun = await a.begin();
  say(status(WORKING), chunk("one", false));
  await a.when(begun, isNamed);
  const refused = a.cancel(await a.load(begun));
  await expect(refused).rejects.toMatchObject({ reason: "TASK_NOT_CANCELABLE" });
  await expect(refused).rejects.not.toThrow("secret");
});

it("is forgotten when its client cancels the task and its agent cannot be told, whatever the rules say", async () => {
  const { results } = policy({ decide: () => ({ effect: "DENY", rules: [] }) });
  const { say, client } = scripted();
  const start = await openLab();
  const cancel = () => Promise.reject(new AgentCallError("unreachable", "nobody there"));
  const a = await start({ ...client, cancel }, { results });
  const begun = await a.begin();
  say(status(WORKING), chunk("one", false));
  await expect.poll(() => raw(a.db, "select 1 from held_updates")).toHaveLength(1);
  await a.cancel(await a.load(begun));
  const image = await a.load(begun);
  expect(stateOf(image)).toBe(CANCELED);
  expect(textOf(image.task.status?.message)).toBe("The agent could not be told of the cancellation.");
  expect(leaks(image)).not.toContain("one");
  expect(await raw(a.db, "select 1 from held_updates")).toEqual([]);
  await expectWholeLogs(a.db);
});

it.each([
  ["asks", [chunk("draft", false), status(INPUT_REQUIRED, "is it a secret?")]],
  ["has said too much", [chunk("x".repeat(2_000), false)]],
])("stops the work of an agent that %s, when it is withheld", async (_, said) => {
  const [{ say, client }, { results }] = [scripted(), policy()];
  const canceled = Promise.withResolvers<string>();
  const cancel = async (id: string) => {
    canceled.resolve(id);
    return create(TaskSchema, { id, contextId: "theirs", status: { state: CANCELED } });
  };
  const start = await openLab();
  const a = await start({ ...client, cancel }, { results, maxHeldBytes: 1_024 });
  const begun = await a.begin();
  say(status(WORKING), ...said);
  expect(await canceled.promise).toBe(NAMES.taskId);
  expect(stateOf(await a.load(begun))).toBe(FAILED);
});

it("leaves an agent alone that is done, when it is withheld", async () => {
  const [{ say, client }, { results }] = [scripted(), policy()];
  const start = await openLab();
  const released = Promise.withResolvers<void>();
  const cancel = () => expect.unreachable("the agent is done");
  const a = await start({ ...client, cancel, release: released.resolve }, { results });
  const begun = await a.begin();
  say(status(WORKING), chunk("secret", false), status(COMPLETED));
  expect(stateOf(await a.when(begun, rests))).toBe(FAILED);
  await released.promise;
});

it("ends its task when it is more than may be held", async () => {
  const [{ say, client }, { results }] = [scripted(), policy()];
  const start = await openLab();
  const a = await start(client, { results, maxHeldBytes: 1_024 });
  const begun = await a.begin();
  say(status(WORKING), chunk("x".repeat(500), false), chunk("x".repeat(500)));
  const image = await a.when(begun, rests);
  expect(textOf(image.task.status?.message)).toContain("limits.held-bytes");
  expect(stateOf(image)).toBe(FAILED);
});

it("is not held where no rule could match", async () => {
  const [{ say, client }, { results, asked }] = [scripted(), policy({ guards: () => false })];
  const start = await openLab();
  const a = await start(client, { results });
  const begun = await a.begin();
  say(status(WORKING), chunk("secret", false));
  await a.when(begun, ({ task }) => task.artifacts.length > 0);
  expect(asked).toEqual([]);
});
