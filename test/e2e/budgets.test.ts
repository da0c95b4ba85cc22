/** Budgets and delegation on a whole server: what is refused, what is shown, and what tasks on behalf of others draw on. */
import { create, type JsonObject } from "@bufbuild/protobuf";
import { beforeAll, describe, expect, test } from "vitest";
import {
  MessageSchema,
  Role,
  type StreamResponse,
  StreamResponseSchema,
  type Task,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { BudgetUnit, BudgetWindow } from "../../gen/signalbox/v1/budget_pb.ts";
import { COST_EXTENSION } from "../../src/domain/cost-extension.ts";
import { DELEGATION_EXTENSION } from "../../src/domain/delegation-extension.ts";
import { ROUTING_EXTENSION } from "../../src/domain/routing-extension.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { act } from "../conformance/scripted-agent.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
let client: SignalboxClient;

const replying = (text: string, metadata?: JsonObject): StreamResponse =>
  create(StreamResponseSchema, {
    payload: {
      case: "message",
      value: create(MessageSchema, {
        messageId: "reply",
        role: Role.AGENT,
        parts: [{ content: { case: "text", value: text } }],
        ...(metadata && { metadata }),
      }),
    },
  });

/** Sends a task on behalf of the one that it has, and says what came of it. */
const lead: AgentHandler = async (message, { metadata }) => {
  const told = metadata?.[DELEGATION_EXTENSION] as { taskId: string };
  const { content } = message.parts[0]!;
  const capability = content.case === "text" ? content.value : "";
  try {
    const child = await client.tasks.submitTask({
      capabilityId: capability,
      content: { case: "text", value: "do" },
      parentTaskId: told.taskId,
      wait: true,
    });
    return replying(JSON.stringify({ parent: child.parentTaskId, depth: child.delegationDepth, taskId: child.taskId }));
  } catch (error) {
    return replying(String(error));
  }
};
const priced: AgentHandler = async () => replying("done", { [COST_EXTENSION]: { cost: "0.25" } });

beforeAll(async () => {
  app = await startTestApp({
    agents: { worker: act, lead, priced },
    cards: { lead: { capabilities: { streaming: true, extensions: [{ uri: DELEGATION_EXTENSION }] } } },
    policy: {
      budgets: [
        { id: "worker", agent_id: "worker", daily_limit: 2.5, description: "What the worker may cost in a day" },
        { id: "leads", capability_id: "lead", monthly_limit: 50, time_zone: "Europe/Berlin" },
        { id: "all", hourly_limit: 100, hourly_tasks: 1000 },
        { id: "each", capability_id: "*", monthly_tasks: 1000 },
        { id: "elsewhere", workspace_id: "other", daily_tasks: 0 },
      ],
    },
  });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  const offer = (agentId: string, capabilityId: string, costPerTask: string) =>
    client.registry.addCapability({ agentId, capability: { capabilityId, costPerTask } });
  await offer("worker", "work", "1");
  await offer("lead", "lead", "2");
  await offer("priced", "cheap", "0.5");
  await offer("priced", "dear", "3");
  return () => app.stop();
});

const signalbox = (...args: string[]) => runCommand(app.httpUrl, args);

const submit = (capabilityId: string, text: string, more: object = {}) =>
  client.tasks.submitTask({ capabilityId, content: { case: "text", value: text }, wait: true, ...more });
const budget = async (budgetId: string, unit: BudgetUnit = BudgetUnit.MONEY) =>
  (await client.budgets.listBudgets({})).budgets.find((one) => one.budgetId === budgetId && one.unit === unit)!;

const refusals = async () => {
  const metrics = await (await fetch(`${app.httpUrl}/metrics`)).text();
  return Number(/^signalbox_budget_refusals_total (\d+)$/m.exec(metrics)?.[1]);
};

describe("a budget", () => {
  test("refuses what is too much, says why, and takes back what a failed task held", async () => {
    expect(await budget("worker")).toMatchObject({ limit: "2.5", used: "0", reserved: "0", remaining: "2.5" });
    await submit("work", "complete");
    const failed = await submit("work", "fail");
    expect(failed.a2aState).toBe(TaskState.FAILED);
    const waiting = await submit("work", "ask");
    expect(await budget("worker")).toMatchObject({ used: "1", reserved: "1", remaining: "0.5", agentId: "worker" });
    const before = await refusals();
    await expect(submit("work", "complete")).rejects.toThrow(
      'Budget "worker" allows 2.5; 1 are used and 1 reserved by tasks that have not ended, so 1 more are too much.',
    );
    const { code, err } = await signalbox("send", "--json", "--capability", "work", "complete");
    expect(code).toBe(1);
    expect(JSON.parse(err).error).toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      reason: "BUDGET_EXCEEDED",
      retryAfterMs: 1000,
    });
    expect(await refusals()).toBe(before + 2);
    await client.tasks.cancelTask({ taskId: waiting.taskId });
    expect(await budget("worker")).toMatchObject({ used: "1", reserved: "0" });
    await submit("work", "complete");
    expect(await budget("worker")).toMatchObject({ used: "2", reserved: "0" });
  });

  test("is charged what an agent reports", async () => {
    const before = Number((await budget("all")).used);
    await submit("cheap", "do");
    expect(Number((await budget("all")).used)).toBe(before + 0.25);
  });

  test("is listed, page by page, with that of each", async () => {
    const all = (await client.budgets.listBudgets({})).budgets;
    const names = all.map(({ budgetId, unit, capabilityId }) => `${budgetId} ${unit} ${capabilityId}`);
    expect(names).toEqual(["all 1 ", "all 2 ", "each 2 cheap", "each 2 work", "leads 1 lead", "worker 1 "]);
    expect(all.at(-2)).toMatchObject({ window: BudgetWindow.MONTHLY, timeZone: "Europe/Berlin", limit: "50" });
    const paged: string[] = [];
    for (let pageToken = ""; ; ) {
      const page = await client.budgets.listBudgets({ pageSize: 2, pageToken });
      paged.push(...page.budgets.map(({ budgetId, unit, capabilityId }) => `${budgetId} ${unit} ${capabilityId}`));
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    expect(paged).toEqual(names);
    expect((await client.budgets.listBudgets({ capabilityId: "work" })).budgets).toHaveLength(1);
    await expect(client.budgets.listBudgets({ pageToken: "x" })).rejects.toThrow("is not a nextPageToken");
    await expect(client.budgets.listBudgetUsage({ budgetId: "other" })).rejects.toThrow('no budget "other"');
    const { windows } = await client.budgets.listBudgetUsage({ budgetId: "worker" });
    expect(windows).toMatchObject([{ used: "2", overrun: "0", description: "What the worker may cost in a day" }]);
  });

  test("is shown by the command line and in metrics", async () => {
    const { out } = await signalbox("budgets", "list", "--agent", "worker");
    expect(out).toMatch(
      /^BUDGET +FOR +WINDOW +LIMIT +USED +RESERVED +LEFT +OVERRUN +RESET\nworker +agent worker +daily money +2\.5 +2 +0 +0\.5 +- +\d{4}-\d\d-\d\d 00:00 UTC\n/,
    );
    expect(JSON.parse((await signalbox("budgets", "list", "--json")).out).budgets).toHaveLength(6);
    expect((await signalbox("budgets", "usage", "worker")).out).toMatch(
      / daily money +agent worker +2\.5 +2 +0 +0\.5 +-\n$/,
    );
    expect(await signalbox("budgets", "usage", "other")).toMatchObject({ code: 1 });
    expect(await signalbox("budgets", "usage", "worker", "--limit", "0")).toMatchObject({ code: 2 });
    const read = async () => (await fetch(`${app.httpUrl}/metrics`)).text();
    const labels = 'workspace="default",budget="worker",period="DAILY",unit="MONEY",share=""';
    // As they were a few seconds ago.
    await expect.poll(read, { timeout: 10_000, interval: 100 }).toContain(`signalbox_budget_used{${labels}} 2
`);
    const metrics = await read();
    expect(metrics).toContain(`signalbox_budget_limit{${labels}} 2.5`);
    expect(metrics).toContain(`signalbox_budget_used_ratio{${labels}} 0.8`);
    expect(metrics).toMatch(/signalbox_budget_refusals_total [1-9]/);
  });
});

