/** Streams that are left and gone on with, in every binding, on both databases: nothing is missed, nothing comes twice. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { A2AService, type Task, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { BINDINGS } from "../conformance/bindings/all-bindings.ts";
import type { Binding, Client } from "../conformance/bindings/binding.ts";
import { createPuppet, type Turn } from "../fault/puppet.ts";
import { asTask } from "../fault/said.ts";
import { BACKENDS } from "../store/backends.ts";
import { EXTENSION, follow, type NumberedItem, numbered, taskOf } from "./numbered-items.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const { WORKING, INPUT_REQUIRED, AUTH_REQUIRED, COMPLETED } = TaskState;

describe.each(BACKENDS)("on %s", (backend) => {
  const puppet = createPuppet();
  const bindings = new Map<Binding, Client>();
  let app: TestApp;
  let sdk: SignalboxClient;

  beforeAll(async () => {
    app = await startTestApp({ backend, agents: { puppet: puppet.handler } });
    sdk = createSignalboxClient({ baseUrl: app.httpUrl });
    for (const binding of BINDINGS) bindings.set(binding, binding.connect(app));
  });
  afterAll(async () => {
    for (const client of bindings.values()) client.close();
    await app?.stop();
  });

  async function* subscribe(binding: Binding, id: string, after: number, signal: AbortSignal) {
    const headers = { "A2A-Extensions": EXTENSION, "signalbox-after-sequence": String(after) };
    const call = { method: A2AService.method.subscribeToTask, request: { id }, headers, signal };
    for await (const item of bindings.get(binding)!.call(call)) yield numbered(item);
  }

  async function begun(): Promise<{ id: string; turn: Turn }> {
    const [answer, turn] = await Promise.all([sdk.send("begin", { agent: "puppet", wait: false }), puppet.turn()]);
    return { id: asTask(answer).id, turn };
  }

  /** A task of two turns, with rows of every kind in its log. */
  async function conversation(): Promise<Task> {
    const { id, turn } = await begun();
    turn.task();
    turn.chunk("a");
    turn.chunk("b");
    turn.status(AUTH_REQUIRED, "who?");
    turn.status(WORKING);
    turn.status(INPUT_REQUIRED, "where?");
    turn.end();
    for await (const { payload } of sdk.watch(id)) {
      if (payload.value && "status" in payload.value && payload.value.status?.state === INPUT_REQUIRED) break;
    }
    const [, next] = await Promise.all([sdk.send("there", { taskId: id, wait: false }), puppet.turn()]);
    next.status(WORKING, "going");
    // The first chunk of a turn replaces what the artifact was.
    next.chunk("c");
    next.chunk("d");
    next.status(COMPLETED, "done");
    next.end();
    return sdk.waitFor(id);
  }

  describe("a task that has ended", () => {
    let task: Task;
    let whole: NumberedItem[];

    beforeAll(async () => {
      task = await conversation();
      whole = await allOf(subscribe(BINDINGS[0]!, task.id, 0, AbortSignal.timeout(20_000)));
      expect(whole.length).toBeGreaterThan(10);
    });

    test.each(BINDINGS)("is told from every number of its log on over $name", async (binding) => {
      const last = whole.at(-1)!.sequence;
      for (let after = 0; after <= last; after++) {
        const [first, ...rest] = await allOf(subscribe(binding, task.id, after, AbortSignal.timeout(20_000)));
        expect(first?.sequence).toBe(after);
        expect(rest).toEqual(whole.slice(1).filter(({ sequence }) => sequence > after));
        const seen = taskOf(first!);
        for (const update of rest) follow(seen, update);
        expect({ artifacts: seen.artifacts, status: seen.status }).toEqual({
          artifacts: task.artifacts,
          status: task.status,
        });
      }
      const beyond = subscribe(binding, task.id, last + 1, AbortSignal.timeout(20_000)).next();
      await expect(beyond).rejects.toThrow(`the log of this task ends at ${last}`);
    });
  });

  /** What happens next: the agent says so much, before or after the client connects again; the client reads so much. */
  const step = fc.record({
    before: fc.nat({ max: 3 }),
    after: fc.nat({ max: 3 }),
    reads: fc.nat({ max: 5 }),
  });

  test.each(BINDINGS)("each update comes once, wherever the client leaves, over $name", async (binding) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 6 }), async (steps) => {
        const signal = AbortSignal.timeout(25_000);
        const { id, turn } = await begun();
        turn.task();
        let said = 0;
        const say = (count: number) => {
          for (let i = 0; i < count; i++) turn.chunk(`${said++};`);
        };
        const updates: NumberedItem[] = [];
        let mine: Task | undefined;
        /** Connects, reads so many updates, and leaves. */
        const read = async (count: number, then = () => {}) => {
          const after = updates.at(-1)?.sequence ?? 0;
          const stream = subscribe(binding, id, after, signal);
          const shown = taskOf((await stream.next()).value!);
          // What the server shows is what this client has made of all that it has read.
          if (mine && updates.length > 0) expect(stateIn(shown)).toEqual(stateIn(mine));
          mine = shown;
          then();
          while (updates.length < count) {
            const { done, value } = await stream.next();
            if (done) break;
            updates.push(value);
            follow(mine, value);
          }
          await stream.return();
        };
        for (const { before, after, reads } of steps) {
          say(before);
          // Besides the chunks there is one update, to WORKING.
          await read(Math.min(updates.length + reads, said + after + 1), () => say(after));
        }
        turn.status(COMPLETED);
        turn.end();
        await read(Number.POSITIVE_INFINITY);

        const sequences = updates.map(({ sequence }) => sequence);
        expect(sequences).toEqual([...new Set(sequences)].sort((a, b) => a - b));
        const texts = updates.flatMap(({ response: { payload } }) =>
          payload.case === "artifactUpdate" ? payload.value.artifact!.parts.map(({ content }) => content.value) : [],
        );
        expect(texts).toEqual(Array.from({ length: said }, (_, i) => `${i};`));
        expect(updates).toHaveLength(said + 2);
      }),
      { numRuns: 12 },
    );
  });
});

async function allOf<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const stateIn = ({ artifacts, status }: Task): unknown => ({ artifacts, status });
