/** What a policy is asked about a task, from its admission to the last agent that may have it. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { AgentCardSchema, type Message } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { PolicyEffect } from "../../gen/signalbox/v1/policy_pb.ts";
import { RouteDecisionSchema, RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import { encode } from "../../src/domain/encode.ts";
import { sendRequest } from "../../src/sdk/client.ts";
import { createMirrorPolicy } from "../../src/services/mirror-policy.ts";
import { createPolicy } from "../../src/services/policy.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import type { Possible } from "../../src/services/routing/offers.ts";
import { trustAll } from "../../src/services/trust.ts";
import { say } from "../agents/calling.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { openPolicies } from "./open-policies.ts";

const context = {
  workspaceId: "default",
  principal: { id: "alice", roles: new Set(), scopes: new Set(["*"]) },
} as unknown as RequestContext;
const offer = (agentId: string): Possible =>
  ({ agent: { agentId, card: create(AgentCardSchema) }, capability: undefined }) as unknown as Possible;

test("a task that looks for another agent is asked about by what was kept of it, and asks for no new approval", async () => {
  const rules = [
    "{effect: DENY, when: {agent_id: ann, principal_id: alice}}",
    "{effect: REQUIRE, when: {agent_id: [ben, cid]}, then: {approval: {expires: 1h}}}",
    "{effect: REQUIRE, when: {agent_id: dan}, then: {approval: {expires: 1h}}}",
  ];
  const { policies, runtime } = openPolicies([`version: 1\nrules:\n${rules.map((rule) => `  - ${rule}\n`).join("")}`]);
  const policy = createPolicy({ policies, trust: trustAll, runtime, onVerdict() {} });
  const message: Message = say("hello");
  const admitted = await policy.admit(context, sendRequest(message, {}), message, undefined);
  const decision = create(RouteDecisionSchema, { agentId: "ben", source: RouteSource.TENANT });
  const terms = admitted.search(RouteSource.TENANT).note(decision, offer("ben"));
  expect(terms).toMatchObject({ expiresMs: 3_600_000, rule: { path: "rules[1]" } });
  expect(decision.policy).toMatchObject({ effect: PolicyEffect.REQUIRE_APPROVAL, policyVersion: 1 });

  const again = await policy.readmit(headerOf({ taskId: "t" }), decision);
  const judge = again.search(RouteSource.TENANT).judge!;
  const effects = ["ann", "ben", "cid", "dan", "eve"].map((agentId) => judge.of(offer(agentId)).effect);
  expect(effects).toEqual(["DENY", "ALLOW", "ALLOW", "DENY", "ALLOW"]);
  const unknown = (await policy.readmit(headerOf({ taskId: "t" }), undefined)).search(RouteSource.TENANT).judge!;
  expect(unknown.of(offer("ben")).effect).toBe("DENY");

  const isAllowed = createMirrorPolicy({
    policy,
    directory: {
      agents: async () =>
        ({ byId: new Map(["ann", "eve"].map((id) => [id, offer(id).agent])), capabilities: new Map() }) as never,
    },
    readDecision: async () => encode(RouteDecisionSchema, decision),
  });
  const task = headerOf({ taskId: "t" });
  expect(await Promise.all(["ann", "eve", "gone"].map((id) => isAllowed(task, id)))).toEqual([false, true, false]);
});

test("an approval holds for each further agent by the same rule", async () => {
  const document = "version: 1\nrules: [{effect: REQUIRE, when: {cost: {'>=': 0}}, then: {approval: true}}]\n";
  const { policies, runtime } = openPolicies([document]);
  const policy = createPolicy({ policies, trust: trustAll, runtime, onVerdict() {} });
  const message: Message = say("hello");
  let decision = create(RouteDecisionSchema, { agentId: "ann", source: RouteSource.TENANT });
  const first = await policy.admit(context, sendRequest(message, {}), message, undefined);
  expect(first.search(RouteSource.TENANT).note(decision, offer("ann"))).toBeDefined();
  for (const agentId of ["ben", "cid", "dan"]) {
    const search = (await policy.readmit(headerOf({ taskId: "t" }), decision)).search(RouteSource.TENANT);
    expect(search.judge!.of(offer(agentId)).effect).toBe("ALLOW");
    decision = create(RouteDecisionSchema, { agentId, source: RouteSource.TENANT });
    search.note(decision, offer(agentId));
  }
});

test("an approval by some rules is none by others, nor by another policy", async () => {
  const wants = (agentIds: string, expires: string) =>
    `  - {effect: REQUIRE, when: {agent_id: ${agentIds}}, then: {approval: {expires: ${expires}}}}\n`;
  const document = `version: 1\nrules:\n${wants("[ann, ben, cid]", "1h")}${wants("[cid]", "2h")}`;
  const { policies, runtime } = openPolicies([document]);
  const policy = createPolicy({ policies, trust: trustAll, runtime, onVerdict() {} });
  const message: Message = say("hello");
  const admitted = await policy.admit(context, sendRequest(message, {}), message, undefined);
  const decision = create(RouteDecisionSchema, { agentId: "ann", source: RouteSource.TENANT });
  admitted.search(RouteSource.TENANT).note(decision, offer("ann"));
  const effectsAfter = async (before: typeof decision) => {
    const judge = (await policy.readmit(headerOf({ taskId: "t" }), before)).search(RouteSource.TENANT).judge!;
    return ["ben", "cid"].map((agentId) => judge.of(offer(agentId)).effect);
  };
  expect(await effectsAfter(decision)).toEqual(["ALLOW", "DENY"]);
  const byOtherFiles = { ...decision, policy: { ...decision.policy!, fileDigests: ["other"] } };
  expect(await effectsAfter(byOtherFiles)).toEqual(["DENY", "DENY"]);
});

test("an agent that is named alone waits for all whom what it offers must be approved by, and goes on by nothing less", async () => {
  const wants = (capabilityId: string, expires: string, more: string) =>
    `  - {effect: REQUIRE, when: {capability_id: ${capabilityId}}, then: {approval: {expires: ${expires}, ${more}}}}\n`;
  const rules = `${wants("[sing, hum]", "2h", "approvers: [ann], self: true")}${wants("pay", "1h", "approvers: [ben]")}`;
  const { policies, runtime } = openPolicies([`version: 1\nrules:\n${rules}`]);
  const policy = createPolicy({ policies, trust: trustAll, runtime, onVerdict() {} });
  const message = say("hello");
  const offering = (agentId: string, ...ids: string[]) => ({
    ...offer(agentId),
    among: ids.map((capabilityId) => ({ capabilityId })) as never,
  });
  const given = async (chosen: Possible) => {
    const decision = create(RouteDecisionSchema, { agentId: chosen.agent.agentId, source: RouteSource.TENANT });
    const admitted = await policy.admit(context, sendRequest(message, {}), message, undefined);
    return { decision, terms: admitted.search(RouteSource.TENANT).note(decision, chosen) };
  };
  const both = await given(offering("dan", "sing", "hum", "pay"));
  expect(both.terms).toMatchObject({ approvers: ["ann"], also: [["ben"]], expiresMs: 3_600_000, self: false });
  expect(both.decision.policy!.rules.map(({ path }) => path)).toEqual(["rules[0]", "rules[1]"]);
  const one = await given(offering("eve", "sing", "hum"));
  expect(one.terms).toEqual({ rule: expect.anything(), approvers: ["ann"], expiresMs: 7_200_000, self: true });
  const effectsAfter = async ({ decision }: typeof one) => {
    const judge = (await policy.readmit(headerOf({ taskId: "t" }), decision)).search(RouteSource.TENANT).judge!;
    return [offering("fay", "sing"), offering("gil", "sing", "pay")].map((each) => judge.of(each).effect);
  };
  expect(await effectsAfter(one)).toEqual(["ALLOW", "DENY"]);
  expect(await effectsAfter(both)).toEqual(["ALLOW", "ALLOW"]);
});

test("an agent that does not offer what is asked for is judged by that all the same", async () => {
  const { policies, runtime } = openPolicies(["version: 1\nrules: [{effect: DENY, when: {capability_id: pay}}]\n"]);
  const policy = createPolicy({ policies, trust: trustAll, runtime, onVerdict() {} });
  const pay = headerOf({ taskId: "t", capabilityId: "pay" });
  const moved = headerOf({ taskId: "t", origin: { agentIds: ["ann"], capabilityId: "pay" } });
  const other = headerOf({ taskId: "t", capabilityId: "sing" });
  const isAllowed = createMirrorPolicy({
    policy,
    directory: {
      agents: async () =>
        ({
          byId: new Map(["eve", "dan"].map((id) => [id, offer(id).agent])),
          capabilities: new Map([["dan", [{ capabilityId: "pay" }]]]),
        }) as never,
    },
    readDecision: async () => undefined,
  });
  // What names an agent alone may be copied to who is allowed all that it offers.
  const alone = headerOf({ taskId: "t" });
  expect(await Promise.all(["eve", "dan"].map((id) => isAllowed(alone, id)))).toEqual([true, false]);
  expect(await Promise.all([pay, moved, other].map((task) => isAllowed(task, "eve")))).toEqual([false, false, true]);
  const message = say("hello");
  const more = policy.proceed(context, sendRequest(message, {}), message, moved, offer("eve"));
  await expect(more).rejects.toMatchObject({ reason: "POLICY_DENIED" });
});

test("an agent is decided about once for a request, whatever becomes of its reputation meanwhile", async () => {
  const rules = "[{effect: DENY, when: {reputation_score: {'<': 0.5}}}, {effect: DENY, when: {capability_id: pay}}]";
  const { policies, runtime } = openPolicies([`version: 1\nrules: ${rules}\n`]);
  const verdicts: string[] = [];
  let score = 0.9;
  const trust = { ...trustAll, score: () => score };
  const policy = createPolicy({
    policies,
    trust,
    runtime,
    onVerdict: (...verdict) => verdicts.push(verdict.join(" ")),
  });
  const message = say("hello");
  const admitted = await policy.admit(context, sendRequest(message, {}), message, undefined);
  expect(admitted.search(RouteSource.TENANT, "sing").judge!.of(offer("ben")).effect).toBe("ALLOW");
  score = 0.1;
  // The cache asks, and then the router.
  const search = admitted.search(RouteSource.TENANT, "sing");
  expect(search.judge!.of(offer("ann")).effect).toBe("DENY");
  const ben = offer("ben");
  const sings = { ...ben, among: [{ capabilityId: "sing" }, { capabilityId: "pay" }] as never };
  score = 0.9;
  const judged = search.judge!.of(sings);
  expect([judged.effect, search.judge!.of({ ...sings })]).toEqual(["DENY", judged]);
  expect(verdicts).toEqual(["ALLOW", "DENY", "ALLOW", "ALLOW", "DENY"].map((effect) => `CANDIDATE ${effect}`));
  score = 0.1;
  const decision = create(RouteDecisionSchema, { agentId: "ben", source: RouteSource.TENANT });
  search.note(decision, { ...sings });
  expect(decision.policyFacts).toMatchObject({ capability_id: "pay" });
  expect(verdicts).toHaveLength(5);
});

test("a further message is as urgent as its task, and for what the task is for", async () => {
  const rules = "[{effect: DENY, when: {task_priority: CRITICAL}}, {effect: DENY, when: {capability_id: pay}}]";
  const { policies, runtime } = openPolicies([`version: 1\nrules: ${rules}\n`]);
  const policy = createPolicy({ policies, trust: trustAll, runtime, onVerdict() {} });
  const proceed = (task: Parameters<typeof headerOf>[0]) => {
    const message = say("hello");
    return policy.proceed(context, sendRequest(message, {}), message, headerOf(task), offer("ben"));
  };
  await proceed({ taskId: "t" });
  await expect(proceed({ taskId: "t", priority: "CRITICAL" })).rejects.toMatchObject({
    metadata: { rule: "rules[0]" },
  });
  // Its agent no longer offers it.
  await expect(proceed({ taskId: "t", capabilityId: "pay" })).rejects.toMatchObject({
    metadata: { rule: "rules[1]" },
  });
});

test("a further message is asked about as well, but not whether it is approved", async () => {
  const rules =
    "[{effect: DENY, when: {message_bytes: {'>': 5}}}, {effect: DENY, when: {agent_id: ann}}, {effect: REQUIRE, then: {approval: {expires: 1h}}}]";
  const { policies, runtime } = openPolicies([`version: 1\nrules: ${rules}\n`]);
  const policy = createPolicy({ policies, trust: trustAll, runtime, onVerdict() {} });
  const proceed = (text: string, agentId: string) => {
    const message = say(text);
    return policy.proceed(context, sendRequest(message, {}), message, headerOf({ taskId: "t" }), offer(agentId));
  };
  await proceed("hello", "ben");
  await expect(proceed("hello again", "ben")).rejects.toMatchObject({
    reason: "POLICY_DENIED",
    metadata: { rule: "rules[0]" },
  });
  await expect(proceed("hello", "ann")).rejects.toMatchObject({
    reason: "POLICY_DENIED",
    metadata: { rule: "rules[1]" },
  });
});
