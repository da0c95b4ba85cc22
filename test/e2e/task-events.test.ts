/** The stream of all tasks on two servers on one PostgreSQL: every transition once, in order, wherever it is watched. */
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { beforeAll, describe, expect, test } from "vitest";
import { EngineState, type TaskEvent, TaskService } from "../../gen/signalbox/v1/task_pb.ts";
import type { SignalboxClient } from "../../src/sdk/client.ts";
import { failureOf } from "../fault/said.ts";
import { startTwoReplicas, type TwoReplicas } from "./two-replicas.ts";

let lab: TwoReplicas;
beforeAll(async () => {
  lab = await startTwoReplicas();
  return () => lab.close();
});

/** One reader, which takes so many events and leaves. */
async function take(
  client: SignalboxClient["tasks"],
  request: object,
  isLast: (seen: readonly TaskEvent[]) => boolean,
) {
  const leaving = new AbortController();
  const events: TaskEvent[] = [];
  let cursor = "";
  try {
    for await (const item of client.watchTasks(request, { signal: leaving.signal })) {
      cursor = item.cursor;
      if (item.event && events.push(item.event) && isLast(events)) break;
    }
  } finally {
    leaving.abort();
  }
  return { events, cursor };
}

const ended = (events: readonly TaskEvent[]) =>
  events.filter(({ state }) => state === EngineState.COMPLETED || state === EngineState.CANCELED).length;

/** The cursor of a watcher that begins now. */
async function now(client: SignalboxClient["tasks"]): Promise<string> {
  const leaving = new AbortController();
  for await (const { cursor } of client.watchTasks({}, { signal: leaving.signal })) {
    leaving.abort();
    return cursor;
  }
  throw new Error("the stream ended before its first item");
}

/** `3 COMPLETED` for each event of a task, in the order in which they came. */
const stepsOf = (events: readonly TaskEvent[], taskId: string) =>
  events.filter((event) => event.taskId === taskId).map(({ sequence, state }) => `${sequence} ${state}`);

describe("two servers", () => {
  test("each sees every transition of the tasks of both, once and in order, and goes on from a cursor anywhere", async () => {
    const [a, b] = [lab.a.client.tasks, lab.b.client.tasks];
    const begin = await now(a);
    const overGrpc = createClient(TaskService, createGrpcTransport({ baseUrl: `http://${lab.b.grpcAddress}` }));
    const COUNT = 24;
    const enough = (events: readonly TaskEvent[]) => ended(events) === COUNT;
    const live = [take(a, { cursor: begin }, enough), take(overGrpc, { cursor: begin }, enough)];
    const ids = await Promise.all(
      Array.from({ length: COUNT }, async (_, i) => {
        const [client, other] = i % 2 === 0 ? [a, b] : [b, a];
        const { taskId } = await client.submitTask({ agentId: "puppet", content: { case: "text", value: `${i}` } });
        // Half of them change hands: the other server cancels them.
        if (i % 4 < 2) await other.cancelTask({ taskId });
        return { taskId, canceled: i % 4 < 2 };
      }),
    );
    void (async () => {
      for (let i = 0; i < COUNT; i++) {
        const turn = await lab.puppet.turn();
        turn.name();
        turn.chunk("one");
        turn.status("COMPLETED");
      }
    })();
    const [atA, atB] = await Promise.all(live);
    for (const { taskId } of ids) {
      const transitions = [];
      for (let pageToken = ""; ; ) {
        const page = await a.listTaskTransitions({ taskId, pageToken });
        transitions.push(...page.transitions);
        pageToken = page.nextPageToken;
        if (pageToken === "") break;
      }
      const written = transitions.filter(({ state }) => state !== EngineState.UNSPECIFIED);
      const states = (events: readonly TaskEvent[]) => events.filter(({ state }) => state !== EngineState.UNSPECIFIED);
      const expected = written.map(({ sequence, state }) => `${sequence} ${state}`);
      expect(stepsOf(states(atA!.events), taskId), taskId).toEqual(expected);
      expect(stepsOf(states(atB!.events), taskId), taskId).toEqual(expected);
    }
    // Both have the same order, and who goes on in the middle at the other server gets the rest of it.
    const lineOf = (event: TaskEvent) => `${event.taskId} ${event.sequence}`;
    expect(atB!.events.map(lineOf)).toEqual(atA!.events.map(lineOf));
    const half = await take(a, { cursor: begin }, (events) => events.length === 20);
    const rest = await take(b, { cursor: half.cursor }, (events) => events.length === atA!.events.length - 20);
    expect([...half.events, ...rest.events].map(lineOf)).toEqual(atA!.events.map(lineOf));
  });

  test("a task that was removed at one is gone at the other, and the stream goes on", async () => {
    const [a, b] = [lab.a.client.tasks, lab.b.client.tasks];
    const begin = await now(b);
    const { taskId } = await a.submitTask({ agentId: "puppet", content: { case: "text", value: "x" } });
    await b.cancelTask({ taskId });
    await a.deleteTask({ taskId });
    expect(await failureOf(b.getTask({ taskId }))).toMatchObject({ code: "NotFound", reason: "TASK_NOT_FOUND" });
    const next = await a.submitTask({ agentId: "puppet", content: { case: "text", value: "y" } });
    const { events } = await take(b, { cursor: begin }, (seen) => seen.length > 0);
    expect(events.map((event) => event.taskId)).toEqual([next.taskId]);
    await a.cancelTask({ taskId: next.taskId });
  });
});
