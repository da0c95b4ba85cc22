/** What a policy does to requests, and how it is kept: a whole server, with agents that are functions in it. */
import type { JsonObject } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import type { Task } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { PolicyEffect, PolicyPhase } from "../../gen/signalbox/v1/policy_pb.ts";
import { FallbackCondition } from "../../gen/signalbox/v1/rollout_pb.ts";
import { RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import { createSignalboxClient, type SignalboxClient, sendRequest } from "../../src/sdk/client.ts";
import { echoAgent } from "./echo-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const { ALLOW, DENY, REQUIRE_APPROVAL } = PolicyEffect;

let app: TestApp;
let client: SignalboxClient;

beforeAll(async () => {
  const names = ["ann", "ben", "cid"];
  app = await startTestApp({ agents: Object.fromEntries(names.map((name) => [name, echoAgent(name)])) });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  const offers = { ann: "translate", ben: "translate", cid: "sing" };
  for (const [agentId, capabilityId] of Object.entries(offers)) {
    const capability = { capabilityId, costPerTask: agentId === "ann" ? "0.5" : "0.1", labels: { of: agentId } };
    await client.registry.addCapability({ agentId, capability });
  }
  return () => app.stop();
});
afterEach(() => put(""));

const put = (document: string, etag = "") => client.policies.putPolicy({ policy: { document, etag } });
const policy = (...rules: JsonObject[]) => put(JSON.stringify({ version: 1, rules }));

const refusal = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable("it was not refused"),
    (error: unknown) => ConnectError.from(error),
  );
const infoOf = (error: ConnectError) => error.findDetails(ErrorInfoSchema)[0];

const translate = { capability: "translate" };
const heardBy = async (sent: ReturnType<SignalboxClient["send"]>) => {
  const content = ((await sent) as Task).artifacts[0]?.parts[0]?.content;
  return content?.case === "text" ? content.value.split(" ")[0] : undefined;
};
const decisionOf = async (sent: ReturnType<SignalboxClient["send"]>) => {
  const { id } = (await sent) as Task;
  return client.routes.getRouteDecision({ taskId: id });
};

