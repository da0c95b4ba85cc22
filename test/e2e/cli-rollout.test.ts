/** `signalbox rollout` and `signalbox alerts`, against a running server. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { act } from "../conformance/scripted-agent.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp({ agents: { tour: act, next: act } });
  return () => app.stop();
});

/** Runs a command in this process, with a terminal of its own. */
const signalbox = (...args: string[]) => runCommand(app.httpUrl, args);

function file(name: string, text: string): string {
  const path = join(app.dataDir, name);
  writeFileSync(path, text);
  return path;
}

test("rollout get shows the defaults, and list nothing, as long as nothing was set", async () => {
  const { code, out } = await signalbox("rollout", "get");
  expect(code).toBe(0);
  expect(out).toBe(
    [
      "Of                     the workspace",
      "Canary                 no",
      "Rolled back to local   no",
      "Route mode             auto",
      "Old event keys         no",
      "Alert above            error_rate 0.05, p95_ms 3000, retry_rate 0.2, circuit_open_rate 0.05\n",
    ].join("\n"),
  );
  expect((await signalbox("rollout", "list")).out).toMatch(/^No rollouts: nothing is steered\./);
});

test("rollout set changes what its flags name, and nothing else", async () => {
  const first = await signalbox("rollout", "set", "tour", "--canary", "10", "--canary-agent", "next");
  expect(first).toMatchObject({ code: 0, err: "" });
  expect(first.out).toMatch(/^Of +tour\nCanary +10 % to agent next\n/);
  const chain = ["--fallback", "a.next:full,no-candidate", "--fallback", "c.tour2"];
  const second = await signalbox("rollout", "set", "tour", "--rollback-to-local", "--route-mode", "remote", ...chain);
  expect(second).toMatchObject({
    code: 0,
    err: "Nobody offers the capability tour2: the rollout names it in vain so far.\n",
  });
  const lost = await signalbox("rollout", "set", "--fallback", "a.nowhere");
  expect(lost.err).toBe("No agent is registered as nowhere: the rollout names it in vain so far.\n");
  await signalbox("rollout", "delete");
  expect(second.out).toMatch(
    /\nCanary +10 % to agent next\nRolled back to local +yes\nRoute mode +remote\nFallback +a\.next:full,no-candidate, c\.tour2\n/,
  );
  const explained = await signalbox("route", "preview", "--capability", "tour", "Hello");
  expect(explained.out).toMatch(/\nSteered +local agents only, beside the canary\n/);
  const third = await signalbox("rollout", "set", "tour", "--no-canary", "--no-fallback", "--no-rollback-to-local");
  expect(third.out).toMatch(/\nCanary +no\nRolled back to local +no\nRoute mode +remote\nOld event keys +no\n/);
  expect((await signalbox("rollout", "set", "tour", "--dual-event-write")).out).toMatch(/\nOld event keys +a2a-0-3\n/);
  expect((await signalbox("rollout", "set", "tour", "--canary-version", "2", "--json")).out).toContain(
    '"canaryTarget": {\n    "version": "2"\n  }',
  );
  expect((await signalbox("rollout", "list")).out).toMatch(
    /^OF +CANARY +ROLLED BACK +ROUTE MODE +FALLBACK\ntour +no +no +remote\n$/,
  );
  expect((await signalbox("rollout", "delete", "tour")).out).toBe("Forgotten.\n");
  expect((await signalbox("rollout", "list")).out).toMatch(/^No rollouts/);
  expect(await signalbox("rollout", "delete", "tour")).toMatchObject({
    code: 1,
    err: expect.stringContaining("ROLLOUT_NOT_FOUND"),
  });
});

test("rollout set takes a file: what it names, guarded by its etag if it has one", async () => {
  const yaml = "hedging: { enabled: true, quantile: 0.9 }\nmirror: { agentId: next, percent: 5 }\n";
  const set = await signalbox("rollout", "set", "-f", file("rollout.yaml", yaml));
  expect(set.out).toMatch(/\nMirror +5 % to next\nHedging +after quantile 0\.9, not before 50 ms\n/);
  const read = await signalbox("rollout", "get", "--json");
  const path = file("read.json", read.out);
  const again = await signalbox("rollout", "set", "--file", path, "--route-mode", "local", "--json");
  expect(JSON.parse(again.out)).toMatchObject({ mirror: { percent: 5 }, routeModeDefault: "ROUTE_MODE_LOCAL" });
  const late = await signalbox("rollout", "set", "--file", path);
  expect(late).toMatchObject({ code: 1, out: "", err: expect.stringContaining("ETAG_MISMATCH") });
  await signalbox("rollout", "set", "--route-mode", "auto");
});

test("what the server refuses is told by field", async () => {
  const { code, err } = await signalbox("rollout", "set", "--canary", "101", "--canary-agent", "next");
  expect(code).toBe(1);
  expect(err).toContain("rollout.canaryPercent: must be from 0 to 100");
});

test.each([
  [["--canary", "much"], "--canary takes a whole number of percent"],
  [["--canary-agent", "a", "--canary-version", "b"], "--canary-agent or --canary-version, not both"],
  [["--fallback", "next"], "write it as a.AGENT or c.CAPABILITY"],
  [["--fallback", "a.next:soon"], "this is no rollout"],
  [["--route-mode", "away"], "this is no rollout"],
  [["-f", "gone.yaml"], "gone.yaml does not exist"],
  [[], "nothing to change"],
])("wrong use: %s", async (args, told) => {
  const { code, out, err } = await signalbox("rollout", "set", "tour", ...args);
  expect({ code, out }).toEqual({ code: 2, out: "" });
  expect(err).toContain(told);
});

test("wrong use: a file that holds no rollout", async () => {
  const wrong = file("wrong.yaml", "canary: 5\nhedging: {enabled: 1}\nrouteModeDefault: LOCAL\n");
  const { code, err } = await signalbox("rollout", "set", "-f", wrong);
  expect(code).toBe(2);
  expect(err).toContain("wrong.yaml holds no rollout:\n");
  expect(err).toMatch(/wrong\.yaml:1:1: Rollout has no canary\. There are capabilityId, /);
  expect(err).toContain("wrong.yaml:2:11: hedging.enabled: must be true or false.");
  expect(err).toMatch(/wrong\.yaml:3:1: routeModeDefault: must be ROUTE_MODE_AUTO, .* or ROUTE_MODE_\w+\./);
  expect(err).not.toMatch(/decode|protobuf|signalbox\.v1/);
});

test("alerts list shows what is measured, and what is above its threshold", async () => {
  await signalbox("send", "--agent", "tour", "complete");
  expect((await signalbox("alerts", "list", "--crossed")).out).toBe("No signal is above its threshold.\n");
  await signalbox("send", "--capability", "next", "fail");
  const { out } = await signalbox("alerts", "list");
  expect(out).toMatch(/^ +OF +SIGNAL +VALUE +THRESHOLD +SAMPLES\n! +\(workspace\) +error_rate +0\.5 +0\.05 +2\n/);
  expect(out).toMatch(/\n! +next +error_rate +1 +0\.05 +1\n/);
  const { alerts } = JSON.parse((await signalbox("alerts", "list", "--crossed", "--json")).out);
  expect(alerts.map(({ signal }: { signal: string }) => signal)).toEqual(["error_rate", "error_rate"]);
});
