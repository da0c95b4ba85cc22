/** A policy that wants tasks approved, two servers on one PostgreSQL, and everybody who has a say: clients, approvers, the clock. */
import { create, fromJson, type JsonObject, toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { beforeAll, expect, test, vi } from "vitest";
import { type Message, PartSchema, type StreamResponse, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type Approval, ApprovalState, ApprovalVerdict } from "../../gen/signalbox/v1/approval_pb.ts";
import { type SignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { asTask, failureOf, statusOf, textOf } from "../fault/said.ts";
import { runCommand } from "./running-app.ts";
import { startTwoReplicas, type TwoReplicas } from "./two-replicas.ts";

const POLICY = `
version: 1
rules:
  - effect: REQUIRE
    scope: CAPABILITY
    when: {capability_id: pay}
    then: {approval: {expires: 1h, self: true}}
    description: Payments are looked at first
`;
const PAY = { capability: "pay" };
const { INPUT_REQUIRED } = TaskState;

let replicas: TwoReplicas;
let a: SignalboxClient;
let b: SignalboxClient;

beforeAll(async () => {
  replicas = await startTwoReplicas();
  [a, b] = [replicas.a.client, replicas.b.client];
  await a.registry.addCapability({ agentId: "puppet", capability: { capabilityId: "pay" } });
  await a.policies.putPolicy({ policy: { document: POLICY } });
  const sees = (client: SignalboxClient) =>
    client.routes.previewRoute({ request: { tenant: "c.pay", message: userMessage("?") } });
  await vi.waitFor(() => Promise.all([sees(a), sees(b)]), { timeout: 10_000 });
  return () => replicas.close();
});

const approvalOf = async (taskId: string): Promise<Approval> => {
  const { approvals } = await b.approvals.listApprovals({ taskId });
  expect(approvals).toHaveLength(1);
  return approvals[0]!;
};

function decision(taskId: string, data: JsonObject): Message {
  const message = userMessage("");
  message.taskId = taskId;
  message.parts = [create(PartSchema, { content: { case: "data", value: fromJson(ValueSchema, data) } })];
  return message;
}

/** A task that waits for its approval. */
async function waiting(text: string) {
  const task = asTask(await a.send(text, PAY));
  expect(task.status?.state).toBe(INPUT_REQUIRED);
  return { task, approval: await approvalOf(task.id) };
}

async function all(stream: AsyncIterable<StreamResponse>): Promise<StreamResponse[]> {
  const items: StreamResponse[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

test("a task waits until it is approved, and then is its agent's, whoever had it", async () => {
  const { puppet } = replicas;
  const { task, approval } = await waiting("pay the baker");
  expect(toJson(ValueSchema, task.status!.message!.parts[1]!.content.value as never)).toMatchObject({
    approvalId: approval.approvalId,
    decisions: ["APPROVE", "REJECT"],
    rule: "rules[0]",
    description: "Payments are looked at first",
  });
  expect(approval).toMatchObject({
    state: ApprovalState.PENDING,
    agentId: "puppet",
    capabilityId: "pay",
    policyVersion: 1,
  });
  expect(puppet.heard).not.toContain("pay the baker");

  const updates = a.a2a.subscribeToTask({ id: task.id })[Symbol.asyncIterator]();
  expect((await updates.next()).value.payload.case).toBe("task");
  const decided = await b.approvals.decideApproval({
    approvalId: approval.approvalId,
    verdict: ApprovalVerdict.APPROVE,
    comment: "enjoy",
  });
  expect(decided).toMatchObject({ state: ApprovalState.APPROVED, decidedBy: "anonymous", comment: "enjoy" });
  const turn = await puppet.turn();
  expect(turn.text).toBe("pay the baker");
  turn.name("WORKING");
  turn.chunk("Paid.");
  turn.status("COMPLETED");
  const items = await all({ [Symbol.asyncIterator]: () => updates });
  const states = items.flatMap(({ payload }) => (payload.case === "statusUpdate" ? payload.value.status!.state : []));
  expect(states.at(0)).toBe(TaskState.WORKING);
  expect(states.at(-1)).toBe(TaskState.COMPLETED);
  const done = await b.a2a.getTask({ id: task.id });
  expect(textOf(done)).toBe("Paid.");
  const { transitions } = await b.tasks.listTaskTransitions({ taskId: task.id });
  const causes = transitions.map(({ cause }) => cause);
  expect(causes).toEqual(expect.arrayContaining(["waits for its approval", "approved by anonymous"]));
});

test.each([
  ["APPROVE", TaskState.WORKING],
  ["REJECT", TaskState.REJECTED],
])("a decision that is sent again with its key, %s, is the same", async (verdict, state) => {
  const { task, approval } = await waiting(`${verdict} once`);
  const message = decision(task.id, { approvalId: approval.approvalId, decision: verdict });
  const options = { idempotencyKey: `decide-${verdict}`, wait: false };
  const first = asTask(await b.send(message, options));
  expect(first.status?.state).toBe(state);
  const decided = await approvalOf(task.id);
  if (verdict === "APPROVE") {
    const turn = await replicas.puppet.turn();
    turn.name("WORKING");
    turn.status("COMPLETED");
  }
  for (const client of [a, b]) expect(asTask(await client.send(message, options)).id).toBe(task.id);
  expect(await approvalOf(task.id)).toEqual(decided);
});

test("a stream shows the task that waits, and ends", async () => {
  const items = await all(a.stream("pay by stream", PAY));
  expect(items).toHaveLength(1);
  expect(items[0]!.payload).toMatchObject({ case: "task", value: { status: { state: INPUT_REQUIRED } } });
});

test("its client may be the one that decides, in A2A; another message is told how", async () => {
  const { puppet } = replicas;
  const { task, approval } = await waiting("pay the smith");
  const { approvalId } = approval;
  const hurry = userMessage("hurry!");
  hurry.taskId = task.id;
  expect(await failureOf(b.send(hurry))).toMatchObject({ reason: "APPROVAL_REQUIRED" });
  const answer = b.send(decision(task.id, { approvalId, decision: "APPROVE" }));
  const turn = await puppet.turn();
  turn.name();
  turn.status("COMPLETED", "Done.");
  const done = asTask(await answer);
  expect(statusOf(done)).toBe("COMPLETED: Done.");
  expect(turn.text).toBe("pay the smith");

  const other = await waiting("pay the devil");
  const no = { approvalId: other.approval.approvalId, decision: "REJECT", comment: "not him" };
  expect(statusOf(asTask(await b.send(decision(other.task.id, no))))).toBe(
    "REJECTED: This task was not approved: not him",
  );
  expect(puppet.heard).not.toContain("pay the devil");
});

test("plain tasks name the approval and how it may be decided, as long as they wait for it", async () => {
  const http = async (path: string, body?: object) => {
    const headers = { "content-type": "application/json" };
    const init = body && { method: "POST", headers, body: JSON.stringify(body) };
    const response = await fetch(replicas.a.httpUrl + path, init);
    expect(response.status).toBe(200);
    return (await response.json()) as JsonObject & { taskId: string; tasks: JsonObject[] };
  };
  const approvalVerdicts = ["APPROVAL_VERDICT_APPROVE", "APPROVAL_VERDICT_REJECT"];

  const task = await http("/v1/tasks", { capabilityId: "pay", text: "pay in plain words", wait: true });
  const { approvalId } = await approvalOf(task.taskId);
  expect(task).toMatchObject({ state: "ENGINE_STATE_INPUT_REQUIRED", approvalId, approvalVerdicts });
  expect(await http(`/v1/tasks/${task.taskId}`)).toMatchObject({ approvalId, approvalVerdicts });
  expect(await http(`/v1/tasks/${task.taskId}:wait`)).toMatchObject({ done: true, task: { approvalId } });
  const listed = await http("/v1/tasks?state=INPUT_REQUIRED");
  expect(listed.tasks).toContainEqual(expect.objectContaining({ taskId: task.taskId, approvalId, approvalVerdicts }));

  await http(`/v1/approvals/${task.approvalId}:decide`, { verdict: (task.approvalVerdicts as string[])[0]! });
  expect(await http(`/v1/tasks/${task.taskId}`)).not.toHaveProperty("approvalId");
});

test("a cancel withdraws the approval", async () => {
  const { task, approval } = await waiting("pay the king");
  await b.a2a.cancelTask({ id: task.id });
  const { approvalId } = approval;
  expect(await a.approvals.getApproval({ approvalId })).toMatchObject({ state: ApprovalState.WITHDRAWN });
  const late = a.approvals.decideApproval({ approvalId, verdict: ApprovalVerdict.APPROVE });
  expect(await failureOf(late)).toMatchObject({ reason: "APPROVAL_DECIDED" });
});

test("what the policy of the day denies does not begin, approved or not", async () => {
  const { task, approval } = await waiting("pay the pirate");
  const deny = `${POLICY}  - {effect: DENY, scope: AGENT, when: {agent_id: puppet, capability_id: pay}, description: No more}\n`;
  const { etag } = await b.policies.getPolicy({});
  const put = await b.policies.putPolicy({ policy: { document: deny, etag } });
  await b.approvals.decideApproval({ approvalId: approval.approvalId, verdict: ApprovalVerdict.APPROVE });
  const ended = await a.a2a.getTask({ id: task.id });
  expect(statusOf(ended)).toMatch(
    /^REJECTED: Approved, but it cannot begin: Policy does not let agent "puppet" take this/,
  );
  await b.policies.putPolicy({ policy: { document: POLICY, etag: put.etag } });
  await expect.poll(async () => statusOf(asTask(await a.send("pay again", PAY)))).toMatch(/^INPUT_REQUIRED/);
});

test("the command line lists, shows and decides", async () => {
  const { approval } = await waiting("pay the piper");
  const { approvalId } = approval;
  const signalbox = (...args: string[]) => runCommand(replicas.a.httpUrl, args);
  expect((await signalbox("approvals", "list")).out).toMatch(
    new RegExp(
      `^APPROVAL +STATE .*\\n(.*\\n)*${approvalId} +pending +puppet +pay +anonymous +\\d+s +\\S+ +Payments are looked`,
    ),
  );
  expect((await signalbox("approvals", "get", approvalId)).out).toMatch(/\nRule +rules\[0\]\n/);
  const rejected = await signalbox("approvals", "reject", approvalId, "--comment", "no tune");
  expect(rejected.out).toMatch(/\nState +rejected\n(.*\n)*Comment +no tune\n$/);
  expect(await signalbox("approvals", "approve", approvalId, "--json")).toMatchObject({ code: 1, out: "" });
  expect((await signalbox("approvals", "get", approvalId, "--json")).out).toContain('"APPROVAL_STATE_REJECTED"');
  expect((await signalbox("approvals", "list", "--all", "--json")).out).toContain(approvalId);
  const metrics = await (await fetch(`${replicas.a.httpUrl}/metrics`)).text();
  expect(metrics).toMatch(/signalbox_approvals_total\{outcome="rejected"\} 1/);
});
