/** The policies of a workspace as one replica holds them: which version is in force, and since when. */
import { expect, test } from "vitest";
import { createPolicyReader } from "../../src/services/policy-reader.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { openPolicies } from "./open-policies.ts";

const denying = (agentId: string) => `version: 1\nrules: [{effect: DENY, when: {agent_id: ${agentId}}}]\n`;

test("a version is looked for every second, and read when it is another", async () => {
  const documents = [denying("ann")];
  const { policies, state, effectFor } = openPolicies(documents);
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
  const { policies, state, lines, reloads, effectFor } = openPolicies(documents.slice(0, 1));
  await policies.load("default");
  const running = openPolicies(documents);
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
  const held = openPolicies(older);
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
  const { policies, state, lines, effectFor } = openPolicies(documents);
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
  const { policies, state, lines, effectFor } = openPolicies(documents);
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
  const { policies, state, reloads, effectFor } = openPolicies([`${denying("ben")}# ${"x".repeat(20_000)}\n`]);
  const first = policies.load("default");
  state.nowMs = 1_000;
  await Promise.all([first, policies.load("default")]);
  expect([effectFor("ben"), reloads]).toEqual(["DENY", ["loaded"]]);
});

test("a change of the server's files holds with the next request, in every workspace", async () => {
  const { policies, files } = openPolicies([]);
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
