/** `signalbox route`, and the flags by which `signalbox send` says how a task is routed, against a running server. */
import { beforeAll, describe, expect, test } from "vitest";
import { run } from "../../src/cli/run.ts";
import { act } from "../conformance/scripted-agent.ts";
import { inProcessCard, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp({ agents: { tour: act } });
  const skills = [{ id: "essays", name: "Essays", description: "Writes about anything.", tags: ["text"] }];
  await app.register("writer", { card: { ...inProcessCard("tour"), name: "Writer", skills } });
  return () => app.stop();
});

/** Runs a command in this process, with a terminal of its own. */
async function signalbox(...args: string[]) {
  const text = { out: "", err: "" };
  const take = (stream: "out" | "err") => (more: string) => {
    text[stream] += more;
  };
  const stop = new AbortController().signal;
  const io = { out: take("out"), err: take("err"), stop, env: { SIGNALBOX_SERVER: app.httpUrl }, cwd: app.dataDir };
  return { code: await run(args, io), ...text };
}

describe("route", () => {
  test("preview says who would take a message, and explain why one was given to its agent", async () => {
    const preview = await signalbox("route", "preview", "Write about lanterns");
    expect(preview).toMatchObject({ code: 0, err: "" });
    expect(preview.out).toMatch(/^Agent +writer\nCapability +\S+\nNamed by +the text of the message\n/);
    const { out } = await signalbox("send", "--json", "--agent", "writer", "complete");
    const explained = await signalbox("route", "explain", JSON.parse(out).task.id);
    expect(explained.out).toMatch(/Named by +the tenant of the request\nStrategy +none: one agent was in question\n/);
    expect(explained.out).toMatch(/ +CANDIDATE +SCORE +IN FLIGHT +LATENCY MS +ERRORS +COST\n\* +writer +0 +/);
    const decision = JSON.parse((await signalbox("route", "preview", "--json", "--agent", "tour", "Hello")).out);
    expect(decision).toMatchObject({ source: "ROUTE_SOURCE_TENANT", agentId: "tour", candidateCount: 1 });
  });

  test("flags say how a task is carried, and what they hold is checked", async () => {
    const sent = await signalbox("send", "--agent", "writer", "--priority", "high", "--deadline", "60", "complete");
    expect(sent).toMatchObject({ code: 0, err: "" });
    const refused = await signalbox("send", "--priority", "soon", "Hello");
    expect(refused).toMatchObject({ code: 1, out: "" });
    expect(refused.err).toContain("must be one of BACKGROUND, LOW, NORMAL, HIGH, CRITICAL");
    expect(await signalbox("send", "--agent", "writer", "--capability", "x", "Hello")).toMatchObject({ code: 2 });
    expect((await signalbox("send", "--label", "region", "Hello")).err).toContain("write it as key=value");
    expect((await signalbox("send", "--deadline", "soon", "Hello")).err).toContain("--deadline takes seconds");
    const nothing = await signalbox("route", "preview", "--max-cost", "0", "--label", "region=mars", "xyzzy");
    expect(nothing.err).toContain("None of the 2 agents in question can take the task");
  });
});