describe("a request", () => {
  test("that a rule denies is refused, with the rule and the version, and nothing is stored", async () => {
    const { version } = await policy({
      effect: "DENY",
      when: { message_bytes: { ">": 20 } },
      description: "Short messages only",
    });
    const { totalSize: before } = await client.a2a.listTasks({});
    const error = await refusal(client.send("a message of more than twenty bytes", translate));
    expect(error.code).toBe(Code.PermissionDenied);
    expect(error.rawMessage).toMatch(
      /^Policy does not let you ask for this\. Refused by rules\[0\] \(Short messages only\)\./,
    );
    expect(infoOf(error)).toMatchObject({
      reason: "POLICY_DENIED",
      metadata: { rule: "rules[0]", description: "Short messages only", policyVersion: String(version) },
    });
    expect((await client.a2a.listTasks({})).totalSize).toBe(before);
    expect(infoOf(await refusal(client.send("another message that is too long", { agent: "cid" })))).toMatchObject({
      reason: "POLICY_DENIED",
    });
    const preview = client.routes.previewRoute({ request: sendRequest("one that is too long as well", {}) });
    expect(infoOf(await refusal(preview))).toMatchObject({ reason: "POLICY_DENIED" });
    expect(await heardBy(client.send("short", translate))).toBeDefined();
    const metrics = await (await fetch(`${app.httpUrl}/metrics`)).text();
    expect(metrics).toMatch(/^signalbox_policy_verdicts_total\{phase="ADMISSION",effect="DENY"\} 3$/m);
    expect(metrics).toMatch(/^signalbox_policy_reloads_total\{result="loaded"\} [1-9]/m);
    expect(metrics).toMatch(/^signalbox_policy_files_valid 1$/m);
  });

  test("goes to an agent that the policy allows, and the decision says by which rules", async () => {
    const { version } = await policy(
      { effect: "DENY", scope: "AGENT", when: { agent_id: "ann" }, description: "Not Ann" },
      { effect: "ALLOW", when: { cost: { "<=": "0.1" } } },
    );
    for (let i = 0; i < 4; i++) expect(await heardBy(client.send("hello", translate))).toBe("ben");
    const decision = await decisionOf(client.send("hello", translate));
    expect(decision).toMatchObject({
      agentId: "ben",
      cuts: [{ reason: "POLICY", count: 1, agentIds: ["ann"], policyRule: "rules[0]" }],
      policy: {
        effect: ALLOW,
        policyVersion: version,
        fileDigests: [],
        rules: [{ path: "rules[1]", effect: "ALLOW" }],
      },
      policyFacts: { principal_id: "anonymous", message_bytes: 5, labels: { of: "ben" } },
    });
    expect(await client.routes.previewRoute({ request: sendRequest("hello", translate) })).toMatchObject({
      agentId: "ben",
      policy: { policyVersion: version },
    });
  });

  test("is refused when the policy refuses all who could take it, and says why", async () => {
    await policy({ effect: "DENY", when: { capability_id: "translate" }, description: "No translations" });
    for (const options of [translate, { capability: "translate", routing: { labels: { of: "ben" } } }]) {
      const error = await refusal(client.send("hello", options));
      expect(infoOf(error)).toMatchObject({ reason: "POLICY_DENIED", metadata: { rule: "rules[0]" } });
      expect(error.rawMessage).toContain("Policy does not let agent");
    }
    const preview = await client.routes.previewRoute({ request: sendRequest("hello", translate) });
    expect(preview).toMatchObject({ agentId: "", cuts: [{ reason: "POLICY", count: 2, policyRule: "rules[0]" }] });
    expect(await heardBy(client.send("hello", { capability: "sing" }))).toBe("cid");
  });

  test("for an agent by its name alone is refused where anything is that the agent offers", async () => {
    await policy({ effect: "DENY", when: { capability_id: "sing" }, description: "No songs" });
    const error = await refusal(client.send("hello", { agent: "cid" }));
    expect(infoOf(error)).toMatchObject({ reason: "POLICY_DENIED", metadata: { rule: "rules[0]" } });
    expect(await heardBy(client.send("hello", { agent: "ann" }))).toBe("ann");
    const kept = await decisionOf(client.send("hello", { agent: "ann" }));
    expect(kept).toMatchObject({ agentId: "ann", policy: { effect: ALLOW } });
  });

  test("falls back only to whom the policy allows", async () => {
    const steps = (agentId: string) => ({ target: { case: "agentId" as const, value: agentId } });
    const fallbackChain = ["ben", "cid"].map((agentId) => ({
      ...steps(agentId),
      conditions: [FallbackCondition.NO_CANDIDATE],
    }));
    await client.rollouts.updateRollout({ rollout: { capabilityId: "sing", fallbackChain } });
    try {
      await policy({ effect: "DENY", when: { agent_id: "cid" } });
      expect(await heardBy(client.send("hello", { capability: "sing" }))).toBe("ben");
      // Ben does not offer it, but would have the task for it all the same.
      await policy({ effect: "DENY", when: { capability_id: "sing" } });
      expect(infoOf(await refusal(client.send("hello", { capability: "sing" })))).toMatchObject({
        reason: "POLICY_DENIED",
      });
      await policy({ effect: "DENY", when: { agent_id: ["cid", "ben"] } });
      expect(infoOf(await refusal(client.send("hello", { capability: "sing" })))).toMatchObject({
        reason: "POLICY_DENIED",
      });
    } finally {
      await client.rollouts.deleteRollout({ capabilityId: "sing" });
    }
  });

  test("for no capability falls back only to agents that are allowed for all that they offer", async () => {
    const step = { target: { case: "agentId" as const, value: "cid" }, conditions: [FallbackCondition.NO_CANDIDATE] };
    await client.rollouts.updateRollout({ rollout: { fallbackChain: [step] } });
    await client.registry.setDefaultAgent({ agentId: "ann" });
    try {
      const denied = { agent_id: "ann" };
      await policy({ effect: "DENY", when: denied });
      expect(await heardBy(client.send("xyzzy"))).toBe("cid");
      await policy({ effect: "DENY", when: denied }, { effect: "DENY", when: { capability_id: "sing" } });
      expect(infoOf(await refusal(client.send("xyzzy")))).toMatchObject({ reason: "POLICY_DENIED" });
    } finally {
      await client.rollouts.deleteRollout({});
    }
  });

  test("is allowed by rules alone where the default is DENY", async () => {
    await put("version: 1\ndefault: DENY\nrules:\n  - effect: ALLOW\n    when: {capability_id: sing}\n");
    expect(await heardBy(client.send("hello", { capability: "sing" }))).toBe("cid");
    const error = await refusal(client.send("hello", translate));
    expect(infoOf(error)?.reason).toBe("POLICY_DENIED");
    expect(error.rawMessage).toContain("Refused by default: no rule decides.");
  });

  test("prefers an agent that needs no approval", async () => {
    await put("version: 1\nrules:\n  - {effect: REQUIRE, when: {agent_id: ann}, then: {approval: {expires: 1h}}}\n");
    for (let i = 0; i < 4; i++) {
      const decision = await decisionOf(client.send("hello", translate));
      expect(decision).toMatchObject({ agentId: "ben", cuts: [{ reason: "APPROVAL", agentIds: ["ann"] }] });
    }
    const preview = await client.routes.previewRoute({ request: sendRequest("hello", { agent: "ann" }) });
    expect(preview).toMatchObject({ agentId: "ann", policy: { effect: REQUIRE_APPROVAL } });
  });

  test("gets no earlier result of an agent that the policy refuses by now", async () => {
    await client.registry.addCapability({
      agentId: "cid",
      capability: { capabilityId: "recall", cacheTtlMs: 60_000n },
    });
    const recall = { capability: "recall" };
    await client.send("hello", recall);
    expect((await decisionOf(client.send("hello", recall))).source).toBe(RouteSource.CACHE);
    await policy({ effect: "DENY", when: { agent_id: "cid" } });
    expect(infoOf(await refusal(client.send("hello", recall)))).toMatchObject({ reason: "POLICY_DENIED" });
    await policy({ effect: "DENY", when: { principal_id: "anonymous" } });
    expect(infoOf(await refusal(client.send("hello", recall)))).toMatchObject({ reason: "POLICY_DENIED" });
    const { version } = await put("");
    const again = await decisionOf(client.send("hello", recall));
    expect(again.source).toBe(RouteSource.CACHE);
    expect(again.policy).toBeUndefined();
    expect(version).toBeGreaterThan(0);
  });
});