describe("a task on behalf of another", () => {
  const said = async (capabilityId: string) => {
    const { output } = await submit("lead", capabilityId);
    return output?.kind.case === "stringValue" ? output.kind.value : "";
  };

  test("names its parent, and draws on what that one holds", async () => {
    const before = Number((await budget("all")).used);
    const child = JSON.parse(await said("cheap"));
    expect(child).toMatchObject({ depth: 1, parent: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    expect(await client.tasks.getTask({ taskId: child.taskId })).toMatchObject({
      parentTaskId: child.parent,
      delegationDepth: 1,
    });
    // Of 2 the child was given 0.5, and used 0.25 of it.
    expect(Number((await budget("all")).used)).toBe(before + 1.75);
    expect(Number((await budget("all")).reserved)).toBe(0);
  });

  test("is refused what its parent does not hold", async () => {
    const before = await refusals();
    expect(await said("dear")).toContain('has 2 of budget "all" left, and 3 are needed');
    expect(await refusals()).toBe(before + 1);
  });

  test("is refused where its parent has ended, or is none", async () => {
    const parent = await submit("cheap", "do");
    await expect(submit("cheap", "do", { parentTaskId: parent.taskId })).rejects.toThrow("has ended");
    await expect(submit("cheap", "do", { parentTaskId: "nobody" })).rejects.toThrow('"nobody"');
    const metadata = { [DELEGATION_EXTENSION]: 5 } as unknown as JsonObject;
    await expect(
      client.a2a.sendMessage({
        message: { messageId: "1", role: Role.USER, parts: [{ content: { case: "text", value: "x" } }] },
        metadata,
      }),
    ).rejects.toThrow("must be an object");
  });

  test("lives no longer than its parent, and is not deeper than sixteen", async () => {
    let parent = await client.tasks.submitTask({
      agentId: "worker",
      content: { case: "text", value: "ask" },
      deadlineMs: 60_000n,
      wait: true,
    });
    for (let depth = 1; depth <= 16; depth++) {
      const content = { case: "text" as const, value: "ask" };
      parent = await client.tasks.submitTask({ agentId: "worker", content, parentTaskId: parent.taskId, wait: true });
      expect(parent.delegationDepth).toBe(depth);
    }
    await expect(submit("cheap", "do", { parentTaskId: parent.taskId })).rejects.toThrow("16 tasks below");
  });

  test("may be sent by an exchange", async () => {
    const parent = await client.tasks.submitTask({
      agentId: "worker",
      content: { case: "text", value: "ask" },
      wait: true,
    });
    const answer = await client.messages.exchange({
      message: {
        receiver: "c.cheap",
        payload: {
          case: "delegate",
          value: { work: { case: "input", value: { text: "do" } }, parentTaskId: parent.taskId },
        },
      },
    });
    const result = answer.payload.case === "result" ? answer.payload.value.result : undefined;
    const { task } = result!.value as { task: Task };
    expect(await client.tasks.getTask({ taskId: task.id })).toMatchObject({ parentTaskId: parent.taskId });
  });
});

test("a cost that its client allows is held of those who declare none", async () => {
  await client.registry.addCapability({ agentId: "worker", capability: { capabilityId: "free" } });
  const metadata = { [ROUTING_EXTENSION]: { capability: "free", maxCost: "3" } } as JsonObject;
  const message = {
    messageId: "1",
    role: Role.USER,
    parts: [{ content: { case: "text" as const, value: "complete" } }],
  };
  await expect(client.a2a.sendMessage({ message, metadata })).rejects.toThrow('Budget "worker" allows 2.5');
  await submit("free", "complete");
});

test("what is used up is to be tried again when it is reset, as it is listed", async () => {
  const capability = { capabilityId: "gone", costPerTask: "0.5" };
  await client.registry.addCapability({ agentId: "worker", capability });
  await submit("gone", "complete");
  const { err } = await signalbox("send", "--capability", "gone", "complete");
  const { out } = await signalbox("budgets", "list", "--agent", "worker");
  const reset = /(\S+ \S+ UTC)\n/.exec(out)![1]!;
  expect(err).toMatch(new RegExp(`\n {2}Try again in \\d+(m|h), at ${reset}\\.\n`));
});
