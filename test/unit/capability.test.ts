/** What an agent offers, of its card and of what was said besides; and what may be said. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { Access, CapabilitySchema } from "../../gen/signalbox/v1/registry_pb.ts";
import { capabilitiesOf } from "../../src/domain/capability.ts";
import { capabilityViolations } from "../../src/domain/capability-rules.ts";

const given = (init: MessageInitShape<typeof CapabilitySchema>) =>
  create(CapabilitySchema, { capabilityId: "book-flights", ...init });

const card = create(AgentCardSchema, {
  defaultInputModes: ["text/plain"],
  defaultOutputModes: ["text/html"],
  skills: [
    { id: "Book Flights", name: "Flights", description: "Finds seats.", tags: ["air"], examples: ["To Oslo"] },
    { id: "book-flights", name: "The same id" },
    { id: "!", name: "?" },
    { id: "sleep", name: "Sleep", inputModes: ["text/csv"] },
  ],
});

describe("what an agent offers", () => {
  test("are the skills of its card, if nothing else was said", () => {
    const [flights, sleep, ...more] = capabilitiesOf("a", card, []);
    expect(more).toEqual([]);
    expect(flights).toEqual({
      capabilityId: "book-flights",
      agentId: "a",
      skillId: "Book Flights",
      name: "Flights",
      description: "Finds seats.",
      tags: ["air"],
      examples: ["To Oslo"],
      inputModes: ["text/plain"],
      outputModes: ["text/html"],
      inputSchema: undefined,
      outputSchema: undefined,
      costMicros: 0,
      averageLatencyMs: undefined,
      maxConcurrency: undefined,
      maxLatencyMs: 5000,
      availability: 0.99,
      isSlaDeclared: false,
      access: "WRITE",
      isAccessDeclared: false,
      safeToRepeat: false,
      labels: {},
      cacheTtlMs: 0,
      cacheShared: false,
    });
    expect(sleep).toMatchObject({ capabilityId: "sleep", inputModes: ["text/csv"], outputModes: ["text/html"] });
  });

  test("what was said wins where it says something, and only there", () => {
    const [before] = capabilitiesOf("a", card, []);
    expect(capabilitiesOf("a", card, [given({})])[0]).toEqual(before);
    const said = given({
      name: "Air",
      inputModes: ["application/json"],
      inputSchema: { type: "object" },
      costPerTask: "0.1",
      averageLatencyMs: 20n,
      maxConcurrency: 2,
      serviceLevel: { maxLatencyMs: 30n },
      access: Access.READ,
      safeToRepeat: true,
      labels: { region: "eu" },
    });
    expect(capabilitiesOf("a", card, [said])).toMatchObject([
      {
        ...before,
        name: "Air",
        inputModes: ["application/json"],
        inputSchema: { type: "object" },
        costMicros: 100_000,
        averageLatencyMs: 20,
        maxConcurrency: 2,
        maxLatencyMs: 30,
        isSlaDeclared: true,
        access: "READ",
        isAccessDeclared: true,
        safeToRepeat: true,
        labels: { region: "eu" },
      },
      { capabilityId: "sleep" },
    ]);
  });

  test("what the card does not have stands alone, after its skills", () => {
    const [, , alone] = capabilitiesOf("a", card, [given({ capabilityId: "drive", access: Access.WRITE })]);
    expect(alone).toMatchObject({
      capabilityId: "drive",
      skillId: undefined,
      name: "drive",
      description: "",
      inputModes: ["text/plain"],
      outputModes: ["text/html"],
      access: "WRITE",
    });
  });
});

describe("what may be said", () => {
  const long = "x".repeat(5000);
  const many = Array.from({ length: 101 }, (_, i) => `t${i}`);
  const refused: [string, MessageInitShape<typeof CapabilitySchema>, string][] = [
    ["an id that is no label", { capabilityId: "A" }, "capabilityId"],
    ["a reserved id", { capabilityId: "tasks" }, "capabilityId"],
    ["a long name", { name: long }, "name"],
    ["a long description", { description: long }, "description"],
    ["many tags", { tags: many }, "tags"],
    ["a long tag", { tags: ["a", long] }, "tags[1]"],
    ["an empty tag", { tags: [" "] }, "tags[0]"],
    ["many examples", { examples: many }, "examples"],
    ["a long example", { examples: [long] }, "examples[0]"],
    ["many modes", { inputModes: many }, "inputModes"],
    ["a long mode", { outputModes: [long] }, "outputModes[0]"],
    ["a schema of nothing", { outputSchema: { type: "nothing" } }, "outputSchema.type"],
    ["a cost that is no number", { costPerTask: "free" }, "costPerTask"],
    ["a cost below nothing", { costPerTask: "-1" }, "costPerTask"],
    ["a latency below nothing", { averageLatencyMs: -1n }, "averageLatencyMs"],
    ["a latency of years", { averageLatencyMs: 2n ** 60n }, "averageLatencyMs"],
    ["fewer than no tasks", { maxConcurrency: -1 }, "maxConcurrency"],
    ["a million and one tasks", { maxConcurrency: 1_000_001 }, "maxConcurrency"],
    ["a promise of years", { serviceLevel: { maxLatencyMs: 2n ** 60n } }, "serviceLevel.maxLatencyMs"],
    ["more than always", { serviceLevel: { availability: 1.01 } }, "serviceLevel.availability"],
    ["an availability that is no number", { serviceLevel: { availability: Number.NaN } }, "serviceLevel.availability"],
    ["an access that there is not", { access: 7 as Access }, "access"],
    ["many labels", { labels: Object.fromEntries(many.map((key) => [key, "v"])) }, "labels"],
    ["a long label", { labels: { a: "v".repeat(64) } }, 'labels["a"]'],
    ["a label that could not be asked for", { labels: { "a=b": "v" } }, 'labels["a=b"]'],
    ["a value that could not be asked for", { labels: { a: "v,w" } }, 'labels["a"]'],
  ];
  test.each(refused)("not: %s", (_, init, field) => {
    expect(capabilityViolations(given(init), "capability").map((v) => v.field)).toEqual([`capability.${field}`]);
  });

  test("everything that is in its bounds", () => {
    const said = given({
      name: "x".repeat(256),
      description: "x".repeat(4096),
      tags: many.slice(0, 64),
      costPerTask: "9007199254.740991",
      averageLatencyMs: 31_536_000_000n,
      maxConcurrency: 1_000_000,
      serviceLevel: { maxLatencyMs: 1n, availability: 1 },
      access: Access.READ,
      labels: Object.fromEntries(many.slice(0, 64).map((key) => [key, "v".repeat(63)])),
    });
    expect(capabilityViolations(said, "capability")).toEqual([]);
  });
});
