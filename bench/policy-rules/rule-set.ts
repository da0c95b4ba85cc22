/**
 * One set of rules in three languages. Each capability has five: one that allows its own client, and four that refuse what is too
 * costly, too large, from a poorly reputed agent, or on behalf of a chain that is too long. Nothing else is allowed.
 */
import { seededRandom } from "../../src/domain/routing/seeded-random.ts";

export const RULES_A_CAPABILITY = 5;

/** What the rules of one capability say. Money in whole millionths, reputation in thousandths: Cedar has no floats. */
export interface Terms {
  readonly capabilityId: string;
  readonly clientId: string;
  readonly mostMicros: number;
  readonly mostBytes: number;
  readonly leastReputation: number;
  readonly mostDepth: number;
}

export interface Request {
  readonly principalId: string;
  readonly capabilityId: string;
  readonly costMicros: number;
  readonly bytes: number;
  readonly reputation: number;
  readonly depth: number;
}

/** Terms for so many rules. */
export function termsFor(rules: number, seed: number): Terms[] {
  const random = seededRandom(seed);
  const from = (least: number, most: number) => least + Math.floor(random() * (most - least));
  return Array.from({ length: rules / RULES_A_CAPABILITY }, (_, i) => ({
    capabilityId: `capability-${i}`,
    clientId: `client-${i}`,
    mostMicros: from(500_000, 1_000_000),
    mostBytes: from(5_000, 10_000),
    leastReputation: from(100, 500),
    mostDepth: from(2, 8),
  }));
}

/** Requests for capabilities in no order. Two of three are within the terms, by the right client; the others miss one of them. */
export function requestsFor(terms: readonly Terms[], count: number, seed: number): Request[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, () => {
    const { capabilityId, clientId, mostMicros, mostBytes, leastReputation, mostDepth } =
      terms[Math.floor(random() * terms.length)]!;
    const missed = random() < 2 / 3 ? -1 : Math.floor(random() * RULES_A_CAPABILITY);
    return {
      capabilityId,
      principalId: missed === 0 ? "stranger" : clientId,
      costMicros: mostMicros + (missed === 1 ? 1 : 0),
      bytes: mostBytes + (missed === 2 ? 1 : 0),
      reputation: leastReputation - (missed === 3 ? 1 : 0),
      depth: mostDepth + (missed === 4 ? 1 : 0),
    };
  });
}

export const signalboxPolicy = (terms: readonly Terms[]): string =>
  [
    "version: 1",
    "default: DENY",
    "rules:",
    ...terms.flatMap(({ capabilityId: id, clientId, mostMicros, mostBytes, leastReputation, mostDepth }) => [
      `  - {effect: ALLOW, when: {capability_id: ${id}, principal_id: ${clientId}}}`,
      `  - {effect: DENY, when: {capability_id: ${id}, cost: {">": ${mostMicros / 1e6}}}}`,
      `  - {effect: DENY, when: {capability_id: ${id}, message_bytes: {">": ${mostBytes}}}}`,
      `  - {effect: DENY, when: {capability_id: ${id}, reputation_score: {"<": ${leastReputation / 1_000}}}}`,
      `  - {effect: DENY, when: {capability_id: ${id}, delegation_depth: {">": ${mostDepth}}}}`,
    ]),
    "",
  ].join("\n");

export const cedarPolicy = (terms: readonly Terms[]): string =>
  terms
    .flatMap(({ capabilityId, clientId, mostMicros, mostBytes, leastReputation, mostDepth }) => {
      const resource = `resource == Capability::"${capabilityId}"`;
      return [
        `permit (principal == Client::"${clientId}", action, ${resource});`,
        `forbid (principal, action, ${resource}) when { context.cost > ${mostMicros} };`,
        `forbid (principal, action, ${resource}) when { context.bytes > ${mostBytes} };`,
        `forbid (principal, action, ${resource}) when { context.reputation < ${leastReputation} };`,
        `forbid (principal, action, ${resource}) when { context.depth > ${mostDepth} };`,
      ];
    })
    .join("\n");

/** Each rule has all columns; what does not matter is `*`, or a bound that nothing passes. */
export const CASBIN_MODEL = `
[request_definition]
r = client, capability, cost, bytes, reputation, depth
[policy_definition]
p = client, capability, cost, bytes, reputation, depth, eft
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = r.capability == p.capability && (p.client == "*" || r.client == p.client) && r.cost > p.cost && r.bytes > p.bytes && r.reputation < p.reputation && r.depth > p.depth
`;

export const casbinPolicy = (terms: readonly Terms[]): (string | number)[][] =>
  terms.flatMap(({ capabilityId: id, clientId, mostMicros, mostBytes, leastReputation, mostDepth }) => [
    [clientId, id, -1, -1, 1_001, -1, "allow"],
    ["*", id, mostMicros, -1, 1_001, -1, "deny"],
    ["*", id, -1, mostBytes, 1_001, -1, "deny"],
    ["*", id, -1, -1, leastReputation, -1, "deny"],
    ["*", id, -1, -1, 1_001, mostDepth, "deny"],
  ]);