describe("the policy of a workspace", () => {
  test("is versioned: each change is one, and an earlier one can be had again", async () => {
    const first = await put("version: 1\nrules: []\n# first\n");
    const second = await put("version: 1\nrules: [{effect: DENY}]\nbudgets: []\n", first.etag);
    expect(second).toMatchObject({ version: first.version + 1, ruleCount: 1, budgetCount: 0, author: "anonymous" });
    expect(second.digest).toMatch(/^[0-9a-f]{64}$/);
    expect(await client.policies.getPolicy({})).toMatchObject({ version: second.version, etag: second.etag });
    expect((await client.policies.getPolicy({ version: first.version })).document).toContain("# first");
    // What holds already makes no new one.
    expect((await put(second.document)).version).toBe(second.version);
    const back = await client.policies.rollbackPolicy({ version: first.version });
    expect(back).toMatchObject({ version: second.version + 1, comment: `Rollback to version ${first.version}` });
    expect(back.document).toContain("# first");
    const { versions, nextPageToken } = await client.policies.listPolicyVersions({ pageSize: 2 });
    expect(versions.map(({ version, document }) => [version, document])).toEqual([
      [back.version, ""],
      [second.version, ""],
    ]);
    const next = await client.policies.listPolicyVersions({ pageSize: 2, pageToken: nextPageToken });
    expect(next.versions[0]?.version).toBe(first.version);
    for (const number of ["1e30", "0", "2147483648", "-1"]) {
      const strange = Buffer.from(number).toString("base64url");
      const listing = client.policies.listPolicyVersions({ pageToken: strange });
      expect((await refusal(listing)).rawMessage).toContain("pageToken: is not a nextPageToken");
    }
    const none = await client.policies.rollbackPolicy({ version: 0, comment: "all off" });
    expect(none).toMatchObject({ document: "", comment: "all off", ruleCount: 0 });
  });

  test("is not changed over the head of somebody else", async () => {
    const read = await put("version: 1\nrules: []\n# read\n");
    await put("version: 1\nrules: []\n# faster\n");
    const late = await refusal(put("version: 1\nrules: []\n# late\n", read.etag));
    expect([late.code, infoOf(late)?.reason]).toEqual([Code.Aborted, "ETAG_MISMATCH"]);
    const rollback = client.policies.rollbackPolicy({ version: 0, etag: read.etag });
    expect(infoOf(await refusal(rollback))?.reason).toBe("ETAG_MISMATCH");
    const many = await Promise.all(Array.from({ length: 4 }, (_, i) => put(`version: 1\nrules: []\n# ${i}\n`)));
    expect(new Set(many.map(({ version }) => version)).size).toBe(4);
  });

  test("keeps what holds when a draft is wrong, and tells each mistake with its place", async () => {
    const { version } = await policy({ effect: "DENY", when: { agent_id: "ann" } });
    const draft = "version: 1\nrules:\n  - effect: FORBID\n  - effect: DENY\n    when:\n      agent: ann\n";
    const error = await refusal(put(draft));
    expect(error.code).toBe(Code.InvalidArgument);
    expect(error.rawMessage).toMatch(/policy\.document: line 3, column \d+: rules\[0\]\.effect: /);
    expect(error.rawMessage).toMatch(/policy\.document: line 6, column \d+: rules\[1\]\.when\.agent: /);
    expect((await client.policies.getPolicy({})).version).toBe(version);
    const { problems, problemCount } = await client.policies.validatePolicy({ document: draft });
    expect(problemCount).toBe(2);
    expect(problems).toMatchObject([
      { line: 3, path: "rules[0].effect" },
      { line: 6, path: "rules[1].when.agent" },
    ]);
    const fine = await client.policies.validatePolicy({ document: "version: 1\nrules: [{effect: DENY}]\n" });
    expect(fine).toMatchObject({ problems: [], problemCount: 0, ruleCount: 1 });
    expect(infoOf(await refusal(client.policies.getPolicy({ version: 9999 })))?.reason).toBe(
      "POLICY_VERSION_NOT_FOUND",
    );
    const comment = "x".repeat(1025);
    const long = await refusal(client.policies.putPolicy({ policy: { document: "", comment } }));
    expect(long.rawMessage).toContain("policy.comment");
  });

  test("refuses what would eat the server: bombs of aliases, and a document without end", async () => {
    const bomb = ["version: 1", "rules: []", "a: &a [x,x,x,x,x,x,x,x,x,x]"];
    for (let i = 1; i < 30; i++)
      bomb.push(
        `b${i}: &b${i} [${Array(10)
          .fill(i === 1 ? "*a" : `*b${i - 1}`)
          .join(",")}]`,
      );
    expect((await refusal(put(bomb.join("\n")))).code).toBe(Code.InvalidArgument);
    const deep = `version: 1\nrules: ${"[".repeat(50_000)}${"]".repeat(50_000)}`;
    expect((await refusal(put(deep))).code).toBe(Code.InvalidArgument);
    expect(await heardBy(client.send("hello", { capability: "sing" }))).toBe("cid");
  });

  test("may be 100,000 lines long, and nobody waits while it is read", async () => {
    const rule = (i: number) =>
      `- effect: DENY\n  scope: AGENT\n  when:\n    agent_id: agent-${i}\n  description: no ${i}\n`;
    const document = `version: 1\nrules:\n${Array.from({ length: 20_000 }, (_, i) => rule(i)).join("")}`;
    let isRead = false;
    const putting = put(document).finally(() => {
      isRead = true;
    });
    expect(await heardBy(client.send("hello", { capability: "sing" }))).toBe("cid");
    expect(isRead).toBe(false);
    const { ruleCount } = await putting;
    expect(ruleCount).toBe(20_000);
    expect(await heardBy(client.send("hello", { capability: "sing" }))).toBe("cid");
  });
});

