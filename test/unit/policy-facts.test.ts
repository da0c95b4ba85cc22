/** What is kept of the facts of a decision: enough to decide it once more. */
import { create, fromBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import { MessageSchema, PartSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { CardSignatureSchema, CardSignatureState } from "../../gen/signalbox/v1/registry_pb.ts";
import { RouteDecisionSchema, RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import type { Capability } from "../../src/domain/capability.ts";
import { encode } from "../../src/domain/encode.ts";
import { AUTHENTICATIONS } from "../../src/domain/identity/principal.ts";
import { decimalOf, MAX_MICROS } from "../../src/domain/money.ts";
import { PRIORITIES } from "../../src/domain/task-log.ts";
import {
  bytesOf,
  candidateFacts,
  keptCandidateFacts,
  keptFacts,
  modesOf,
  requestFacts,
} from "../../src/services/policy-facts.ts";
import type { Possible } from "../../src/services/routing/offers.ts";

const { VERIFIED, UNTRUSTED, INVALID } = CardSignatureState;
const { TENANT, TEXT, CACHE } = RouteSource;

const part = (content: object, mediaType = "") => create(PartSchema, { content: content as never, mediaType });

test("the size of parts is that of what they hold", () => {
  const parts = [
    part({ case: "text", value: "grün" }),
    part({ case: "raw", value: new Uint8Array(7) }),
    part({ case: "url", value: "https://a.example/ü" }),
    part({ case: "data", value: { kind: { case: "structValue", value: { fields: {} } } } }),
  ];
  expect(parts.map((one) => bytesOf([one]))).toEqual([5, 7, 20, 2]);
  expect(bytesOf(parts)).toBe(34);
});

test("media types are bare, each once, and what a kind usually has where none is named", () => {
  const text = part({ case: "text", value: "" });
  const named = part({ case: "text", value: "" }, "Text/HTML; charset=utf-8");
  const data = part({ case: "data", value: {} });
  expect(modesOf([text, named, text, data])).toEqual(["text/plain", "text/html", "application/json"]);
  expect(modesOf([part({ case: "raw", value: new Uint8Array() }), part({ case: undefined })])).toEqual([
    "application/octet-stream",
  ]);
});

const texts = fc.oneof(fc.constant([]), fc.constant(["*"]), fc.uniqueArray(fc.string(), { maxLength: 3 }));

const SIGNATURES = [VERIFIED, UNTRUSTED, INVALID].map((state) => create(CardSignatureSchema, { state }));

/** A request, an agent that was chosen for it, and how its decision was written. */
const decided = fc.record({
  principal: fc.record(
    {
      id: fc.string(),
      scopes: texts.map((scopes) => new Set(scopes)),
      roles: texts.map((roles) => new Set(roles)),
      authentication: fc.constantFrom(...AUTHENTICATIONS),
      actors: fc.array(fc.string(), { maxLength: 3 }),
    },
    { requiredKeys: ["id", "scopes", "roles", "authentication", "actors"] },
  ),
  parts: fc.array(
    fc
      .record({ text: fc.string(), mediaType: fc.constantFrom("", "text/plain", "text/html") })
      .map(({ text, mediaType }) => part({ case: "text", value: text }, mediaType)),
    { maxLength: 3 },
  ),
  contextId: fc.constantFrom("", "context"),
  acceptedModes: fc.uniqueArray(fc.constantFrom("text/plain", "image/png")),
  priority: fc.constantFrom(undefined, ...PRIORITIES),
  parent: fc.option(
    fc.record({ taskId: fc.string(), agentId: fc.string({ minLength: 1 }), depth: fc.integer({ min: 1, max: 16 }) }),
    { nil: undefined },
  ),
  nowMs: fc.integer({ min: 0, max: 2 ** 42 }),
  capability: fc.option(
    fc.record({
      capabilityId: fc.constantFrom("translate", "sing"),
      access: fc.constantFrom("READ" as const, "WRITE" as const),
      costMicros: fc.nat(MAX_MICROS),
      labels: fc.dictionary(fc.constantFrom("tier", "region"), fc.string(), { noNullPrototype: true }),
    }),
    { nil: undefined },
  ),
  asked: fc.constantFrom("", "translate"),
  isKept: fc.boolean(),
  reputation: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: undefined }),
  signature: fc.constantFrom(undefined, ...SIGNATURES),
  source: fc.constantFrom(TENANT, TEXT),
  isFromCache: fc.boolean(),
});

test("a decision has all that the policy was asked about, when it comes back from the database", () => {
  fc.assert(
    fc.property(decided, (given) => {
      const { capability, reputation, source, nowMs, parts, contextId, isFromCache } = given;
      const isKept = given.isKept && !isFromCache;
      const now = new Date(nowMs);
      const message = create(MessageSchema, { parts, contextId });
      const asked = requestFacts({ ...given, principal: given.principal as never, workspaceId: "w", message, now });
      const agent = { agentId: "ann", cardSignature: given.signature };
      const chosen = { agent, capability: capability as Capability | undefined } as Possible;
      const score = isKept ? reputation : undefined;
      const looked = { source, capabilityId: given.asked || undefined };
      const facts = candidateFacts(asked, chosen, looked, score);
      expect(facts.principal_actors).toEqual(given.principal.actors);
      expect(facts.principal_authentication).toBe(given.principal.authentication);
      expect(facts.principal_roles).toEqual([...(given.principal.roles ?? [])]);
      const cost = decimalOf(capability?.costMicros ?? 0);
      const decision = create(RouteDecisionSchema, {
        agentId: "ann",
        time: timestampFromMs(nowMs),
        capabilityId: given.asked || (capability?.capabilityId ?? ""),
        source: isFromCache ? CACHE : source,
        candidates: isKept ? [{ agentId: "ann", cost, ...(score !== undefined && { reputation: score }) }] : [],
      });
      decision.policyFacts = keptFacts(asked, chosen, looked, decision);
      const read = fromBinary(RouteDecisionSchema, encode(RouteDecisionSchema, decision));
      expect(keptCandidateFacts("w", read)).toEqual(facts);
    }),
  );
});

test("of a decision that kept no facts nothing is known", () => {
  expect(keptCandidateFacts("w", create(RouteDecisionSchema, { agentId: "ann" }))).toBeUndefined();
});
