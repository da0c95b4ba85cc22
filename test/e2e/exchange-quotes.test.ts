/** NEGOTIATE and DELEGATE with real agents: some give quotes, some give rubbish, one is silent, one gives none. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { beforeAll, describe, expect, test } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  type ExchangeMessage,
  type ExchangeResult,
  type NegotiateSchema,
  QuoteSource,
} from "../../gen/signalbox/v1/message_pb.ts";
import { QUOTE_EXTENSION } from "../../src/domain/quote-extension.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { type QuotingAgent, startQuotingAgent } from "../agents/quoting-agent.ts";
import { act } from "../conformance/scripted-agent.ts";
import { inProcessCard, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
let client: SignalboxClient;
const agents = new Map<string, QuotingAgent>();
/** What the agent "haggler" takes in each round. */
const HAGGLE = ["0.40", "0.30", "0.05"];

beforeAll(async () => {
  app = await startTestApp({ agents: { plain: act } });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  const quotes: Record<string, Parameters<typeof startQuotingAgent>[0]["quote"]> = {
    haggler: ({ round }) => ({
      quote: { cost: HAGGLE[Number(round) - 1] ?? "9", latencyMs: 700, terms: { refund: "within a day" } },
    }),
    fast: () => ({ quote: { cost: 0.5, latencyMs: 20, validUntil: new Date(Date.now() + 1500).toISOString() } }),
    foreign: () => ({ quote: { cost: 0.001, latencyMs: 1, currency: "XAU" } }),
    rubbish: () => ({ quote: "cheap!" }),
    silent: () => new Promise(() => {}),
    eager: () => undefined,
  };
  for (const [name, quote] of Object.entries(quotes)) {
    const agent = await startQuotingAgent({ name, skill: "translate", quote });
    agents.set(name, agent);
    await app.register(name, { card: agent.card });
    const given = { capabilityId: "translate", costPerTask: "5", averageLatencyMs: 2_000n };
    await client.registry.addCapability({ agentId: name, capability: given });
  }
  const skills = [{ id: "translate", name: "Translate", description: "Translates texts.", tags: [] }];
  await app.register("cheap", { card: { ...inProcessCard("plain"), name: "Cheap", skills } });
  const given = { capabilityId: "translate", costPerTask: "0.10", averageLatencyMs: 1_500n, labels: { region: "eu" } };
  await client.registry.addCapability({ agentId: "cheap", capability: given });
  return async () => {
    await app.stop();
    for (const agent of agents.values()) await agent.close();
  };
});

/** The result of a message. Fails the test when it is an ERROR. */
function resultOf(answer: ExchangeMessage): ExchangeResult["result"] {
  if (answer.payload.case !== "result") throw new Error(`no result: ${JSON.stringify(answer.payload.value)}`);
  expect(answer.success).toBe(true);
  return answer.payload.value.result;
}

/** A negotiation, in which silent agents are given up soon. */
async function negotiate(asked: MessageInitShape<typeof NegotiateSchema> = {}, correlationId = "") {
  const value = { capabilityId: "translate", ...asked } as MessageInitShape<typeof NegotiateSchema>;
  const message = { correlationId, timeoutMs: 1_600n, payload: { case: "negotiate" as const, value } };
  const answer = await client.messages.exchange({ message });
  const result = resultOf(answer);
  if (result.case !== "negotiate") throw new Error(`a result of ${result.case}`);
  const { value: negotiated } = result;
  const best = negotiated.quotes.find(({ quoteId }) => quoteId === negotiated.bestQuoteId);
  return { ...negotiated, best, correlationId: answer.correlationId };
}

const delegate = (quoteId: string, more: object = {}) =>
  client.messages.exchange({
    message: {
      payload: { case: "delegate", value: { quoteId, work: { case: "input", value: { text: "Guten Tag", ...more } } } },
    },
  });

