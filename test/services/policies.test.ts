/** The policy of a workspace as one replica holds it, and what it asks about tasks that look for another agent. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { AgentCardSchema, type Message } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { PolicyEffect } from "../../gen/signalbox/v1/policy_pb.ts";
import { RouteDecisionSchema, RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import { encode } from "../../src/domain/encode.ts";
import { sendRequest } from "../../src/sdk/client.ts";
import type { HeldFile } from "../../src/services/background/policy-files.ts";
import { createMirrorPolicy } from "../../src/services/mirror-policy.ts";
import { createPolicies, type PoliciesDeps } from "../../src/services/policies.ts";
import { createPolicy } from "../../src/services/policy.ts";
import { createPolicyReader } from "../../src/services/policy-reader.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import type { Possible } from "../../src/services/routing/offers.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { trustAll } from "../../src/services/trust.ts";
import type { StoredPolicy } from "../../src/store/policy-repository.ts";
import { say } from "../agents/calling.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { logLines } from "../store/log-lines.ts";

const denying = (agentId: string) => `version: 1\nrules: [{effect: DENY, when: {agent_id: ${agentId}}}]\n`;

/** A replica's policies over versions that the test holds, and a clock that it moves. */
function open(documents: string[]) {
  const state = { nowMs: 0, reads: 0, fails: false };
  const runtime = { ...systemRuntime(), elapsedMs: () => state.nowMs };
  const { log, lines } = logLines();
  const reloads: string[] = [];
  const files: { held: readonly HeldFile[] } = { held: [] };
  const deps: PoliciesDeps = {
    repository: {
      async latest() {
        if (state.fails) throw new Error("away");
        return documents.length;
      },
      async get(_, version) {
        state.reads += 1;
        return { version, document: documents[version - 1]! } as StoredPolicy;
      },
    },
    files,
    reader: createPolicyReader(runtime),
    runtime,
    log,
    standard: "ALLOW",
    onReload: (result) => reloads.push(result),
  };
  const policies = createPolicies(deps);
  const effectFor = (agentId: string) =>
    policies.of("default").compiled.decide("CANDIDATE", { agent_id: agentId }).effect;
  return { policies, runtime, state, lines, reloads, files, effectFor };
}

test("a version is looked for every second, and read when it is another", async () => {
  const documents = [denying("ann")];
  const { policies, state, effectFor } = open(documents);
  expect(effectFor("ann")).toBe("ALLOW");
  await policies.load("default");
  expect([effectFor("ann"), policies.of("default").version]).toEqual(["DENY", 1]);
  expect(policies.load("default")).toBeUndefined();
  documents.push(denying("ben"));
  state.nowMs = 999;
  expect(policies.load("default")).toBeUndefined();
  state.nowMs = 1_000;
  const before = policies.of("default");
  await Promise.all([policies.load("default"), policies.load("default")]);
  expect([effectFor("ann"), effectFor("ben"), state.reads]).toEqual(["ALLOW", "DENY", 2]);
  expect(before.version).toBe(1);
  state.nowMs = 2_000;
  await policies.load("default");
  expect(state.reads).toBe(2);
  state.nowMs = 3_000;
  state.fails = true;
  await expect(policies.load("default")).rejects.toThrow("away");
  expect(policies.of("default").version).toBe(2);
});

test("a version that this server cannot read keeps the one before, and is told once", async () => {
  const documents = [denying("ann"), "version: 1\nrules:\n  - effect: LATER\n"];
  const { policies, state, lines, reloads, effectFor } = open(documents.slice(0, 1));
  await policies.load("default");
  const running = open(documents);
  // One that starts now has nothing older: it lets nothing pass.
  for (const nowMs of [0, 1_000]) {
    running.state.nowMs = nowMs;
    await expect(running.policies.load("default")).rejects.toMatchObject({
      code: "UNAVAILABLE",
      reason: "POLICY_UNREADABLE",
      message: expect.stringContaining("cannot read version 2 of the policy"),
    });
  }
  expect([running.reloads, running.state.reads]).toEqual([["refused"], 1]);
  expect([reloads, lines.length]).toEqual([["loaded"], 1]);

  const older = [denying("ann")];
  const held = open(older);
  await held.policies.load("default");
  older.push(documents[1]!);
  for (const nowMs of [1_000, 2_000]) {
    held.state.nowMs = nowMs;
    await held.policies.load("default");
  }
  expect([held.effectFor("ann"), held.policies.of("default").version]).toEqual(["DENY", 1]);
  expect(held.policies.problems("default")).toMatchObject([{ line: 3, path: "rules[0].effect" }]);
  expect(held.lines.filter(({ msg }) => msg.includes("cannot read"))).toMatchObject([{ version: 2, line: 3 }]);
  older.push(denying("ben"));
  held.state.nowMs = 3_000;
  await held.policies.load("default");
  expect([held.effectFor("ben"), held.policies.problems("default")]).toEqual(["DENY", []]);
  expect(effectFor("ann")).toBe("DENY");
  expect(state.reads).toBe(1);
});

