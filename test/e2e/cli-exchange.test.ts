/** `signalbox exchange` against a running server. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { act } from "../conformance/scripted-agent.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp({ agents: { actor: act } });
  return () => app.stop();
});

/** Runs a command in this process, with a terminal of its own. */
const signalbox = (...args: string[]) => runCommand(app.httpUrl, ["exchange", ...args]);

describe("exchange", () => {
  test("from discovery to the verdict, in one exchange", async () => {
    const discovered = await signalbox("discover", "what the actor does");
    expect(discovered.code).toBe(0);
    expect(discovered.out).toMatch(/^CAPABILITY +AGENT +NAME +COST\nactor +actor +actor\n$/);
    const id = /^Exchange (\S+)\n$/.exec(discovered.err)![1]!;
    const same = ["--correlation", id];

    const ranked = await signalbox("intent", "actor", ...same);
    expect(ranked).toMatchObject({ code: 0, err: "" });
    expect(ranked.out).toMatch(/^CAPABILITY +SCORE +AGENTS +NAME\nactor +\d+\.\d +actor +actor\n$/);

    const negotiated = await signalbox("negotiate", "actor", "--strategy", "lowest-cost", ...same);
    expect(negotiated.out).toMatch(/\n\* +actor +0 +- +registry +\S+Z +\S+\n\nLOWEST_COST: "actor" is the only one/);
    const { result } = JSON.parse((await signalbox("negotiate", "actor", "--json", ...same)).out);
    const quote = result.negotiate.bestQuoteId as string;

    const done = await signalbox("delegate", "complete", "--quote", quote, "--json", ...same);
    expect(done).toMatchObject({ code: 0, err: "" });
    const { task } = JSON.parse(done.out).result.delegate;
    expect(task.status.state).toBe("TASK_STATE_COMPLETED");
    expect((await signalbox("delegate", "complete", "--capability", "actor", ...same)).out).toContain("All done.");

    const explained = await signalbox("explain", task.id, ...same);
    expect(explained.out).toMatch(/^Agent +actor\n/);
    expect(explained.out).toMatch(/\nNUMBER +TIME +STATE +ATTEMPT/);

    const file = join(app.dataDir, "task.json");
    await writeFile(file, JSON.stringify({ task }));
    const verified = await signalbox("verify", task.id, "--file", file, ...same);
    expect(verified.out).toMatch(/^Matches +yes\nDigest +[0-9a-f]{64}\nAlgorithm +sha-256\/rfc8785\nAt +\d+, the end/);
    const wrong = await signalbox("verify", task.id, "--digest", "0".repeat(64), ...same);
    expect(wrong).toMatchObject({ code: 1, out: expect.stringMatching(/^Matches +no\n/) });

    const digestOnly = await signalbox("verify", task.id, "--json");
    expect(digestOnly.code).toBe(0);

    const list = await signalbox("list", id);
    expect(list.code).toBe(0);
    const rows = list.out.trimEnd().split("\n");
    expect(rows[0]).toMatch(/^TIME +EXCHANGE +# +KIND +FROM +TO +TASK/);
    expect(rows).toHaveLength(1 + 18);
    expect(rows[1]).toMatch(/Z +\S+ +1 +DISCOVER +anonymous +router/);
    const short = JSON.parse((await signalbox("list", "--limit", "3", "--json")).out);
    expect(short.messages).toHaveLength(3);
    expect(await signalbox("list", "--limit", "3")).toMatchObject({ err: "There are more: give a higher --limit.\n" });
  });

  test("what goes wrong is told on standard error, with exit code 1", async () => {
    const unknown = await signalbox("verify", "no-such-task", "--correlation", "c-1");
    expect(unknown).toMatchObject({ code: 1, out: "" });
    expect(unknown.err).toMatch(/^error: There is no task "no-such-task".*\n {2}TASK_NOT_FOUND\n$/);
    expect(await signalbox("verify", "no-such-task", "--json")).toMatchObject({ code: 1, err: "" });
    const refused = await signalbox("negotiate", "actor", "--strategy", "best");
    expect(refused).toMatchObject({ code: 1, out: "" });
    expect(refused.err).toContain("must be one of ROUND_ROBIN");
    expect((await signalbox("list", "no-such-exchange")).err).toContain("EXCHANGE_NOT_FOUND");
    expect(await signalbox("intent")).toMatchObject({ code: 2 });
    expect(await signalbox("intent", "x", "--timeout", "soon")).toMatchObject({ code: 2 });
    expect(await signalbox("list", "--limit", "0")).toMatchObject({ code: 2 });
    expect((await signalbox("verify", "t", "--file", "/nowhere")).err).toContain("/nowhere does not exist");
  });

  test("nothing fits", async () => {
    expect((await signalbox("discover", "--tag", "none")).out).toBe("No agent fits.\n");
    expect((await signalbox("intent", "xyzzy")).out).toBe("No capability fits.\n");
    const beyond = await signalbox("negotiate", "actor", "--max-latency", "1");
    expect(beyond.out).toContain("WEIGHTED_SCORE: 1 offer is beyond the limits of the request.");
  });
});