describe("quotes", () => {
  test("come from the agents that give them, and from the registry where they give none that can be taken", async () => {
    const { quotes, offerCount } = await negotiate();
    expect(offerCount).toBe(7);
    const said = Object.fromEntries(quotes.map((quote) => [quote.agentId, quote]));
    expect(said.haggler).toMatchObject({
      cost: "0.4",
      latencyMs: 700,
      source: QuoteSource.AGENT,
      note: "",
      terms: { agentTerms: { refund: "within a day" }, serviceLevel: { availability: 0.99 } },
    });
    expect(said.fast).toMatchObject({ cost: "0.5", latencyMs: 20, source: QuoteSource.AGENT });
    expect(said.cheap).toMatchObject({ cost: "0.1", latencyMs: 1_500, source: QuoteSource.CAPABILITY, note: "" });
    const notes = {
      foreign: `The agent's quote is in the currency "XAU", not in the workspace's.`,
      rubbish: 'The agent\'s quote is none: no data part is {"quote": {...}}.',
      silent: "The agent was silent for 1200 ms during SendMessage.",
      eager: "The agent answered with a task, not with a quote.",
    };
    for (const [agentId, note] of Object.entries(notes))
      expect(said[agentId]).toMatchObject({ cost: "5", latencyMs: 2_000, source: QuoteSource.CAPABILITY, note });
    // What was asked, and under which extension.
    const { asked, named } = agents.get("haggler")!;
    expect(asked[0]).toMatchObject({ capability: "translate", skill: "translate", round: 1 });
    expect(named[0]).toEqual([QUOTE_EXTENSION]);
  });

  test("a task that an agent began instead is called off", async () => {
    const { canceled } = agents.get("eager")!;
    await negotiate({ agentId: "eager" });
    await expect.poll(() => canceled.length).toBeGreaterThan(0);
  });

  test("of an agent in another currency are taken when that is the currency", async () => {
    const { best } = await negotiate({ agentId: "foreign", currency: "XAU" });
    expect(best).toMatchObject({ cost: "0.001", latencyMs: 1, source: QuoteSource.AGENT });
  });

  test("the best is selected by the strategy that is named, by weights, and within limits", async () => {
    const cheapest = await negotiate({ strategy: "lowest-cost" });
    expect(cheapest).toMatchObject({ strategy: "LOWEST_COST", best: { agentId: "cheap" } });
    expect(cheapest.quotes[0]!.agentId).toBe("cheap");
    expect(cheapest.reasons[0]).toBe('"cheap" is the best of 7 by LOWEST_COST: its score is 100000; less is better.');
    expect(await negotiate({ weights: { latency: 1 } })).toMatchObject({
      strategy: "WEIGHTED_SCORE",
      best: { agentId: "fast" },
    });
    expect(await negotiate({ strategy: "LOWEST_COST", maxLatencyMs: 800n })).toMatchObject({
      best: { agentId: "haggler" },
    });
    const none = await negotiate({ maxCost: "0.01" });
    expect(none).toMatchObject({ bestQuoteId: "", reasons: ["7 offers are beyond the limits of the request."] });
    const european = await negotiate({ labels: { region: "eu" } });
    expect(european).toMatchObject({ offerCount: 1, cuts: [{ reason: "LABELS", count: 6 }] });
  });

  test("are asked for again under the same correlation id, and may become better", async () => {
    const first = await negotiate({ strategy: "LOWEST_COST" });
    expect(first).toMatchObject({ round: 1, best: { agentId: "cheap" } });
    const third = await negotiate({ strategy: "LOWEST_COST", maxCost: "0.35" }, first.correlationId).then(
      ({ round, correlationId }) => {
        expect(round).toBe(2);
        return negotiate({ strategy: "LOWEST_COST" }, correlationId);
      },
    );
    expect(third).toMatchObject({ round: 3, best: { agentId: "haggler", cost: "0.05" } });
    const { asked } = agents.get("haggler")!;
    const ours = asked.filter(({ correlationId }) => correlationId === first.correlationId);
    expect(ours.map(({ round, maxCost }) => [round, maxCost])).toEqual([
      [1, undefined],
      [2, "0.35"],
      [3, undefined],
    ]);
  });

  test("an agent that is asked is shown what is to be done", async () => {
    const message = create(MessageSchema, {
      messageId: "m",
      role: Role.USER,
      parts: [{ content: { case: "text", value: "Guten Tag" } }],
    });
    await negotiate({ agentId: "haggler", message });
    expect(agents.get("haggler")!.asked.at(-1)).toMatchObject({ parts: [{ text: "Guten Tag" }] });
  });
});

describe("a task by a quote", () => {
  test("goes to the agent that gave it, which is told of its quote", async () => {
    const { quotes } = await negotiate({ agentId: "haggler" });
    const result = resultOf(await delegate(quotes[0]!.quoteId));
    if (result.case !== "delegate") throw new Error(`a result of ${result.case}`);
    const { task } = result.value;
    expect(task).toMatchObject({
      status: { state: TaskState.COMPLETED },
      artifacts: [{ parts: [{ content: { value: "haggler did it" } }] }],
    });
    const decision = await client.routes.getRouteDecision({ taskId: task!.id });
    expect(decision).toMatchObject({ agentId: "haggler", capabilityId: "translate" });
    expect(agents.get("haggler")!.named.at(-1)).toEqual([QUOTE_EXTENSION]);
  });

  test("is refused when the quote no longer holds", async () => {
    const { quotes } = await negotiate({ agentId: "fast" });
    const [quote] = quotes;
    const left = timestampDate(quote!.expireTime!).getTime() - Date.now();
    expect(left).toBeLessThan(2_000);
    await expect
      .poll(async () => (await delegate(quote!.quoteId)).payload, { interval: 200, timeout: 5_000 })
      .toMatchObject({ case: "error", value: { code: 9, info: { reason: "QUOTE_EXPIRED" } } });
  });

  test("is refused when another capability or agent is asked for", async () => {
    const { quotes } = await negotiate({ agentId: "haggler" });
    const answer = await delegate(quotes[0]!.quoteId, { capabilityId: "plain" });
    expect(answer.payload).toMatchObject({ case: "error", value: { info: { reason: "INVALID_ARGUMENT" } } });
  });
});
