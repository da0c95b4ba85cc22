/** What NEGOTIATE quotes of an agent that gives no quotes itself. */

import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { AgentCardSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ExchangeMessageSchema, type NegotiateResult, NegotiateSchema } from "../../gen/signalbox/v1/message_pb.ts";
import { capabilitiesOf } from "../../src/domain/capability.ts";
import { DEFAULT_WEIGHTS } from "../../src/domain/routing/strategies.ts";
import type { TaskHeader } from "../../src/domain/task-log.ts";
import type { ActContext } from "../../src/services/exchange/act.ts";
import { type NegotiateDeps, negotiate } from "../../src/services/exchange/negotiate.ts";
import { anonymousPrincipal } from "../../src/services/identity/authenticator.ts";
import { createAgentLoads } from "../../src/services/routing/agent-load.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { trustAll } from "../../src/services/trust.ts";
import { openPolicy } from "../fixtures/open-policy.ts";

const card = create(AgentCardSchema, {
  name: "Worker",
  skills: [{ id: "work", name: "Work", description: "Works.", tags: [] }],
});
const quoteOf = async (loads: NegotiateDeps["loads"], nowMs: number, averageLatencyMs: number | undefined) => {
  const [capability] = capabilitiesOf("worker", card, []);
  const offer = { agent: { agentId: "worker", card }, capability: { ...capability, averageLatencyMs } };
  const deps = {
    runtime: { ...systemRuntime(), elapsedMs: () => nowMs },
    loads,
    trust: trustAll,
    waitingAt: () => 0,
    policy: openPolicy,
    settings: { of: async () => ({ weights: DEFAULT_WEIGHTS }) },
    directory: { agents: async () => ({ byCapability: new Map([["work", [offer]]]) }) },
    records: { count: async () => 0, addQuotes: async () => {} },
  } as unknown as NegotiateDeps;
  const asked = create(NegotiateSchema, { capabilityId: "work" });
  const message = create(ExchangeMessageSchema, { correlationId: "x" });
  const act = {
    context: { workspaceId: "default", principal: anonymousPrincipal("viewer"), extensions: [] },
    message,
  } as unknown as ActContext;
  const { value } = (await negotiate(deps)(asked, act)) as { value: NegotiateResult };
  return value.quotes[0]!;
};

test("the latency is the median that was seen, however long no task has ended, else the one declared", async () => {
  let nowMs = 0;
  const runtime = { ...systemRuntime(), elapsedMs: () => nowMs, now: () => new Date(nowMs) };
  const loads = createAgentLoads(runtime);
  expect(await quoteOf(loads, nowMs, 1_500)).toMatchObject({ latencyMs: 1_500 });
  expect(await quoteOf(loads, nowMs, undefined)).toMatchObject({ latencyMs: 0 });
  const header = { workspaceId: "default", agentId: "worker", createdAt: new Date(0) } as TaskHeader;
  loads.begin(header);
  nowMs = 400;
  loads.end(header, TaskState.COMPLETED);
  nowMs = 200_000;
  const { latencyMs } = await quoteOf(loads, nowMs, 1_500);
  expect(latencyMs).toBeGreaterThan(300);
  expect(latencyMs).toBeLessThan(500);
});
