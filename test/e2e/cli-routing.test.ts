/** `signalbox route`, and the flags by which `signalbox send` says how a task is routed, against a running server. */
import { beforeAll, describe, expect, test } from "vitest";
import { act } from "../conformance/scripted-agent.ts";
import { inProcessCard, runCommand, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;

beforeAll(async () => {
  app = await startTestApp({ agents: { tour: act } });
  const skills = [{ id: "essays", name: "Essays", description: "Writes about anything.", tags: ["text"] }];
  await app.register("writer", { card: { ...inProcessCard("tour"), name: "Writer", skills } });
  return () => app.stop();
});

/** Runs a command in this process, with a terminal of its own. */
const signalbox = (...args: string[]) => runCommand(app.httpUrl, args);

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
    expect(nothing).toMatchObject({ code: 1, err: "No agent could take it.\n" });
    expect(nothing.out).toMatch(/^Agent +none could take it\n[\s\S]*CUT BY +AGENTS +NAMES\nLABELS +2 +\S+, \S+\n/);
  });
});

describe("route settings", () => {
  test("are shown, and changed as far as they are named", async () => {
    const first = await signalbox("route", "settings");
    expect(first).toMatchObject({ code: 0, err: "" });
    expect(first.out).toBe(
      [
        "Strategy            the server's (routing.strategy)",
        "Weights             load=1,latency=1,cost=1,errors=4,reputation=1",
        "When nothing fits   refuse",
        "Revision            0",
        "",
      ].join("\n"),
    );
    const set = await signalbox(
      "route",
      "settings",
      "set",
      "--strategy",
      "weighted-score",
      "--weights",
      "load=1, cost=2.5",
    );
    expect(set.out).toMatch(
      /^Strategy +WEIGHTED_SCORE\nWeights +load=1,latency=0,cost=2.5,errors=0,reputation=0\nWhen nothing fits +refuse\nRevision +1\nUpdated +20/,
    );
    const rejects = await signalbox("route", "settings", "set", "--when-nothing-fits", "reject", "--json");
    expect(JSON.parse(rejects.out)).toMatchObject({
      strategy: "WEIGHTED_SCORE",
      weights: { cost: 2.5 },
      whenNothingFits: "WHEN_NOTHING_FITS_REJECT",
      revision: 2,
    });
    const rejected = await signalbox("send", "--label", "region=mars", "--json", "xyzzy");
    const { task } = JSON.parse(rejected.out);
    expect(task.status.state).toBe("TASK_STATE_REJECTED");
    const explained = await signalbox("route", "explain", task.id);
    expect(explained).toMatchObject({ code: 0, err: "" });
    expect(explained.out).toMatch(/^Agent +none could take it\nNamed by +the routing extension of the request\nTask +/);
    expect(explained.out).toMatch(/CUT BY +AGENTS +NAMES\nLABELS +2 +tour, writer\n/);
    const log = await signalbox("task", "log", task.id);
    expect(log).toMatchObject({ code: 0, err: "" });
    expect(log.out).toContain("REJECTED");
    const back = await signalbox(
      "route",
      "settings",
      "set",
      "--strategy",
      "",
      "--weights",
      "",
      "--when-nothing-fits",
      "refuse",
    );
    expect(back.out).toMatch(/^Strategy +the server's .*\nWeights +load=1,latency=1,cost=1,errors=4,reputation=1\n/);
  });

  test("that cannot be are refused, here or by the server", async () => {
    const settings = (...args: string[]) => signalbox("route", "settings", "set", ...args);
    expect(await settings()).toMatchObject({ code: 2 });
    expect((await settings("--weights", "luck=1")).err).toContain("--weights luck=1: write it as load=1,cost=2");
    expect((await settings("--weights", "load")).err).toContain("write it as load=1,cost=2");
    expect((await settings("--when-nothing-fits", "cry")).err).toContain("takes refuse or reject");
    const negative = await settings("--weights", "load=-1");
    expect(negative).toMatchObject({ code: 1, out: "" });
    expect(negative.err).toContain("routingSettings.weights.load: must be a number from 0 to 1000");
  });
});

describe("route replay", () => {
  test("says what would have come of the last decisions", async () => {
    for (const [agent, costPerTask] of [
      ["tour", "0.25"],
      ["writer", "0.1"],
    ]) {
      const capability = { capabilityId: "haiku", costPerTask };
      const request = {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(capability),
      };
      const { status } = await fetch(`${app.httpUrl}/v1/agents/${agent}/capabilities`, request);
      expect(status).toBe(200);
    }
    for (let i = 0; i < 4; i++)
      await signalbox("send", "--capability", "haiku", "--strategy", "round-robin", "complete");
    const { code, out, err } = await signalbox("route", "replay", "--strategy", "lowest-cost", "--capability", "haiku");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^Decisions +4 from 20\S+ to 20\S+\nWith a choice +4\nWould change +2\n/);
    expect(out).toMatch(/EXPECTED +BEFORE +AFTER\ncost +0.7 +0.4\n/);
    expect(out).toMatch(/Really happened +to 2 that would not change and have ended\nCost +0.2\n/);
    expect(out).toMatch(/Completed +100.0%\n\nAGENT +BEFORE +AFTER\nwriter +2 +4\ntour +2 +0\n/);
    expect(out).toMatch(/TASK +DECIDED +FROM +TO\n\S+ +20\S+ +tour +writer\n\S+ +20\S+ +tour +writer\n$/);
    const json = await signalbox("route", "replay", "--weights", "cost=1", "--capability", "haiku", "--json");
    expect(JSON.parse(json.out)).toMatchObject({ decisionCount: 4, openCount: 4 });
    const none = await signalbox("route", "replay", "--strategy", "affinity", "--capability", "nothing");
    expect(none.out).toMatch(/^Decisions +0 from/);
  });

  test("needs a draft, and a time that is one", async () => {
    expect((await signalbox("route", "replay")).err).toContain("give a strategy, weights or both");
    expect(await signalbox("route", "replay", "--since", "soon", "--strategy", "affinity")).toMatchObject({ code: 2 });
  });
});
