/** What others wrote is repeated in refusals only as far as any transport can carry it. */
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { AgentCardSchema, MessageSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { capabilitiesOf } from "../../src/domain/capability.ts";
import { SignalboxError } from "../../src/domain/errors.ts";
import { checkExtensions, checkMediaTypes } from "../../src/domain/message-rules.ts";
import { refuse } from "../../src/domain/refusal.ts";
import type { WorkspaceAgents } from "../../src/services/agent-directory.ts";
import { noRoute } from "../../src/services/routing/no-route.ts";

/** Header limits of common gRPC clients begin at 8 KiB; the message is in them, and in the details once more. */
const ENOUGH = 3000;
const LONG = "x".repeat(100_000);
const MANY = Array.from({ length: 1000 }, (_, i) => `${i}/${LONG.slice(0, 1000)}`);

function sizeOf(error: unknown): number {
  if (!(error instanceof SignalboxError)) throw error;
  const told = [error.message, ...Object.values(error.metadata)];
  return Math.max(...told.map((text) => text.length));
}

function refusalOf(act: () => unknown): unknown {
  try {
    return act();
  } catch (error) {
    return error;
  }
}

describe("a refusal stays small", () => {
  test("of many and long violations", () => {
    const violations = [LONG, ...MANY].map((text) => ({ field: text, description: text }));
    expect(sizeOf(refusalOf(() => refuse(violations)))).toBeLessThan(ENOUGH);
  });

  test("of a media type", () => {
    const card = create(AgentCardSchema, { defaultInputModes: [LONG, ...MANY] });
    const message = create(MessageSchema, { parts: [{ mediaType: `y${LONG}` }] });
    expect(sizeOf(refusalOf(() => checkMediaTypes(message, card)))).toBeLessThan(ENOUGH);
  });

  test("of extensions that are required", () => {
    const extensions = [LONG, ...MANY].map((uri) => ({ uri, required: true }));
    const card = create(AgentCardSchema, { capabilities: { extensions } });
    expect(sizeOf(refusalOf(() => checkExtensions([], card)))).toBeLessThan(ENOUGH);
  });

  test("of a request that no agent is the default for", () => {
    const card = create(AgentCardSchema, { skills: [LONG, ...MANY].map((name) => ({ id: name.slice(0, 63), name })) });
    const agent = { agentId: "long", card } as WorkspaceAgents["defaultAgent"] & {};
    const offers = capabilitiesOf("long", card, []).map((capability) => ({ agent, capability, version: 0 }));
    const agents: WorkspaceAgents = {
      byId: new Map([["long", agent]]),
      defaultAgent: undefined,
      capabilities: new Map(),
      byCapability: new Map(offers.map((offer) => [offer.capability.capabilityId, [offer]])),
      search: { matches: () => [], agents: () => new Map() },
      limits: new Map(),
      lent: new Map(),
    };
    expect(agents.byCapability.size).toBeGreaterThan(1000);
    expect(sizeOf(noRoute(agents, "Hello"))).toBeLessThan(ENOUGH);
  });
});
