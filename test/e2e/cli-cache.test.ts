/** `signalbox cache`, and the flags by which `signalbox send` is sent once or kept out of it, against a running server. */
import { beforeAll, describe, expect, test } from "vitest";
import { createSignalboxClient } from "../../src/sdk/client.ts";
import { act } from "../conformance/scripted-agent.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp({ agents: { worker: act } });
  const { registry } = createSignalboxClient({ baseUrl: app.httpUrl });
  const capability = { capabilityId: "work", cacheTtlMs: 90_500n };
  await registry.addCapability({ agentId: "worker", capability });
  return () => app.stop();
});

/** Runs a command in this process, with a terminal of its own. */
const signalbox = (...args: string[]) => runCommand(app.httpUrl, args);

const idOf = ({ out }: { out: string }): string => JSON.parse(out).task.id;

describe("cache", () => {
  test("stats count what is kept and asked for, clear forgets it", async () => {
    expect((await signalbox("cache", "stats")).out).toMatch(/^No results\. /);
    const send = ["send", "--json", "--capability", "work", "complete"];
    await signalbox(...send);
    expect(JSON.parse((await signalbox(...send)).out).task.metadata).toBeDefined();
    expect(JSON.parse((await signalbox(...send, "--no-store")).out).task.metadata).toBeUndefined();
    expect(await signalbox("cache", "stats")).toEqual({
      code: 0,
      out: "CAPABILITY   ENTRIES   HITS   FOLLOWED   MISSES\nwork         1         1      0          1\n",
      err: "",
    });
    expect(JSON.parse((await signalbox("cache", "stats", "work", "--json")).out)).toMatchObject({ entries: "1" });
    expect((await signalbox("cache", "clear", "other")).out).toBe("0 results are forgotten.\n");
    expect((await signalbox("cache", "clear")).out).toBe("1 result is forgotten.\n");
    expect(JSON.parse((await signalbox("cache", "clear", "--json")).out)).toEqual({});
    expect(await signalbox("cache", "clear", "No label")).toMatchObject({ code: 1 });
  });

  test("lookups are counted", async () => {
    const metrics = await (await fetch(`${app.httpUrl}/metrics`)).text();
    expect(metrics).toContain('signalbox_cache_lookups_total{outcome="hit"} 1');
  });
});

test("send --idempotency-key sends once", async () => {
  const send = ["send", "--json", "--agent", "worker", "--idempotency-key", "key-1"];
  const first = idOf(await signalbox(...send, "complete"));
  expect(idOf(await signalbox(...send, "complete"))).toBe(first);
  const other = await signalbox(...send, "echo");
  expect(other).toMatchObject({ code: 1, out: "" });
  expect(JSON.parse(other.err).error).toMatchObject({ code: "ALREADY_EXISTS", reason: "IDEMPOTENCY_CONFLICT" });
});

test("what was answered from the cache says whose result it is", async () => {
  const send = ["send", "--capability", "work"];
  const first = idOf(await signalbox(...send, "--json", "complete"));
  const again = await signalbox(...send, "complete");
  expect(again.out).toMatch(new RegExp(`\\nResult of +${first}\\n`));
  const id = /^Task +(\S+)/.exec(again.out)![1]!;
  expect((await signalbox("task", "get", id)).out).toMatch(new RegExp(`\\nResult of +${first}\\n`));
  expect((await signalbox("task", "log", id)).out).toContain(`the result of task ${first}\n`);
});
