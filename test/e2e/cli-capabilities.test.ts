/** `signalbox capabilities` and `signalbox agents search`, against a running server. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inProcessCard, runCommand, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "signalbox-cli-"));
  app = await startTestApp({ agents: { cook: async function* () {} } });
  const skills = [{ id: "plan", name: "Plan journeys", description: "Finds a way to Lisbon.", tags: ["travel"] }];
  await app.register("tour", { card: { ...inProcessCard("cook"), name: "Tour", skills } });
});

afterAll(async () => {
  await app.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs a command in this process, with a terminal of its own. */
const signalbox = (...args: string[]) => runCommand(app.httpUrl, args);

/** Puts a file into the folder of this run and returns its path. */
function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const YAML = `
capabilityId: plan
costPerTask: "0.25"
averageLatencyMs: 1200
maxConcurrency: 4
serviceLevel: { availability: 0.57 }
access: ACCESS_READ
labels: { region: eu, stars: "4" }
inputSchema:
  type: object
  properties: { city: { type: string } }
`;

describe("capabilities", () => {
  test("list: a table for people, JSON for programs", async () => {
    const { code, out } = await signalbox("capabilities", "list");
    expect(code).toBe(0);
    expect(out).toMatch(
      /^CAPABILITY +AGENT +NAME +ACCESS +COST +TAGS +LABELS\ncook +cook +cook +- +test\nplan +tour +Plan journeys +- +travel\n$/,
    );
    const { capabilities } = JSON.parse((await signalbox("capabilities", "list", "--agent", "tour", "--json")).out);
    expect(capabilities).toMatchObject([{ capabilityId: "plan", agentId: "tour", access: "ACCESS_WRITE" }]);
    expect((await signalbox("capabilities", "list", "--agent", "nobody")).out).toMatch(/^No capabilities\. /);
  });

  test("add takes YAML and JSON; remove takes it back", async () => {
    const { code, out } = await signalbox("capabilities", "add", "tour", "-f", file("plan.yaml", YAML));
    expect(code).toBe(0);
    expect(out).toMatch(
      /^Capability +plan\nAgent +tour\nSkill +plan\nName +Plan journeys\nAbout +Finds a way to Lisbon\.\n/,
    );
    expect(out).toMatch(
      /\nCost +0\.25\nLatency +1200 ms\nAt once +4\nPromised +5000 ms, 57 % available\nAccess +READ\n/,
    );
    expect(out).toMatch(/\nSafe to repeat +no\nLabels +region=eu,stars=4\nSchemas +input\n$/);
    expect((await signalbox("capabilities", "list", "--agent", "tour")).out).toMatch(
      /\nplan +tour +Plan journeys +READ +0\.25 +travel +region=eu,stars=4\n$/,
    );
    const json = file("sing.json", JSON.stringify({ capabilityId: "sing", description: "Sings." }));
    const added = JSON.parse((await signalbox("capabilities", "add", "tour", "--file", json, "--json")).out);
    expect(added).toMatchObject({ capabilityId: "sing", agentId: "tour", name: "sing", description: "Sings." });
    expect(added.serviceLevelDeclared).toBeUndefined();
    expect((await signalbox("capabilities", "add", "tour", "--file", json)).out).toMatch(
      /\nPromised +nothing; by default it is held to 5000 ms, 99 % available\n/,
    );

    expect(await signalbox("capabilities", "remove", "tour", "sing")).toEqual({
      code: 0,
      out: "What was added to capability sing of agent tour is removed.\n",
      err: "",
    });
    expect((await signalbox("capabilities", "remove", "tour", "plan", "--json")).out).toBe("{}\n");
    expect((await signalbox("capabilities", "list", "--agent", "tour")).out).not.toMatch(/READ|sing/);
    expect(await signalbox("capabilities", "remove", "tour", "sing")).toMatchObject({
      code: 1,
      out: "",
      err: expect.stringContaining("CAPABILITY_NOT_FOUND"),
    });
  });

  test("what may not be said is told by line and field, before anything is sent", async () => {
    const wrong = file("wrong.yaml", "{ capabilityId: plan, costPerTask: much, inputSchema: { type: strin } }");
    const { code, err } = await signalbox("capabilities", "add", "tour", "-f", wrong);
    expect(code).toBe(2);
    expect(err).toMatch(/wrong\.yaml:1:57: inputSchema\.type: must be one of /);
    expect(err).toMatch(/wrong\.yaml:1:23: costPerTask: must be a decimal number/);
  });

  test("what the server refuses is told", async () => {
    const { code, err } = await signalbox("capabilities", "add", "nobody", "-f", file("plan.yaml", YAML));
    expect(code).toBe(1);
    expect(err).toContain("AGENT_NOT_FOUND");
  });

  test("the help names the fields of the file", async () => {
    const { out } = await signalbox("capabilities", "add", "--help");
    expect(out).toMatch(/\n {2}access +ACCESS_READ or ACCESS_WRITE\n/);
    expect(out).not.toMatch(/skillId|standing/);
  });

  test.each([
    ["gone.yaml does not exist", undefined],
    ["bad.yaml:1:1: must be one map of the fields of a Capability; --help names them.", "- 1"],
    ["bad.yaml: must be one map of the fields", ""],
    ["bad.yaml:4:1: must be one map of the fields", "---\ncapabilityId: one\n---\ncapabilityId: two"],
    ["bad.yaml:1:1: Capability has no capabilityID. Did you mean capabilityId?", "capabilityID: plan"],
    ['bad.yaml:2:1: costPerTask: must be text. Put it in quotes: "0.5".', "capabilityId: plan\ncostPerTask: 0.5"],
    ["bad.yaml:1:2: access: must be ACCESS_READ or ACCESS_WRITE.", "{access: WRITES}"],
    ["holds no capability", "a: [1"],
  ])("wrong use: a file that %s", async (told, text) => {
    const path = text === undefined ? join(folder, "gone.yaml") : file("bad.yaml", text);
    const { code, out, err } = await signalbox("capabilities", "add", "tour", "-f", path);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toContain(told);
    expect(err.split("\n").filter((line) => line.startsWith("error: "))).toHaveLength(1);
  });
});

describe("agents search", () => {
  test("finds by words, tags, labels and capability", async () => {
    await signalbox("capabilities", "add", "tour", "-f", file("plan.yaml", YAML));
    const { code, out } = await signalbox("agents", "search", "a way", "to Lisbon");
    expect(code).toBe(0);
    expect(out).toMatch(/^ID +NAME +CAPABILITIES +SCORE +TRUST\ntour +Tour +plan +\d+\.\d +0\.50\n$/);
    expect((await signalbox("agents", "search", "--tag", "test")).out).toMatch(/\ncook +cook +cook +0\.50\n$/);
    const labels = ["--label", "region=eu", "--label", "stars=4"];
    const found = JSON.parse((await signalbox("agents", "search", ...labels, "--json")).out);
    expect(found).toMatchObject({ agents: [{ agent: { agentId: "tour" }, capabilityIds: ["plan"] }] });
    expect((await signalbox("agents", "search", "--capability", "plan")).out).toMatch(/\ntour /);
    expect((await signalbox("agents", "search", "--capability", "plan", "soup")).out).toBe("No agent fits.\n");
    await signalbox("capabilities", "remove", "tour", "plan");
  });

  test.each([
    [["agents", "search"], "nothing to search for"],
    [["agents", "search", "--label", "region"], "It is key=value."],
    [["capabilities", "add", "tour"], "required option '-f, --file <file>'"],
  ])("wrong use: %s", async (args, told) => {
    const { code, out, err } = await signalbox(...args);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toContain(told);
  });
});
