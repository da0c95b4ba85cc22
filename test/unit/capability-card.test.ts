/** The card of a capability, made of what several agents offer. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type AgentCard, AgentCardSchema, AgentSkillSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type Capability, capabilityOfSkill } from "../../src/domain/capability.ts";
import { type CapabilitySubject, capabilityCard } from "../../src/domain/card.ts";
import { DELEGATION_EXTENSION, delegationDeclaration } from "../../src/domain/delegation-extension.ts";
import { missingFields } from "../../src/domain/required-fields.ts";
import { ROUTING_EXTENSION, routingDeclaration } from "../../src/domain/routing-extension.ts";
import { UPDATES_EXTENSION, updatesDeclaration } from "../../src/domain/updates-extension.ts";

const address = { url: "https://a2a.example.com/sb", grpc: "grpc.example.com:443" };
const settings = { version: "1.2.3", provider: { organization: "We", url: "https://we.example.com" } };

type Offer = CapabilitySubject["offers"][number];

function offer(agentId: string, about: Partial<Capability> = {}, card: AgentCard = create(AgentCardSchema)): Offer {
  const skill = create(AgentSkillSchema, {
    id: "translate",
    name: `Translation by ${agentId}`,
    description: `What ${agentId} does.`,
    tags: [agentId],
    examples: [agentId],
  });
  return { agent: { card }, capability: { ...capabilityOfSkill(agentId, card, skill)!, ...about } };
}

const cardOf = (...offers: Offer[]) => capabilityCard(settings, address, { capabilityId: "translate", offers });

const declaring = (...extensions: { uri: string; required?: boolean; description?: string }[]) =>
  create(AgentCardSchema, { capabilities: { extensions } });

test("says what the first agent says, and leads through the router", () => {
  const url = "https://a2a.example.com/sb/capabilities/translate";
  const described = { name: "Translation by alpha", description: "What alpha does." };
  expect(cardOf(offer("alpha"), offer("beta"))).toMatchObject({
    ...described,
    version: "1.2.3",
    provider: settings.provider,
    supportedInterfaces: [
      { url, protocolBinding: "JSONRPC", protocolVersion: "1.0", tenant: "" },
      { url, protocolBinding: "HTTP+JSON", protocolVersion: "1.0", tenant: "" },
      { url: address.grpc, protocolBinding: "GRPC", protocolVersion: "1.0", tenant: "c.translate" },
    ],
    capabilities: { streaming: true, pushNotifications: true, extendedAgentCard: false },
    skills: [{ ...described, id: "translate", tags: ["alpha"], examples: ["alpha"] }],
    securitySchemes: {},
    securityRequirements: [],
    signatures: [],
  });
});

test("takes and gives what any of the agents does", () => {
  const one = offer("alpha", { inputModes: ["text/plain", "image/png"], outputModes: [] });
  const other = offer("beta", { inputModes: ["audio/wav", "text/plain"], outputModes: [] });
  expect(cardOf(one, other)).toMatchObject({
    defaultInputModes: ["text/plain", "image/png", "audio/wav"],
    defaultOutputModes: ["text/plain"],
  });
});

test("declares the extensions that all agents declare, required only where all require them", () => {
  const both = { uri: "urn:example:both", description: "alpha's", required: true };
  const shared = { uri: "urn:example:shared", required: true };
  const lone = { uri: "urn:example:lone", required: true };
  const alpha = offer("alpha", {}, declaring(both, shared, lone));
  const beta = offer("beta", {}, declaring({ ...shared, required: false }, { ...both, description: "beta's" }));
  expect(cardOf(alpha, beta).capabilities?.extensions).toMatchObject([
    both,
    { ...shared, required: false },
    updatesDeclaration(),
    routingDeclaration(),
    delegationDeclaration(),
  ]);
  expect(cardOf(alpha).capabilities?.extensions).toMatchObject([both, shared, lone, {}, {}, {}]);
  expect(cardOf(alpha, beta, offer("gamma")).capabilities?.extensions).toHaveLength(3);
});

test("declares our extensions once, also of agents that are routers themselves", () => {
  const card = declaring(
    { uri: UPDATES_EXTENSION, required: true },
    { uri: ROUTING_EXTENSION, required: true },
    { uri: DELEGATION_EXTENSION, required: true },
  );
  expect(cardOf(offer("inner", {}, card)).capabilities?.extensions).toMatchObject([
    { uri: UPDATES_EXTENSION, required: false },
    { uri: ROUTING_EXTENSION, required: false },
    { uri: DELEGATION_EXTENSION, required: false },
  ]);
});

test("holds whatever a card must hold, however little is said of the capability", () => {
  const texts = fc.array(fc.string({ minLength: 1 }), { maxLength: 2 });
  const about = fc.record({
    name: fc.string({ maxLength: 2 }),
    description: fc.string({ maxLength: 2 }),
    tags: texts,
    examples: texts,
    inputModes: texts,
    outputModes: texts,
  });
  fc.assert(
    fc.property(fc.array(about, { minLength: 1, maxLength: 3 }), (all) => {
      const card = cardOf(...all.map((each, i) => offer(`agent-${i}`, each)));
      expect(missingFields(AgentCardSchema, card)).toEqual([]);
      expect(card.defaultInputModes).not.toEqual([]);
      expect(card.defaultOutputModes).not.toEqual([]);
      expect(card.skills).toHaveLength(1);
    }),
  );
});