test("a long one is read while the one before holds on", async () => {
  const documents = [denying("ann")];
  const { policies, state, lines, effectFor } = open(documents);
  await policies.load("default");
  documents.push(`${denying("ben")}# ${"x".repeat(20_000)}\n`);
  state.nowMs = 1_000;
  await policies.load("default");
  expect(effectFor("ann")).toBe("DENY");
  while (!lines.some(({ msg, version }) => msg === "a policy is in force" && version === 2))
    await new Promise(setImmediate);
  state.nowMs = 2_000;
  await policies.load("default");
  expect([effectFor("ann"), effectFor("ben")]).toEqual(["ALLOW", "DENY"]);
});

test("what is wrong with the latest version is told on, though an older one is done being read after it", async () => {
  const documents = [denying("ann")];
  const { policies, state, lines, effectFor } = open(documents);
  await policies.load("default");
  documents.push(`${denying("ben")}# ${"x".repeat(20_000)}\n`);
  state.nowMs = 1_000;
  await policies.load("default");
  documents.push("version: 1\nrules:\n  - effect: LATER\n");
  state.nowMs = 2_000;
  await policies.load("default");
  expect(policies.problems("default")).toHaveLength(1);
  const isInForce = () => lines.some(({ msg, version }) => msg === "a policy is in force" && version === 2);
  await expect.poll(isInForce).toBe(true);
  expect([effectFor("ann"), effectFor("ben")]).toEqual(["ALLOW", "DENY"]);
  expect(policies.problems("default")).toMatchObject([{ line: 3, path: "rules[0].effect" }]);
});

test("who comes while the first version is read waits for that reading, and begins no other", async () => {
  const { policies, state, reloads, effectFor } = open([`${denying("ben")}# ${"x".repeat(20_000)}\n`]);
  const first = policies.load("default");
  state.nowMs = 1_000;
  await Promise.all([first, policies.load("default")]);
  expect([effectFor("ben"), reloads]).toEqual(["DENY", ["loaded"]]);
});

test("a change of the server's files holds with the next request, in every workspace", async () => {
  const { policies, files } = open([]);
  const denied = (workspaceId: string) =>
    policies.of(workspaceId).compiled.decide("CANDIDATE", { agent_id: "ann" }).effect;
  await Promise.all([policies.load("default"), policies.load("other")]);
  const read = await createPolicyReader(systemRuntime()).read(denying("ann"), "a.yaml");
  if (!("document" in read)) throw new Error("it is a policy");
  files.held = [{ name: "a.yaml", digest: "d", document: read.document, loadedAt: new Date(0) }];
  await Promise.all([policies.load("default"), policies.load("other")]);
  expect([denied("default"), denied("other")]).toEqual(["DENY", "DENY"]);
  expect(policies.of("default")).toBe(policies.of("other"));
  expect(policies.of("other").fileDigests).toEqual(["d"]);
});

const context = {
  workspaceId: "default",
  principal: { id: "alice", scopes: new Set(["*"]) },
} as unknown as RequestContext;
const offer = (agentId: string): Possible =>
  ({ agent: { agentId, card: create(AgentCardSchema) }, capability: undefined }) as unknown as Possible;

test("a task that looks for another agent is asked about by what was kept of it, and asks for no new approval", async () => {
  const rules = [
    "{effect: DENY, when: {agent_id: ann, principal_id: alice}}",
    "{effect: REQUIRE, when: {agent_id: [ben, cid]}, then: {approval: {expires: 1h}}}",
    "{effect: REQUIRE, when: {agent_id: dan}, then: {approval: {expires: 1h}}}",
  ];
  const { policies, runtime } = open([`version: 1\nrules:\n${rules.map((rule) => `  - ${rule}\n`).join("")}`]);
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
  const { policies, runtime } = open([document]);
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
  const { policies, runtime } = open([document]);
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
  const { policies, runtime } = open([`version: 1\nrules:\n${rules}`]);
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
  const { policies, runtime } = open(["version: 1\nrules: [{effect: DENY, when: {capability_id: pay}}]\n"]);
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
  const { policies, runtime } = open([`version: 1\nrules: ${rules}\n`]);
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
  const { policies, runtime } = open([`version: 1\nrules: ${rules}\n`]);
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
  const { policies, runtime } = open([`version: 1\nrules: ${rules}\n`]);
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