describe("a policy that is tried", () => {
  test("decides about facts that are given, by what holds or by a draft", async () => {
    const { version } = await policy({ effect: "DENY", when: { agent_id: "ann", cost: { ">": 1 } } });
    const facts = { agent_id: "ann", cost: "1.000001", labels: { tier: "gold" } };
    const denied = await client.policies.evaluatePolicy({ facts });
    expect(denied).toMatchObject({ effect: DENY, policyVersion: version, rules: [{ path: "rules[0]", line: 1 }] });
    expect((await client.policies.evaluatePolicy({ facts: { ...facts, cost: 1 } })).effect).toBe(ALLOW);
    const document = "version: 1\nrules: [{effect: DENY, when: {labels.tier: gold}}]";
    expect(await client.policies.evaluatePolicy({ facts, document })).toMatchObject({ effect: DENY, policyVersion: 0 });
    const early = await client.policies.evaluatePolicy({ facts, document, phase: PolicyPhase.ADMISSION });
    expect(early.effect).toBe(ALLOW);
    const error = await refusal(
      client.policies.evaluatePolicy({ facts: { agent: "ann", hour: "late", weekday: "Mo" } }),
    );
    expect(error.rawMessage).toMatch(
      /facts\.agent: is no fact.*facts\.hour: must be a whole number from 0 to 23.*facts\.weekday: must be one of/s,
    );
    expect((await refusal(client.policies.evaluatePolicy({ document: "version: 2" }))).rawMessage).toContain(
      "document: ",
    );
  });

  test("decides past tasks once more, from what was known of them", async () => {
    const startTime = (await client.routes.previewRoute({ request: sendRequest("x", translate) })).time!;
    const sent = [];
    for (const text of ["one", "two", "three and more"]) sent.push((await client.send(text, translate)) as Task);
    const document = "version: 1\nrules: [{effect: DENY, when: {message_bytes: {'>': 10}}, description: too long}]";
    const replay = await client.policies.replayPolicy({ document, startTime });
    expect(replay).toMatchObject({ taskCount: 3, unknownCount: 0, changedCount: 1, hasMore: false });
    expect(replay.changes).toMatchObject([
      { taskId: sent[2]!.id, before: { effect: ALLOW }, after: { effect: DENY, rules: [{ description: "too long" }] } },
    ]);
    expect(await client.policies.replayPolicy({ document, startTime, limit: 2 })).toMatchObject({
      taskCount: 2,
      changedCount: 1,
      hasMore: true,
    });
    const same = await client.policies.replayPolicy({ document: "", startTime });
    expect(same.changedCount).toBe(0);
    const wrong = client.policies.replayPolicy({ document: "version: 2", startTime, limit: 10_001 });
    expect((await refusal(wrong)).rawMessage).toContain("limit: must be from 1 to 10000");
  });
});
