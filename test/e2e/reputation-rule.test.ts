/** The rule by which agents are trusted, as a policy sets it, and servers that keep no reputation. */
import { beforeAll, describe, expect, test } from "vitest";
import { createSignalboxClient, type SignalboxClient, sendRequest } from "../../src/sdk/client.ts";
import { act } from "../conformance/scripted-agent.ts";
import { failureOf } from "../fault/said.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const POLICY = `
version: 1
rules:
  - effect: DENY
    scope: AGENT
    when: {agent_id: scored, reputation_score: {"<": 0.5}}
    description: Only who does well
reputation: {recovery: 6s, loss: 0.2}
`;

let app: TestApp;
let client: SignalboxClient;

beforeAll(async () => {
  app = await startTestApp({ flags: { "reputation.enforce": "true" }, agents: { worker: act, scored: act } });
  client = createSignalboxClient({ baseUrl: app.httpUrl, reconnects: 0 });
  await client.policies.putPolicy({ policy: { document: POLICY } });
  return () => app.stop();
});

const sees = (agentId: string) => client.reputations.getReputation({ agentId });
const preview = (agent: string) => client.routes.previewRoute({ request: sendRequest("?", { agent }) });
const cutsOf = async (agent: string) => (await preview(agent)).cuts.map(({ reason }) => reason);

test("an agent that fails is cut, and comes back by itself as fast as the rule says", async () => {
  for (let i = 0; i < 2; i++) await client.send("fail", { agent: "worker" });
  await expect.poll(async () => (await sees("worker")).failed, { timeout: 5_000 }).toBe(2n);
  await expect.poll(() => cutsOf("worker"), { timeout: 5_000, interval: 50 }).toEqual(["TRUST"]);
  const refusal = await failureOf(client.send("complete", { agent: "worker" }));
  expect(refusal).toMatchObject({ reason: "AGENT_NOT_TRUSTED", metadata: { threshold: "0.3" } });
  // Of 0.4 that were lost a half is to come back, for which it has 6 s.
  expect(Number(refusal.metadata!.trustedInMs)).toBeLessThanOrEqual(6_000);
  await expect.poll(() => cutsOf("worker"), { timeout: 10_000, interval: 50 }).toEqual([]);
  await client.send("complete", { agent: "worker" });
  expect((await sees("worker")).mayRead).toBe(true);
});

test("a policy goes by the score that is shown", async () => {
  await client.send("complete", { agent: "scored" });
  await client.send("fail", { agent: "scored" });
  await expect.poll(async () => (await sees("scored")).failed, { timeout: 5_000 }).toBe(1n);
  // One well and one badly, the later one counting a little more.
  expect((await sees("scored")).score).toBeLessThan(0.5);
  await expect.poll(() => cutsOf("scored"), { timeout: 5_000, interval: 50 }).toEqual(["POLICY"]);
  const { candidates } = await preview("worker");
  expect(candidates[0]!.reputation).toBeCloseTo((await sees("worker")).score, 2);
});

describe("where no reputation is kept", () => {
  let off: TestApp;
  beforeAll(async () => {
    off = await startTestApp({
      flags: { "reputation.enforce": "true", "reputation.enabled": "false" },
      agents: { worker: act },
    });
    return () => off.stop();
  });

  test("all are trusted, nobody stands anywhere, and whoever asks is told", async () => {
    const { send, reputations, registry } = createSignalboxClient({ baseUrl: off.httpUrl, reconnects: 0 });
    for (let i = 0; i < 4; i++) await send("fail", { agent: "worker" });
    await send("complete", { agent: "worker" });
    for (const call of [
      reputations.getReputation({ agentId: "worker" }),
      reputations.listReputations({}),
      reputations.reportOutcome({ agentId: "worker", quality: 1 }),
      reputations.setTrust({ agentId: "worker", trust: 1 }),
    ]) {
      expect(await failureOf(call)).toMatchObject({ code: "FailedPrecondition", reason: "REPUTATION_DISABLED" });
    }
    expect((await registry.getAgent({ agentId: "worker" })).standing).toBeUndefined();
    expect((await registry.searchAgents({ capabilityId: "worker" })).agents[0]!.agent!.standing).toBeUndefined();
    const metrics = await (await fetch(`${off.httpUrl}/metrics`)).text();
    expect(metrics).not.toContain('duty="reputation"');
    expect(metrics).not.toMatch(/^signalbox_reputation_trust\{/m);
  });
});
