/** What the server says of a task, by every way to ask it. */
import { expect } from "vitest";
import { type StreamResponse, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { EngineState } from "../../gen/signalbox/v1/task_pb.ts";
import { type EngineState as Engine, engineStateName } from "../../src/domain/task-state.ts";
import { isTerminal, type SignalboxClient } from "../../src/sdk/client.ts";
import { createInbox, type Inbox } from "../fault/inbox.ts";
import { lineOf, statusOf } from "../fault/said.ts";

/** A step of a task as operators see it. */
export interface Step {
  /** Empty where the row brought none. */
  state: string;
  attempt: number;
  token: number;
  by: string;
  cause: string;
}

/** The steps of a task, from TaskService. */
export async function journalOf({ tasks }: SignalboxClient, taskId: string): Promise<Step[]> {
  const { transitions } = await tasks.listTaskTransitions({ taskId, pageSize: 1000 });
  return transitions.map(({ state, attempt, fencingToken, replicaId, cause }) => ({
    state: nameOf(state),
    attempt,
    token: Number(fencingToken),
    by: replicaId,
    cause,
  }));
}

/** Its steps as `STATE ATTEMPT`, without those that only add something to a state. */
export async function pathOf(client: SignalboxClient, taskId: string): Promise<string[]> {
  const steps = (await journalOf(client, taskId)).filter(({ state }) => state !== "");
  return steps.map(({ state, attempt }) => `${state} ${attempt}`).filter((step, i, all) => step !== all[i - 1]);
}

/** Where it stands in the engine. */
export async function standOf({ tasks }: SignalboxClient, taskId: string): Promise<string> {
  return nameOf((await tasks.getTaskExecution({ taskId })).state);
}

const nameOf = (state: EngineState): string =>
  state === EngineState.UNSPECIFIED ? "" : engineStateName(state as number as Engine);

/** The status of a task that has ended, which every reader at every server must agree on, and its log have once. */
export async function outcomeOf(clients: readonly SignalboxClient[], taskId: string): Promise<string> {
  const outcomes: string[] = [];
  for (const client of clients) {
    outcomes.push(statusOf(await client.waitFor(taskId)));
    const { tasks } = await client.a2a.listTasks({ pageSize: 100 });
    outcomes.push(statusOf(tasks.find(({ id }) => id === taskId)!));
    const lines: string[] = [];
    for await (const item of client.watch(taskId, { after: 0 })) lines.push(lineOf(item));
    outcomes.push(lines.at(-1)!);
    const ends = (await journalOf(client, taskId)).filter(({ state }) => ENDS.includes(state));
    expect(ends.map(({ state }) => state)).toEqual([outcomes[0]!.split(":")[0]]);
  }
  expect(new Set(outcomes)).toEqual(new Set([outcomes[0]]));
  return outcomes[0]!;
}

const ENDS = ["COMPLETED", "FAILED", "CANCELED", "REJECTED"];

/** The lines of a stream, one by one, and then "end", or how it failed. */
export function linesOf(items: AsyncIterable<StreamResponse>): Inbox<string> {
  const lines = createInbox<string>();
  void (async () => {
    for await (const item of items) lines.put(lineOf(item));
    lines.put("end");
  })().catch((error: unknown) => lines.put(`failed: ${String(error)}`));
  return lines;
}

/** All lines that are left of a stream. */
export async function restOf(lines: Inbox<string>): Promise<string[]> {
  const rest: string[] = [];
  for (let line = await lines.next(); ; line = await lines.next()) {
    rest.push(line);
    if (line === "end" || line.startsWith("failed")) return rest;
  }
}

/** Resolves when a task has come to a status that begins so. Throws when it has ended otherwise. */
export async function reaches(client: SignalboxClient, taskId: string, status: string): Promise<string> {
  for await (const { payload } of client.watch(taskId)) {
    if (payload.case !== "task" && payload.case !== "statusUpdate") continue;
    const now = statusOf(payload.value);
    if (now.startsWith(status)) return now;
    if (isTerminal(payload.value.status?.state ?? TaskState.UNSPECIFIED))
      throw new Error(`${status} was awaited: ${now}`);
  }
  throw new Error(`${status} never came`);
}
