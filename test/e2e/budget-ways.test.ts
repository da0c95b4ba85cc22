/** The ways in which a task comes to its end, each with what it leaves of a budget: by the file of the documentation, on a whole server. */
import { create, type JsonObject } from "@bufbuild/protobuf";
import { beforeAll, expect, test } from "vitest";
import {
  MessageSchema,
  Role,
  type StreamResponse,
  StreamResponseSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ApprovalVerdict } from "../../gen/signalbox/v1/approval_pb.ts";
import { COST_EXTENSION } from "../../src/domain/cost-extension.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import { createSignalboxClient, type SignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { asTask, failureOf, statusOf } from "../fault/said.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const POLICY = `
version: 1
rules:
  - effect: REQUIRE
    when: {capability_id: asked}
    then: {approval: {expires: 1h, self: true}}
  - effect: REQUIRE
    when: {capability_id: hurried}
    then: {approval: {expires: 1s, self: true}}
  - effect: DENY
    when: {capability_id: guarded, output_text: {matches: "classified"}}
budgets:
  - agent_id: "agent-001"
    capability_id: "premium-service"
    daily_limit: 100.0
    description: "Daily budget for premium service"
  - {id: asked, capability_id: asked, daily_limit: 10}
  - {id: hurried, capability_id: hurried, daily_limit: 10}
  - {id: guarded, capability_id: guarded, daily_limit: 10}
  - {id: cached, capability_id: cached, daily_limit: 10, daily_tasks: 10}
  - {id: unpriced, capability_id: unpriced, daily_limit: 2}
  - {id: moved, workspace_id: elsewhere, daily_tasks: 0}
`;

/** Says what it is told to have cost: "0.25 classified" costs 0.25; "-" says nothing of it. */
const priced: AgentHandler = async (message): Promise<StreamResponse> => {
  const text = String(message.parts[0]!.content.value);
  const [cost = "-"] = text.split(" ");
  const metadata = (cost === "-" ? {} : { [COST_EXTENSION]: { cost } }) as JsonObject;
  const value = create(MessageSchema, {
    messageId: "reply",
    role: Role.AGENT,
    parts: [{ content: { case: "text", value: text } }],
    metadata,
  });
  return create(StreamResponseSchema, { payload: { case: "message", value } });
};

let app: TestApp;
let client: SignalboxClient;

beforeAll(async () => {
  app = await startTestApp({ agents: { "agent-001": priced } });
  client = createSignalboxClient({ baseUrl: app.httpUrl, reconnects: 0 });
  const offer = (capabilityId: string, costPerTask: string, more: object = {}) =>
    client.registry.addCapability({ agentId: "agent-001", capability: { capabilityId, costPerTask, ...more } });
  await offer("premium-service", "30");
  for (const capabilityId of ["asked", "hurried", "guarded"]) await offer(capabilityId, "3");
  await offer("cached", "3", { cacheTtlMs: 60_000n });
  await offer("unpriced", "");
  await client.policies.putPolicy({ policy: { document: POLICY } });
  return () => app.stop();
});

const budget = async (budgetId: string) =>
  (await client.budgets.listBudgets({})).budgets.find((one) => one.budgetId === budgetId)!;

test("the documented budget is used by what agents report, else by what they declare, and then refuses", async () => {
  const id = "agent.agent-001.capability.premium-service";
  const premium = { capability: "premium-service" };
  await client.send("-", premium);
  await client.send("29.5 of it", premium);
  expect(await budget(id)).toMatchObject({ limit: "100", used: "59.5", reserved: "0", remaining: "40.5" });
  await client.send("-", premium);
  expect(await failureOf(client.send("-", premium))).toMatchObject({
    reason: "BUDGET_EXCEEDED",
    metadata: { budget: id, limit: "100", used: "89.5", reserved: "0" },
  });
  expect(await budget(id)).toMatchObject({
    used: "89.5",
    reserved: "0",
    description: "Daily budget for premium service",
  });
});

test("a budget of another workspace holds nothing here", async () => {
  expect(await budget("moved")).toBeUndefined();
});

test("what waits for its approval holds; what is not approved, or not in time, gives back", async () => {
  const waiting = async (capability: string) => asTask(await client.send("-", { capability }));
  const decide = async (taskId: string, verdict: ApprovalVerdict) => {
    const { approvals } = await client.approvals.listApprovals({ taskId });
    await client.approvals.decideApproval({ approvalId: approvals[0]!.approvalId, verdict });
  };
  const [first, second, third] = [await waiting("asked"), await waiting("asked"), await waiting("asked")];
  expect(await budget("asked")).toMatchObject({ used: "0", reserved: "9" });
  expect(await failureOf(waiting("asked"))).toMatchObject({ reason: "BUDGET_EXCEEDED" });
  await decide(first.id, ApprovalVerdict.REJECT);
  await decide(second.id, ApprovalVerdict.APPROVE);
  await client.a2a.cancelTask({ id: third.id });
  await client.waitFor(second.id);
  expect(await budget("asked")).toMatchObject({ used: "3", reserved: "0" });
  const late = await waiting("hurried");
  expect(await budget("hurried")).toMatchObject({ reserved: "3" });
  const stateOf = async () => (await client.a2a.getTask({ id: late.id })).status?.state;
  await expect.poll(stateOf, { timeout: 10_000, interval: 50 }).toBe(TaskState.REJECTED);
  expect(await budget("hurried")).toMatchObject({ used: "0", reserved: "0" });
});

test("a cost counts although what was said with it is withheld", async () => {
  const withheld = asTask(await client.send("0.75 classified", { capability: "guarded" }));
  expect(statusOf(withheld)).toMatch(/^FAILED: The output of this task was withheld/);
  expect(await budget("guarded")).toMatchObject({ used: "0.75", reserved: "0" });
  await client.send("0.5 open", { capability: "guarded" });
  expect(await budget("guarded")).toMatchObject({ used: "1.25", reserved: "0" });
});

test("what is done once is paid once", async () => {
  const cached = { capability: "cached" };
  await client.send("1 same", cached);
  await client.send("1 same", cached);
  const request = { message: userMessage("2 keyed"), metadata: { "urn:signalbox:a2a:routing:v1": cached } };
  const headers = { "idempotency-key": "key-1" };
  await client.a2a.sendMessage(request, { headers });
  await client.a2a.sendMessage(request, { headers });
  const { budgets } = await client.budgets.listBudgets({ capabilityId: "cached" });
  expect(budgets.map(({ used, reserved }) => [used, reserved])).toEqual([
    ["3", "0"],
    ["2", "0"],
  ]);
});

test("where nobody says what a task costs, the whole budget is to be had, and nothing beyond it", async () => {
  const unpriced = { capability: "unpriced" };
  await client.send("1.9", unpriced);
  expect(await budget("unpriced")).toMatchObject({ used: "1.9", overrun: "0" });
  await client.send("0.3", unpriced);
  expect(await budget("unpriced")).toMatchObject({ used: "2", overrun: "0.2", remaining: "0" });
  const refused = await failureOf(client.send("-", unpriced));
  expect(refused).toMatchObject({ reason: "BUDGET_EXCEEDED" });
  expect(String(refused.message)).toContain("so nothing is left for a task of which nobody says what it costs");
});

test("whoever names an agent alone does not pass the budgets of what it offers", async () => {
  expect(await failureOf(client.send("-", { agent: "agent-001" }))).toMatchObject({
    reason: "BUDGET_EXCEEDED",
    metadata: { budget: "unpriced", limit: "2" },
  });
});
