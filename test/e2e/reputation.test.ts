/** Reputation on the road: a whole server that holds agents to it, and agents that are functions in it. */
import { hash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { beforeAll, describe, expect, test } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { type Message, type Task, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ApprovalVerdict } from "../../gen/signalbox/v1/approval_pb.ts";
import { Access } from "../../gen/signalbox/v1/registry_pb.ts";
import { FallbackCondition, FallbackStepSchema } from "../../gen/signalbox/v1/rollout_pb.ts";
import { createSignalboxClient, type SendOptions, type SignalboxClient, sendRequest } from "../../src/sdk/client.ts";
import { act } from "../conformance/scripted-agent.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
let client: SignalboxClient;

beforeAll(async () => {
  const names = ["ender", "good", "bad", "other", "first", "writer", "lone", "judged", "patient"];
  app = await startTestApp({
    flags: { "reputation.enforce": "true" },
    agents: Object.fromEntries(names.map((name) => [name, act])),
  });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  return () => app.stop();
});

const reputation = (agentId: string, capabilityId = "") => client.reputations.getReputation({ agentId, capabilityId });
type Given = NonNullable<Parameters<SignalboxClient["registry"]["addCapability"]>[0]["capability"]>;
const give = (agentId: string, capability: Given) => client.registry.addCapability({ agentId, capability });
const send = (text: string, options: SendOptions) => client.send(text, options);

/** Its trust, when so many of its tasks count. */
async function counted(agentId: string, succeeded: number, failed: number, capabilityId = "") {
  const counts = async () => {
    const found = await reputation(agentId, capabilityId);
    return [Number(found.succeeded), Number(found.failed)];
  };
  await expect.poll(counts, { timeout: 10_000, interval: 20 }).toEqual([succeeded, failed]);
  return reputation(agentId, capabilityId);
}

async function refusalOf(call: Promise<unknown>) {
  const error = await call.then(
    () => expect.unreachable("it was not refused"),
    (failure: unknown) => ConnectError.from(failure),
  );
  const [info] = error.findDetails(ErrorInfoSchema);
  return { code: error.code, reason: info?.reason, metadata: info?.metadata ?? {}, message: error.rawMessage };
}

async function fail(agentId: string, times: number): Promise<void> {
  for (let i = 0; i < times; i++) await send("fail", { agent: agentId });
}

describe("tasks count", () => {
  test("as they end: well, badly, or in a way that says nothing of the agent", async () => {
    await give("ender", { capabilityId: "cached", cacheTtlMs: 60_000n });
    const says = async (text: string, options: SendOptions & { wait?: boolean } = { agent: "ender" }) =>
      (await client.send(text, options)) as Task | Message;
    await client.reputations.setTrust({ agentId: "ender", trust: 1 });
    // Well.
    for (const text of ["complete", "message", "chunks"]) await says(text);
    const first = (await says("complete", { capability: "cached" })) as Task;
    // Nothing.
    const second = (await says("complete", { capability: "cached" })) as Task;
    expect(second.metadata).toBeDefined();
    expect(first.metadata).toBeUndefined();
    await says("reject");
    const working = (await says("work", { agent: "ender", wait: false })) as Task;
    await client.a2a.cancelTask({ id: working.id });
    const asking = (await says("ask")) as Task;
    const answered = await client.send("an answer", { taskId: asking.id, agent: "ender" });
    expect((answered as Task).status?.state).toBe(TaskState.COMPLETED);
    await says("work", { agent: "ender", routing: { deadlineMs: 300 } });
    // Badly.
    await says("fail");
    for (const text of ["throw", "rubbish", "spoil"]) await says(text).catch(() => {});
    const found = await counted("ender", 5, 4);
    expect(found).toMatchObject({ mayRead: true, capabilityId: "" });
    expect(found.windows.map(({ seconds, succeeded, failed }) => [seconds, succeeded, failed])).toEqual(
      [3_600n, 86_400n, 604_800n].map((seconds) => [seconds, 5n, 4n]),
    );
    const [hour] = found.windows;
    expect(hour!.successRate).toBeCloseTo(5 / 9);
    expect(hour!.successRateLow).toBeLessThan(hour!.successRate!);
    expect(hour!.p99Ms).toBeGreaterThan(0);
    expect(hour!.slaMet).toBeUndefined();
    const cached = await counted("ender", 1, 0, "cached");
    expect(cached.windows[0]).toMatchObject({ succeeded: 1n, slaAdherence: 1, slaMet: true });
  });

  test("against the agent that failed them, when another has done them", async () => {
    for (const agentId of ["first", "good"]) await give(agentId, { capabilityId: "chain", safeToRepeat: true });
    const step = create(FallbackStepSchema, {
      target: { case: "agentId", value: "good" },
      conditions: [FallbackCondition.FAILED],
    });
    await client.rollouts.updateRollout({ rollout: { capabilityId: "chain", fallbackChain: [step] } });
    const wishes = { "urn:signalbox:a2a:routing:v1": { strategy: "LOWEST_COST" } };
    await give("good", { capabilityId: "chain", safeToRepeat: true, costPerTask: "9" });
    const done = (await client.send("fail", { capability: "chain", metadata: wishes })) as Task;
    expect(done.status?.state).toBe(TaskState.FAILED);
    await counted("first", 0, 1, "chain");
    await counted("good", 0, 1, "chain");
  });
});

describe("an agent that is not trusted", () => {
  test("is a candidate no more, and the record says so; a strategy by reputation prefers who is trusted", async () => {
    for (const agentId of ["bad", "other"]) await give(agentId, { capabilityId: "shared" });
    const preview = (strategy = "LEAST_LOAD") =>
      client.routes.previewRoute({ request: sendRequest("complete", { capability: "shared", routing: { strategy } }) });
    await fail("bad", 1);
    await counted("bad", 0, 1);
    const known = async () =>
      (await preview("REPUTATION")).candidates.map(
        ({ agentId, reputation: score }) => `${agentId} ${score?.toFixed(2)}`,
      );
    await expect.poll(known, { timeout: 5_000 }).toEqual(["other undefined", "bad 0.33"]);
    await fail("bad", 2);
    await counted("bad", 0, 3);
    await expect
      .poll(async () => (await preview()).cuts, { timeout: 5_000 })
      .toMatchObject([{ reason: "TRUST", count: 1, agentIds: ["bad"] }]);
    expect((await preview()).agentId).toBe("other");
  });

  test("is refused by name, with its trust, the threshold and what helps; and gets tasks again when it is trusted", async () => {
    await fail("lone", 3);
    await counted("lone", 0, 3);
    const preview = () => client.routes.previewRoute({ request: sendRequest("complete", { agent: "lone" }) });
    await expect.poll(async () => (await preview()).cuts, { timeout: 5_000 }).toMatchObject([{ reason: "TRUST" }]);
    const refusal = await refusalOf(send("complete", { agent: "lone" }));
    expect(refusal).toMatchObject({
      code: Code.FailedPrecondition,
      reason: "AGENT_NOT_TRUSTED",
      metadata: { agentId: "lone", access: "READ", threshold: "0.3" },
    });
    expect(refusal.message).toMatch(
      /^Agent "lone" is not trusted enough: its trust is 0\.\d+, and READ needs 0\.3\. Left alone, it is trusted again in \d+ min\. Somebody who knows better can say so: signalbox reputation set-trust lone 0\.3\.$/,
    );
    await client.reputations.setTrust({ agentId: "lone", trust: 0.3, comment: "it was the network" });
    await send("complete", { agent: "lone" });
    await counted("lone", 1, 3);
  });

  test("with a capability that is declared to write needs more, and one of which nobody says it does not", async () => {
    await give("writer", { capabilityId: "write", access: Access.WRITE });
    await give("writer", { capabilityId: "read", access: Access.READ });
    const refusal = await refusalOf(send("complete", { capability: "write" }));
    expect(refusal).toMatchObject({
      reason: "AGENT_NOT_TRUSTED",
      metadata: { trust: "0.5", threshold: "0.8", capabilityId: "write" },
    });
    expect(refusal.message).not.toContain("Left alone");
    await send("complete", { capability: "read" });
    await send("complete", { capability: "writer" });
    await client.reputations.setTrust({ agentId: "writer", capabilityId: "write", trust: 0.8 });
    await send("complete", { capability: "write" });
    expect(await reputation("writer", "write")).toMatchObject({ mayRead: true, mayWrite: true });
    expect(await reputation("writer")).toMatchObject({ mayRead: true, mayWrite: false });
  });

  test("beside others that are not: the error counts them", async () => {
    for (const agentId of ["first", "other"]) await give(agentId, { capabilityId: "danger", access: Access.WRITE });
    const refusal = await refusalOf(send("complete", { capability: "danger" }));
    expect(refusal).toMatchObject({ reason: "NO_ROUTE", metadata: { TRUST: "2" } });
    expect(refusal.message).toContain("2 are not trusted enough (signalbox reputation list)");
  });
});

describe("judges", () => {
  test("say how good a task was, once for each report, and of whom", async () => {
    const task = (await send("complete", { capability: "judged" })) as Task;
    await counted("judged", 1, 0);
    const report = { taskId: task.id, quality: 0, weight: 2, reportId: "report-1", comment: "all wrong" };
    const judged = await client.reputations.reportOutcome(report);
    expect(judged).toMatchObject({ agentId: "judged", capabilityId: "judged", succeeded: 1n, failed: 0n });
    expect(judged.trust).toBeCloseTo(0.35, 2);
    const again = await client.reputations.reportOutcome({ ...report, quality: 1 });
    expect(again.trust).toBeCloseTo(0.35, 2);
    const { trust } = await client.reputations.reportOutcome({ agentId: "judged", quality: 1, weight: 2 });
    expect(trust).toBeCloseTo(0.45, 2);
  });

  test("leave in the audit log what they did, and of what they wrote the digest", async () => {
    await client.reputations.setTrust({ agentId: "judged", trust: 0.6, comment: "as agreed" });
    await client.reputations.reportOutcome({ agentId: "judged", quality: 1, reportId: "report-2", comment: "neat" });
    await client.reputations.reportOutcome({ agentId: "judged", quality: 1, reportId: "report-3" });
    const details = async (action: string, count: number) =>
      (await client.audit.listEntries({ targetId: "judged", action })).entries
        .slice(0, count)
        .map(({ detail }) => JSON.parse(detail));
    await expect
      .poll(() => details("reputation.set-trust", 1))
      .toEqual([{ trust: 0.6, comment: hash("sha256", "as agreed") }]);
    await expect
      .poll(() => details("reputation.report", 2))
      .toEqual([
        { report: "report-3", quality: 1, weight: 1 },
        { report: "report-2", quality: 1, weight: 1, comment: hash("sha256", "neat") },
      ]);
  });

  test("are refused what is wrong, by field", async () => {
    const reasons = async (request: Parameters<typeof client.reputations.reportOutcome>[0]) => {
      const { reason, message } = await refusalOf(client.reputations.reportOutcome(request));
      return `${reason} ${message}`;
    };
    expect(await reasons({ quality: 1 })).toMatch(/^INVALID_ARGUMENT taskId: /);
    expect(await reasons({ agentId: "good", quality: 1.1 })).toMatch(/quality: must be from 0/);
    expect(await reasons({ agentId: "good", quality: Number.NaN })).toMatch(/quality: must be from 0/);
    expect(await reasons({ agentId: "good", quality: 1, weight: 101 })).toMatch(/weight: must be above 0/);
    expect(await reasons({ agentId: "good", quality: 1, weight: -1 })).toMatch(/weight: must be above 0/);
    expect(await reasons({ agentId: "good", taskId: "x", quality: 1 })).toMatch(/agentId: is that of the task/);
    expect(await reasons({ agentId: "good", quality: 1, reportId: "x".repeat(129) })).toMatch(/reportId/);
    expect(await reasons({ agentId: "nobody", quality: 1 })).toMatch(/^AGENT_NOT_FOUND/);
    expect(await reasons({ agentId: "good", capabilityId: "no-such", quality: 1 })).toMatch(/^CAPABILITY_NOT_FOUND/);
    expect(await reasons({ taskId: "nothing", quality: 1 })).toMatch(/^TASK_NOT_FOUND/);
    const { id } = (await client.send("work", { agent: "good", wait: false })) as Task;
    expect(await reasons({ taskId: id, quality: 1 })).toMatch(/^TASK_NOT_ENDED/);
    await client.a2a.cancelTask({ id });
    expect(await refusalOf(client.reputations.setTrust({ agentId: "good", trust: 2 }))).toMatchObject({
      reason: "INVALID_ARGUMENT",
    });
    expect(await refusalOf(client.reputations.setTrust({ agentId: "nobody", trust: 1 }))).toMatchObject({
      reason: "AGENT_NOT_FOUND",
    });
    expect(await refusalOf(reputation("nobody"))).toMatchObject({ reason: "AGENT_NOT_FOUND" });
    expect(await refusalOf(client.reputations.listReputations({ pageToken: "x" }))).toMatchObject({
      reason: "INVALID_ARGUMENT",
    });
  });
});

describe("reputation is shown", () => {
  test("of agents and of what they offer", async () => {
    await client.reputations.setTrust({ agentId: "good", trust: 0.75 });
    await expect.poll(async () => (await client.registry.getAgent({ agentId: "good" })).standing?.trust).toBe(0.75);
    const { agents } = await client.registry.searchAgents({ capabilityId: "good" });
    expect(agents.map(({ agent }) => agent?.standing?.trust)).toEqual([0.75]);
    const { capabilities } = await client.registry.listCapabilities({ agentId: "good", capabilityId: "good" });
    expect(capabilities.map(({ standing }) => standing?.trust)).toEqual([0.75]);
    const everybody = (await client.registry.listAgents({})).agents;
    expect(everybody.every(({ standing }) => standing !== undefined)).toBe(true);
  });

  test("in pages, over REST as well, and as metrics", async () => {
    const all = (await client.reputations.listReputations({})).reputations;
    const paged: string[] = [];
    for (let pageToken = ""; ; ) {
      const page = await client.reputations.listReputations({ pageSize: 2, pageToken });
      paged.push(...page.reputations.map((one) => `${one.agentId}/${one.capabilityId}`));
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    expect(paged).toEqual(all.map((one) => `${one.agentId}/${one.capabilityId}`));
    const rest = async (path: string, body?: object) => {
      const response = await fetch(`${app.httpUrl}/v1/${path}`, {
        ...(body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
      });
      return response.json();
    };
    expect(await rest("agents/good/reputation")).toMatchObject({ agentId: "good", trust: 0.75 });
    expect(await rest("agents/good/capabilities/good/reputation")).toMatchObject({ capabilityId: "good", trust: 0.75 });
    expect(await rest("agents/good/reputation:setTrust", { trust: 0.7 })).toMatchObject({ trust: 0.7 });
    expect(await rest("outcomes", { agentId: "good", quality: 1 })).toMatchObject({ trust: 0.75 });
    const metrics = await (await fetch(`${app.httpUrl}/metrics`)).text();
    expect(metrics).toMatch(/^signalbox_reputation_trust\{workspace="default",agent="lone"\} 0\.35/m);
    expect(metrics).toMatch(/^signalbox_reputation_outcomes_total\{outcome="bad"\} [1-9]/m);
    expect(metrics).toMatch(/^signalbox_outbox_lag_rows\{duty="reputation"\} \d+$/m);
  });
});

describe("the command line", () => {
  const signalbox = (...args: string[]) => runCommand(app.httpUrl, ["reputation", ...args]);

  test("lists, shows, reports and sets", async () => {
    const listed = await signalbox("list");
    expect(listed.out).toMatch(
      /^AGENT +CAPABILITY +TRUST +MAY +SCORE +SUCCEEDED +FAILED\nbad +\(all\) +0\.2\d\d +nothing +0\.\d{3} +0 +3\n/,
    );
    expect((await signalbox("list", "--agent", "lone")).out.split("\n")).toHaveLength(3);
    const shown = await signalbox("get", "ender");
    expect(shown.out).toMatch(
      /^Agent +ender\nCapability +\(all\)\nTrust +0\.\d{3}, enough for READ(, WRITE)?\nScore +0\.\d{3}\n/,
    );
    expect(shown.out).toMatch(
      /\nLAST +SUCCEEDED +FAILED +RATE \(95 %\) +P50 +P95 +P99 +IN SLA\n1 h +5 +4 +55\.6 \(26\.7 to 81\.1\) +\d+ ms/,
    );
    const set = await signalbox("set-trust", "other", "0.9", "--comment", "known from elsewhere", "--json");
    expect(JSON.parse(set.out)).toMatchObject({ agentId: "other", trust: 0.9, mayWrite: true });
    const report = await signalbox("report", "--agent", "other", "--quality", "0", "--id", "r-9");
    expect(report.out).toMatch(/^Agent +other\nCapability +\(all\)\nTrust +0\.800, enough for READ, WRITE\n/);
    expect(JSON.parse((await signalbox("list", "--json")).out).reputations.length).toBeGreaterThan(5);
  });

  test("says what is wrong", async () => {
    expect(await signalbox("get", "nobody")).toMatchObject({
      code: 1,
      err: expect.stringContaining("AGENT_NOT_FOUND"),
    });
    expect(await signalbox("report", "--quality", "1")).toMatchObject({
      code: 2,
      err: expect.stringContaining("--task and --agent"),
    });
    expect(await signalbox("report", "--agent", "good", "--quality", "high")).toMatchObject({ code: 2 });
    expect(await signalbox("set-trust", "good", "much")).toMatchObject({ code: 2 });
    expect(await signalbox("set-trust", "good", "7")).toMatchObject({
      code: 1,
      err: expect.stringContaining("from 0 to 1"),
    });
  });
});

test("who has lost its trust while a task waited for its approval does not get it", async () => {
  const document = `
version: 1
rules:
  - {effect: REQUIRE, scope: CAPABILITY, when: {capability_id: asked}, then: {approval: {expires: 1h, self: true}}}
`;
  await give("patient", { capabilityId: "asked" });
  await client.policies.putPolicy({ policy: { document } });
  const approve = async (task: Task) => {
    const { approvals } = await client.approvals.listApprovals({ taskId: task.id });
    const { approvalId } = approvals[0]!;
    await client.approvals.decideApproval({ approvalId, verdict: ApprovalVerdict.APPROVE });
    return client.a2a.getTask({ id: task.id });
  };
  const waiting = async () => (await send("complete", { capability: "asked" })) as Task;
  const [first, second] = [await waiting(), await waiting()];
  expect((await approve(first)).status?.state).not.toBe(TaskState.REJECTED);
  await client.reputations.setTrust({ agentId: "patient", trust: 0.1 });
  const { status } = await approve(second);
  expect(status?.state).toBe(TaskState.REJECTED);
  expect(status?.message?.parts[0]?.content.value).toMatch(
    /^Approved, but it cannot begin: Agent "patient" is not trusted enough for capability "asked"/,
  );
});
