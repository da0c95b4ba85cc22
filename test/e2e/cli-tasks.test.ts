/** `signalbox task submit`, `wait`, `delete`, `cleanup` and `events` against a running server. */
import { beforeAll, expect, test } from "vitest";
import { act } from "../conformance/scripted-agent.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ agents: { actor: act } });
  return () => app.stop();
});

/** Runs a command in this process; `until` stops it when its output holds that. */
function signalbox(args: string[], until?: RegExp) {
  const stop = new AbortController();
  return runCommand(app.httpUrl, args, {
    stop: stop.signal,
    onText: ({ out }) => void (until?.test(out) && stop.abort()),
  });
}

test("submit gives JSON, wait waits, and both say how it ended", async () => {
  const given = await signalbox(["task", "submit", "actor", '{"n": 1}', "--priority", "high", "--json"]);
  expect(given.code).toBe(0);
  const { taskId, priority, input } = JSON.parse(given.out);
  expect({ priority, input }).toEqual({ priority: "TASK_PRIORITY_HIGH", input: { n: 1 } });
  // The script has no word for data: the agent fails.
  expect(await signalbox(["task", "wait", taskId])).toMatchObject({
    code: 1,
    out: expect.stringMatching(/^Task +\S+\nContext +\S+\nAgent +actor\nCapability +actor\nState +FAILED\n/),
  });
  const waited = await signalbox(["task", "submit", "actor", "7", "--wait", "--timeout", "1m", "--json"]);
  expect(waited.code).toBe(1);
  expect(JSON.parse(waited.out)).toMatchObject({ input: 7, state: "ENGINE_STATE_FAILED" });
});

test("a wait whose time is up says so, and the task goes on", async () => {
  const { out } = await signalbox(["send", "--no-wait", "--json", "work"]);
  const { id } = JSON.parse(out).task;
  expect(await signalbox(["task", "wait", id, "--timeout", "50ms"])).toMatchObject({
    code: 1,
    err: "The time is up; the task goes on.\n",
  });
  const early = await signalbox(["task", "delete", id]);
  expect(early).toMatchObject({ code: 1, err: expect.stringContaining("TASK_NOT_ENDED") });
  await signalbox(["task", "cancel", id]);
  expect(await signalbox(["task", "delete", id])).toEqual({ code: 0, err: "", out: `Task ${id} is removed.\n` });
  expect((await signalbox(["task", "get", id])).code).toBe(1);
});

test("events are followed, and gone on with", async () => {
  const begin = await signalbox(["task", "events", "--json"], /cursor/);
  const { cursor } = JSON.parse(begin.out);
  const { out } = await signalbox(["send", "--json", "complete"]);
  const { id } = JSON.parse(out).task;
  const text = await signalbox(["task", "events", "--after", cursor, "--agent", "actor"], /COMPLETED/);
  const lines = text.out.trimEnd().split("\n");
  expect(lines.at(-1)).toMatch(new RegExp(`^\\S+Z   ${id}   actor   COMPLETED   reported by the agent$`));
  expect(text.out).toContain(`   ${id}   actor   artifact result\n`);
  expect(text.err).toMatch(/^Go on with: signalbox task events --after \S+\n/);
  const refused = await signalbox(["task", "events", "--after", "zzz"]);
  expect(refused).toMatchObject({ code: 1, out: "", err: expect.stringMatching(/^error: /) });
  const json = await signalbox(["task", "events", "--after", cursor, "--state", "completed", "--json"], /COMPLETED/);
  expect(JSON.parse(json.out.trimEnd().split("\n").at(-1)!)).toMatchObject({ event: { taskId: id } });
});

test("cleanup removes what ended long ago", async () => {
  await signalbox(["send", "complete"]);
  expect((await signalbox(["task", "cleanup", "--older-than", "1h"])).out).toBe("0 tasks are removed.\n");
  const { out } = await signalbox(["task", "cleanup", "--older-than", "0s", "--json"]);
  expect(Number(JSON.parse(out).deletedCount)).toBeGreaterThan(0);
  expect((await signalbox(["task", "cleanup", "--older-than", "0s", "--json"])).out).toContain('"deletedCount": "0"');
});

test.each([
  [["task", "submit", "actor", "no json"], "the task is no JSON"],
  [["task", "submit", "actor", "1", "--timeout", "1s"], "--timeout needs --wait"],
  [["task", "submit", "actor", "1", "--priority", "soon"], "BACKGROUND, LOW"],
  [["task", "cleanup", "--older-than", "1"], "a number with its unit"],
  [["task", "events", "--state", "asleep"], "It is one of QUEUED"],
])("%j is wrong use", async (args, message) => {
  expect(await signalbox(args)).toMatchObject({ code: 2, out: "", err: expect.stringContaining(message) });
});
