/** Agents that keep calls open, or never name a task: what they hold up, and how much of the replica they take. */
import { expect, it, onTestFinished } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { stateOf } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createInbox } from "../fault/inbox.ts";
import { hang, isNamed, openLab, said, taskIn, workingAgent } from "./engine-lab.ts";

const { WORKING, INPUT_REQUIRED, CANCELED, COMPLETED } = TaskState;

/** A task whose agent has asked its client, and hangs on a message that came before that. */
async function askingAndHanging(outcome: TaskState = COMPLETED) {
  const asks = Promise.withResolvers<void>();
  const hanging = createInbox<void>();
  const over = new AbortController();
  let streams = 0;
  const client = workingAgent({
    async *sendStream() {
      if (++streams > 1) return yield said(taskIn("theirs", outcome));
      yield said(taskIn("theirs", WORKING));
      await asks.promise;
      yield said(taskIn("theirs", INPUT_REQUIRED));
    },
    get: async (id) => taskIn(id, streams > 1 ? outcome : INPUT_REQUIRED),
    send(_message, { signal }) {
      hanging.put();
      return hang(AbortSignal.any([signal, over.signal]));
    },
  });
  const replica = await (await openLab())(client);
  onTestFinished(() => over.abort());
  const task = await replica.when(await replica.begin(), isNamed);
  await replica.tell(task);
  await hanging.next();
  asks.resolve();
  return { replica, task: await replica.when(task, (image) => stateOf(image) === INPUT_REQUIRED) };
}

it("brings the answer to a question to an agent that still hangs on an earlier message", async () => {
  const { replica, task } = await askingAndHanging();
  await replica.tell(task);
  await replica.when(task, (image) => stateOf(image) === COMPLETED);
});

it("brings a cancel, right after an answer, to an agent that still hangs on an earlier message", async () => {
  const { replica, task } = await askingAndHanging(WORKING);
  // Whichever comes first: neither waits for the message that hangs.
  const told = replica.tell(task).catch((error: unknown) => error);
  await replica.cancel(task);
  await told;
  expect(stateOf(await replica.load(task))).toBe(CANCELED);
});

it("stops though an agent hangs on a message of a task that has come to rest", async () => {
  const { replica } = await askingAndHanging();
  await replica.dispatcher.stop(0);
});

it("refuses more messages than an agent takes, and stores none of those", async () => {
  let open = 0;
  const client = workingAgent({
    send(_message, { signal }) {
      open += 1;
      return hang(signal);
    },
  });
  const replica = await (await openLab())(client);
  const task = await replica.when(await replica.begin(), isNamed);
  const told = await Promise.allSettled(Array.from({ length: 64 }, () => replica.tell(task)));
  expect(told.filter(({ status }) => status === "rejected")).toEqual([]);
  const { seq } = await replica.load(task);
  await expect(replica.tell(task)).rejects.toMatchObject({
    code: "RESOURCE_EXHAUSTED",
    reason: "QUEUE_FULL",
    retryAfterMs: 1000,
  });
  expect((await replica.load(task)).seq).toBe(seq);
  expect(open).toBeLessThanOrEqual(64);
  await replica.cancel(task);
  expect(stateOf(await replica.load(task))).toBe(CANCELED);
});

it("keeps no whole place for a canceled task that its agent never named, and not all of them for nothing", async () => {
  const client = workingAgent({
    // biome-ignore lint/correctness/useYield: this agent never says a word.
    async *sendStream(_message, { signal }) {
      await hang(signal);
    },
  });
  const replica = await (await openLab())(client, { maxRunning: 4 });
  async function fill(count: number) {
    const tasks = await Promise.all(Array.from({ length: count }, () => replica.begin()));
    expect(tasks.map(({ state }) => state)).toEqual(Array(count).fill(EngineState.ASSIGNED));
    for (const task of tasks) await replica.cancel(task);
  }
  await fill(4);
  expect(replica.dispatcher.running).toBe(2);
  await fill(2);
  expect(replica.dispatcher.running).toBe(3);
  await fill(1);
  expect(replica.dispatcher.running).toBe(4);
  expect((await replica.begin()).state).toBe(EngineState.QUEUED);
});
