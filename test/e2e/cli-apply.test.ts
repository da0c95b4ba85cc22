/** `signalbox apply` against a running server. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { RunningAgent } from "../../examples/agents/agent-server.ts";
import { startWriterAgent } from "../../examples/agents/writer.ts";
import { act } from "../conformance/scripted-agent.ts";
import { inProcessCard, runCommand, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
let writer: RunningAgent;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "signalbox-apply-"));
  [app, writer] = await Promise.all([startTestApp({ agents: { actor: act } }), startWriterAgent()]);
  return async () => {
    await app.stop();
    await writer.close();
    rmSync(folder, { recursive: true, force: true });
  };
});

const signalbox = (args: string[], stdin = "") => runCommand(app.httpUrl, args, { stdin, cwd: folder });

const apply = (yaml: string, ...flags: string[]) => signalbox(["apply", "-f", "-", ...flags], yaml);

const shown = async (path: string) => (await (await fetch(app.httpUrl + path)).json()) as Record<string, unknown>;

describe("what a file says", () => {
  const fleet = (cost: string, repeat: boolean) => `
# The writer, by its address, and an agent of this process, by its card.
agents:
  - agentId: scribe
    baseUrl: ${writer.url}/
    safeToRepeat: ${repeat}
    default: true
  - agentId: inner
    card: ${JSON.stringify(inProcessCard("actor"))}
capabilities:
  - agentId: inner
    capabilityId: translate
    costPerTask: "${cost}"
    labels: {region: eu}
    inputSchema:
      type: object
      required: [text]
---
kind: Capability
apiVersion: signalbox/v1
metadata: {name: actor}
spec:
  agentId: inner
  maxConcurrency: 2
`;

  test("is created, then unchanged, then configured where it changes", async () => {
    const dry = await apply(fleet("0.25", false), "--dry-run");
    expect(dry).toMatchObject({ code: 0, err: "" });
    expect(dry.out).toBe(
      [
        "agent/scribe created (dry run)",
        "agent/inner created (dry run)",
        "capability/inner/translate created (dry run)",
        "capability/inner/actor created (dry run)",
        "",
      ].join("\n"),
    );
    expect((await shown("/v1/agents")).agents).toHaveLength(1);

    const first = await apply(fleet("0.25", false));
    expect(first).toMatchObject({ code: 0, err: "" });
    expect(first.out).toBe(
      "agent/scribe created\nagent/inner created\ncapability/inner/translate created\ncapability/inner/actor configured\n",
    );
    expect(await shown("/v1/agents/scribe")).toMatchObject({ isDefault: true, card: { name: "Writer" } });
    expect((await shown("/v1/capabilities?agentId=inner")).capabilities).toMatchObject([
      { capabilityId: "actor", maxConcurrency: 2, skillId: "actor" },
      { capabilityId: "translate", costPerTask: "0.25", labels: { region: "eu" } },
    ]);

    const unchanged =
      "agent/scribe unchanged\nagent/inner unchanged\ncapability/inner/translate unchanged\ncapability/inner/actor unchanged\n";
    expect(await apply(fleet("0.25", false))).toEqual({ code: 0, err: "", out: unchanged });

    const { out } = await apply(fleet("0.5", true), "--json");
    expect(JSON.parse(out)).toEqual({
      dryRun: false,
      items: [
        { name: "agent/scribe", result: "configured" },
        { name: "agent/inner", result: "unchanged" },
        { name: "capability/inner/translate", result: "configured" },
        { name: "capability/inner/actor", result: "unchanged" },
      ],
    });
    expect(await shown("/v1/agents/scribe")).toMatchObject({ safeToRepeat: true });
    // What is no longer said is said no more.
    const less = await apply("capabilities: [{agentId: inner, capabilityId: translate}]");
    expect(less.out).toBe("capability/inner/translate configured\n");
    expect((await shown("/v1/capabilities?capabilityId=translate")).capabilities).toEqual([
      expect.not.objectContaining({ costPerTask: expect.anything() }),
    ]);
  });

  test("comes from files too, JSON among them", async () => {
    const file = join(folder, "agents.json");
    writeFileSync(file, JSON.stringify({ agents: [{ agentId: "filed", card: inProcessCard("actor") }] }));
    const other = join(folder, "more.yaml");
    writeFileSync(other, "capabilities:\n- {agentId: filed, capabilityId: sums}\n");
    expect(await signalbox(["apply", "-f", other, "-f", file])).toEqual({
      code: 0,
      err: "",
      out: "agent/filed created\ncapability/filed/sums created\n",
    });
    expect((await signalbox(["apply", "-f", join(folder, "none.yaml")])).code).toBe(2);
  });
});

describe("mistakes", () => {
  test("are all found, each with its line, and nothing is applied", async () => {
    const { code, out, err } = await apply(`agents:
  - agentId: Bad_Id
    baseUrl: ftp://somewhere
  - agentId: fine
    baseUrl: http://127.0.0.1:9/
    safeToRepaet: true
    default: maybe
  - agentId: fine
    card: {name: x, skills: [{id: s}]}
capabilities:
  - agentId: fine
    capabilityId: sums
    costPerTask: "1,5"
    inputSchema: {type: 7}
    serviceLevel: {maxLatencyMs: soon}
  - nonsense
agnets: []
---
kind: Capabilty
spec: {}
---
kind: Agent
metadata: {name: third, namespace: x}
spec: {}
state: on
---
- a list
`);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toMatch(/^Nothing was applied:\n/);
    const places = [...err.matchAll(/input:(\d+):/g)].map(([, line]) => Number(line));
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    for (const line of [
      "standard input:2:5: agentId: is required, a DNS label",
      "standard input:3:5: baseUrl: must be an http or https URL.",
      "standard input:6:5: Agent has no safeToRepaet. Did you mean safeToRepeat?",
      "standard input:7:5: default: must be true or false.",
      "standard input:9:",
      "standard input:15:20: serviceLevel.maxLatencyMs: must be a whole number of milliseconds.",
      "standard input:16:5: An entry of capabilities must be a map.",
      "standard input:17:1: There is no section agnets. Did you mean agents?",
      "standard input:19:1: There is no kind Capabilty. Did you mean Capability?",
      "standard input:23:25: metadata has a name only; namespace is not known.",
      "standard input:25:1: state does not belong here",
      "standard input:27:1: A document must be a map",
    ]) {
      expect(err).toContain(line);
    }
    expect((await fetch(`${app.httpUrl}/v1/agents/fine`)).status).toBe(404);
  });

  test("of form name the path, what may stand there, and the remedy", async () => {
    const { code, err } = await apply(`agents:
  - {agentId: two, baseUrl: "http://127.0.0.1:9", cardUrl: "http://127.0.0.1:9"}
  - {agentId: three, card: {name: 1, skills: [{id: s, tags: [a, 2]}, s]}}
capabilities:
  - agentId: actor
    capabilityId: sums
    costPerTask: 0.5
    tags: one
    access: WRITES
    labels: {region: 4, tier: [gold]}
    serviceLevel: {availability: high, uptime: 1}
    inputSchema: anything
    maxConcurrency: 1
    max_concurrency: 2
  - {agentId: actor, capabilityId: others, serviceLevel: 4}
`);
    expect(code).toBe(2);
    expect(err.split("\n").slice(1, -1)).toEqual([
      "  standard input:2:51: cardUrl: cannot stand beside baseUrl; leave one of them out.",
      '  standard input:3:29: card.name: must be text. Put it in quotes: "1".',
      '  standard input:3:65: card.skills[0].tags[1]: must be text. Put it in quotes: "2".',
      expect.stringMatching(/^ {2}standard input:3:70: card\.skills\[1\]: must be a map with id, name, /),
      '  standard input:7:5: costPerTask: must be text. Put it in quotes: "0.5".',
      "  standard input:8:5: tags: must be a list of text.",
      "  standard input:9:5: access: must be ACCESS_READ or ACCESS_WRITE.",
      '  standard input:10:14: labels.region: must be text. Put it in quotes: "4".',
      "  standard input:10:25: labels.tier: must be text.",
      "  standard input:11:20: serviceLevel.availability: must be a number.",
      "  standard input:11:40: serviceLevel has no uptime. There are maxLatencyMs, availability.",
      "  standard input:12:5: inputSchema: must be a map.",
      "  standard input:14:5: max_concurrency: cannot stand beside maxConcurrency; leave one of them out.",
      "  standard input:15:44: serviceLevel: must be a map with maxLatencyMs, availability.",
    ]);
  });

  test("of the domain's rules are found before anything is sent", async () => {
    const { code, err } = await apply(`
capabilities:
  - agentId: actor
    capabilityId: sums
    costPerTask: "1,5"
    inputSchema: {type: 7}
  - agentId: actor
    capabilityId: sums
`);
    expect(code).toBe(2);
    expect(err).toContain("standard input:5:5: costPerTask: must be a decimal number");
    expect(err).toMatch(/standard input:6:19: inputSchema\.type: /);
    expect(err).toContain(
      "standard input:7:5: capability/actor/sums is described twice; the other is at standard input:3:5.",
    );
  });

  test("of YAML, of missing agents, and of two defaults", async () => {
    expect((await apply("agents: [")).err).toMatch(/standard input:1:\d+: This is no valid YAML/);
    const missing = await apply("agents: []\ncapabilities:\n  - {agentId: nobody, capabilityId: sums}\n");
    expect(missing).toMatchObject({ code: 2, out: "" });
    expect(missing.err).toContain("standard input:3:5: There is no agent nobody, here or at the server.");
    const agent = (id: string) => `{agentId: ${id}, baseUrl: "http://127.0.0.1:9", default: true}`;
    expect((await apply(`agents: [${agent("one")}, ${agent("two")}]`)).err).toContain(
      "only one agent can be the default",
    );
    expect(await apply("")).toMatchObject({ code: 2, err: expect.stringContaining("nothing to apply") });
    const twice = await apply("a: &a [*a]\n");
    expect(twice.code).toBe(2);
  });

  test("of the server stop at the item, which is named", async () => {
    const { code, out, err } = await apply(`agents:
  - {agentId: whole, card: ${JSON.stringify(inProcessCard("actor"))}}
  - {agentId: away, baseUrl: "http://127.0.0.1:9"}
`);
    expect({ code, out }).toEqual({ code: 1, out: "agent/whole created\n" });
    expect(err).toContain("standard input:3:5: agent/away could not be applied.");
    expect(err).toContain("CARD_UNAVAILABLE");
  });
});
