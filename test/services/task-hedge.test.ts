/** A second agent is asked when the first is slow: who wins, who is told to stop, and when nobody is asked at all. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { type Message, Role, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteDecisionSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import { DEFAULT_ROLLOUT } from "../../src/domain/rollout.ts";
import { stateBrought, stateOf } from "../../src/domain/task-log.ts";
import { TRANSITIONS } from "../../src/domain/task-state.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import { AgentCallError, type AgentConnector } from "../../src/services/agent-port.ts";
import type { DispatcherDeps } from "../../src/services/dispatcher.ts";
import type { ResultPolicy } from "../../src/services/guarded-writer.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import type { HedgeOutcome, HedgePorts } from "../../src/services/task-hedge.ts";
import { createHeldUpdates } from "../../src/store/held-updates.ts";
import { startTestAgent } from "../agents/test-agent.ts";
import { createInbox } from "../fault/inbox.ts";
import { createPuppet } from "../fault/puppet.ts";
import { describeEachBackend } from "../store/backends.ts";
import { type LabAgent, resultOf, type SteeringOptions, startReplica } from "./steering-lab.ts";

const { WORKING, COMPLETED, FAILED, AUTH_REQUIRED, INPUT_REQUIRED } = TaskState;
const hedging = { ...DEFAULT_ROLLOUT, hedging: { quantile: 0.95, minDelayMs: 1 } };

/** Hedges whatever may be, to the agent "second"; outcomes come to an inbox. */
function hedges(differs: Partial<HedgePorts> = {}) {
  const outcomes = createInbox<HedgeOutcome>();
  const more = (deps: DispatcherDeps): Partial<DispatcherDeps> => ({
    hedges: {
      rollouts: { of: () => hedging },
      secondAgent: async (task) => {
        const agent = await deps.findAgent({ ...task, agentId: "second" });
        return agent && { agent, capability: undefined, decision: create(RouteDecisionSchema, { agentId: "second" }) };
      },
      quantileMs: () => 1,
      averageLatencyMs: async () => undefined,
      inFlight: () => 1,
      tryReserve: async () => () => {},
      onOutcome: outcomes.put,
      ...differs,
    },
  });
  return { outcomes, more };
}

async function realAgent(options: { streaming?: boolean } = {}) {
  const agent = await startTestAgent({ bindings: ["JSONRPC"], ...options });
  onTestFinished(() => agent.close());
  return { agent, lab: { card: agent.card, safeToRepeat: true } };
}

const safe = (handler: AgentHandler): LabAgent => ({ handler, safeToRepeat: true });

describeEachBackend("a task of a slow agent", (context) => {
  const start = (agents: SteeringOptions["agents"], more: SteeringOptions["more"], chain?: readonly string[]) =>
    startReplica(context, { agents, ...(more && { more }), ...(chain && { chain }) });

  it("has what the second agent says looked at by the rules about that one", async () => {
    const { outcomes, more } = hedges();
    const puppet = createPuppet();
    const results: ResultPolicy = {
      load: () => undefined,
      guards: ({ agentId }) => agentId === "second",
      factsOf: async ({ agentId }) => ({ agent_id: agentId }),
      decide: (_, { agent_id }) => ({ effect: agent_id === "second" ? "DENY" : "ALLOW", rules: [] }),
    };
    const guard = { results, held: createHeldUpdates(context.db), maxBytes: 1_000_000 };
    const { lab: first } = await realAgent();
    const replica = await start({ first, second: safe(puppet.handler) }, (deps) => ({ ...more(deps), guard }));
    const task = await replica.begin("slow");
    const turn = await puppet.turn();
    turn.task();
    turn.chunk("secret");
    turn.status(COMPLETED, "Quick.");
    const ended = await replica.ended(task);
    expect(await outcomes.next()).toBe("won");
    expect(ended.header.agentId).toBe("second");
    expect([stateOf(ended), ended.task.artifacts]).toEqual([FAILED, []]);
  });

  it("has nothing that the second agent says in this server's log, where that one is looked at", async () => {
    const { outcomes, more } = hedges();
    const first = createPuppet();
    const results: ResultPolicy = {
      load: () => undefined,
      guards: ({ agentId }) => agentId === "second",
      factsOf: async () => ({}),
      decide: () => ({ effect: "ALLOW", rules: [] }),
    };
    const guard = { results, held: createHeldUpdates(context.db), maxBytes: 1_000_000 };
    const refuse = () => Promise.reject(new AgentCallError("refused", "secret words", { reason: "SECRET" }));
    const refusing = (deps: DispatcherDeps): AgentConnector => ({
      ...deps.connector,
      connect(agent) {
        const client = deps.connector.connect(agent);
        return agent.agentId === "second" ? Object.assign(client, { streaming: false, send: refuse }) : client;
      },
    });
    const replica = await start({ first: safe(first.handler), second: safe(first.handler) }, (deps) => ({
      ...more(deps),
      connector: refusing(deps),
      guard,
    }));
    const { lines } = replica.logged;
    const task = await replica.begin();
    const turn = await first.turn();
    expect(await outcomes.next()).toBe("failed");
    turn.task(COMPLETED);
    await replica.ended(task);
    expect(lines.find(({ msg }) => msg === "the second agent failed")).toMatchObject({ kind: "refused" });
    expect(JSON.stringify(lines)).not.toMatch(/secret/i);
  });

  it("is the second agent's when that one is faster, and the first is told to stop", async () => {
    const { agent: real, lab: first } = await realAgent();
    const puppet = createPuppet();
    const { outcomes, more } = hedges();
    const replica = await start({ first, second: safe(puppet.handler) }, more);
    const task = await replica.begin("slow");
    const turn = await puppet.turn();
    await replica.when(task, (image) => stateOf(image) === WORKING && image.header.upstreamTaskId !== undefined);
    expect(turn.message).toMatchObject({ taskId: "", messageId: task.task.history[0]?.messageId });
    turn.task();
    turn.chunk("all of it");
    turn.status(COMPLETED, "Quick.");
    const ended = await replica.ended(task);
    expect([stateOf(ended), resultOf(ended)]).toEqual([COMPLETED, "all of it|Quick."]);
    expect(ended.header).toMatchObject({
      agentId: "second",
      upstreamTaskId: turn.taskId,
      attempt: 1,
      origin: { agentIds: ["first"] },
    });
    expect(await outcomes.next()).toBe("won");
    expect(await replica.causes(task)).toContain("agent second was faster than first");
    expect(await (await real.turn(task.task.history[0]!.messageId)).outcome).toBe("canceled");
    await vi.waitFor(
      () => {
        for (const agentId of ["first", "second"]) expect(replica.loads.of("default", agentId)?.inFlight).toBe(0);
      },
      { timeout: 10_000 },
    );
  });

  it("is answered with the second agent's bare Message, where that is what it says", async () => {
    const first = createPuppet();
    const { agent: real, lab: second } = await realAgent({ streaming: false });
    const { outcomes, more } = hedges();
    const replica = await start({ first: safe(first.handler), second }, more);
    const task = await replica.begin("message", { disclosed: false });
    const ended = await replica.ended(task);
    expect([ended.header.agentId, resultOf(ended)]).toEqual(["second", "Hello from the agent."]);
    expect(ended.reply).toBeDefined();
    expect(await outcomes.next()).toBe("won");
    expect(real.received).toHaveLength(1);
  });

  it("stays the first agent's when that one is faster, and the second is told to stop", async () => {
    const first = createPuppet();
    const stopped = Promise.withResolvers<void>();
    const heard = Promise.withResolvers<void>();
    const { outcomes, more } = hedges();
    const second: AgentHandler = async function* (message, { signal }) {
      signal.addEventListener("abort", () => stopped.resolve());
      yield said(message.messageId).task(WORKING);
      await stopped.promise;
    };
    /** Tells when the first thing that an agent said has been heard. */
    const listening = (deps: DispatcherDeps): AgentConnector => ({
      ...deps.connector,
      connect(agent) {
        const client = deps.connector.connect(agent);
        if (agent.agentId !== "second") return client;
        const { sendStream } = client;
        client.sendStream = async function* (...call) {
          for await (const item of sendStream.apply(client, call)) {
            yield item;
            heard.resolve();
          }
        };
        return client;
      },
    });
    const replica = await start({ first: safe(first.handler), second: safe(second) }, (deps) => ({
      ...more(deps),
      connector: listening(deps),
    }));
    const task = await replica.begin();
    const turn = await first.turn();
    turn.task();
    await heard.promise;
    turn.status(COMPLETED, "There.");
    const ended = await replica.ended(task);
    expect([ended.header.agentId, resultOf(ended)]).toEqual(["first", "There."]);
    expect(ended.header).not.toHaveProperty("origin");
    expect(await outcomes.next()).toBe("lost");
    await stopped.promise;
  });

  it.each([
    ["has shown an artifact", (turn: Turn) => turn.chunk("a beginning")],
    ["asks for authentication", (turn: Turn) => turn.status(AUTH_REQUIRED)],
    ["asks its client", (turn: Turn) => turn.status(INPUT_REQUIRED)],
  ])("is not raced any more when its agent %s", async (_, say) => {
    const [first, second] = [createPuppet(), createPuppet()];
    const { outcomes, more } = hedges();
    const replica = await start({ first: safe(first.handler), second: safe(second.handler) }, more);
    const task = await replica.begin();
    const turn = await first.turn();
    turn.task();
    await second.turn();
    say(turn);
    expect(await outcomes.next()).toBe("lost");
    await replica.cancel(await replica.load(task));
    expect((await replica.load(task)).header.agentId).toBe("first");
  });

  it("stays the first agent's when the second does not complete it, asks, or cannot be called", async () => {
    for (const say of [
      (turn: Turn) => turn.task(FAILED),
      (turn: Turn) => turn.task(INPUT_REQUIRED),
      (turn: Turn) => turn.end(),
    ]) {
      const [first, second] = [createPuppet(), createPuppet()];
      const { outcomes, more } = hedges();
      const replica = await start({ first: safe(first.handler), second: safe(second.handler) }, more);
      const task = await replica.begin();
      say(await second.turn());
      expect(await outcomes.next()).toBe("failed");
      (await first.turn()).task(COMPLETED);
      expect((await replica.ended(task)).header.agentId).toBe("first");
    }
  });

  it("is the second agent's when the first fails meanwhile, before anybody else is asked", async () => {
    const [first, second, third] = [createPuppet(), createPuppet(), createPuppet()];
    const { outcomes, more } = hedges();
    const agents = { first: safe(first.handler), second: safe(second.handler), third: safe(third.handler) };
    const replica = await start(agents, more, ["third"]);
    const task = await replica.begin();
    const turn = await second.turn();
    (await first.turn()).task(FAILED);
    turn.task(COMPLETED);
    const ended = await replica.ended(task);
    expect([stateOf(ended), ended.header.agentId]).toEqual([COMPLETED, "second"]);
    expect(await outcomes.next()).toBe("won");
  });

  it("goes on to the next agent when both have failed", async () => {
    const [first, second, third] = [createPuppet(), createPuppet(), createPuppet()];
    const { outcomes, more } = hedges();
    const agents = { first: safe(first.handler), second: safe(second.handler), third: safe(third.handler) };
    const replica = await start(agents, more, ["third"]);
    const task = await replica.begin();
    const turn = await second.turn();
    (await first.turn()).task(FAILED);
    turn.task(FAILED);
    expect(await outcomes.next()).toBe("failed");
    (await third.turn()).task(COMPLETED);
    expect((await replica.ended(task)).header).toMatchObject({ agentId: "third", attempt: 2 });
    // Another attempt is not hedged again.
    expect(outcomes.waiting).toBe(0);
  });

  it("is canceled at the agent that has it, and the copy with it", async () => {
    const first = createPuppet();
    const { agent: real, lab: second } = await realAgent();
    const { outcomes, more } = hedges();
    const replica = await start({ first: safe(first.handler), second }, more);
    const task = await replica.begin("slow");
    (await first.turn()).task();
    await real.turn(task.task.history[0]!.messageId);
    await replica.when(task, ({ header }) => header.upstreamTaskId !== undefined);
    await replica.cancel(task);
    expect(stateOf(await replica.load(task))).toBe(TaskState.CANCELED);
    expect(await outcomes.next()).toBe("lost");
  });

  it("is only the first agent's for the replica that takes it over while both are at it", async () => {
    const { agent: real, lab: first } = await realAgent();
    const second = createPuppet();
    const agents = { first, second: safe(second.handler) };
    const { more } = hedges();
    const doomed = await start(agents, more);
    const task = await doomed.begin("slow");
    const turn = await second.turn();
    const named = await doomed.when(task, ({ header }) => header.upstreamTaskId !== undefined);
    await doomed.kill();
    const other = await start(agents, undefined);
    await other.when(task, ({ header }) => header.fence > named.header.fence);
    turn.task(COMPLETED);
    real.release();
    const ended = await other.ended(task);
    expect(ended.header).toMatchObject({ agentId: "first", upstreamTaskId: named.header.upstreamTaskId });
    expect(real.received).toHaveLength(1);
  });

  describe("has no second agent", () => {
    it.each<[string, Partial<HedgePorts>]>([
      ["there is none", { secondAgent: async () => undefined }],
      ["it has no room", { tryReserve: async () => undefined }],
    ])("when %s, and that is counted", async (_, differs) => {
      const [first, second] = [createPuppet(), createPuppet()];
      const { outcomes, more } = hedges(differs);
      const replica = await start({ first: safe(first.handler), second: safe(second.handler) }, more);
      const task = await replica.begin();
      expect(await outcomes.next()).toBe("refused");
      (await first.turn()).task(COMPLETED);
      expect((await replica.ended(task)).header.agentId).toBe("first");
    });

    it("when a tenth of the first one's tasks are with one already", async () => {
      const [first, second] = [createPuppet(), createPuppet()];
      let inFlight = 19;
      const { outcomes, more } = hedges({ inFlight: () => inFlight });
      const replica = await start({ first: safe(first.handler), second: safe(second.handler) }, more);
      await replica.begin();
      const turn = await second.turn();
      await replica.begin();
      expect(await outcomes.next()).toBe("refused");
      inFlight = 20;
      await replica.begin();
      await second.turn();
      turn.task(COMPLETED);
      expect(await outcomes.next()).toBe("won");
      for (let i = 0; i < 3; i++) (await first.turn()).task(COMPLETED);
      expect(await outcomes.next()).toBe("lost");
    });

    it("when it would not be safe to ask it, or the first one's usual times are not known", async () => {
      const first = createPuppet();
      const asked = vi.fn<HedgePorts["averageLatencyMs"]>(async () => undefined);
      const unknown = hedges({ quantileMs: () => undefined, averageLatencyMs: asked });
      const replica = await start({ first: safe(first.handler), second: { handler: first.handler } }, unknown.more);
      const task = await replica.begin();
      const turn = await first.turn();
      await vi.waitFor(() => expect(asked).toHaveBeenCalledOnce(), { timeout: 10_000 });
      turn.task(COMPLETED);
      await replica.ended(task);
      expect(unknown.outcomes.waiting).toBe(0);
      const unsafe = hedges();
      const other = await start({ first: safe(first.handler), second: { handler: first.handler } }, unsafe.more);
      const more = await other.begin();
      expect(await unsafe.outcomes.next()).toBe("refused");
      (await first.turn()).task(COMPLETED);
      expect((await other.ended(more)).header.agentId).toBe("first");
    });

    it("and nothing is even looked up, where the first is not safe to repeat", async () => {
      const of = vi.fn(() => hedging);
      const first = createPuppet();
      const { more } = hedges({ rollouts: { of } });
      const replica = await start({ first: { handler: first.handler } }, more);
      const task = await replica.begin();
      (await first.turn()).task(COMPLETED);
      await replica.ended(task);
      expect(of).not.toHaveBeenCalled();
    });

    it("and no timer, where the rollout does not hedge", async () => {
      const quantileMs = vi.fn(() => 1);
      const first = createPuppet();
      const { more } = hedges({ rollouts: { of: () => DEFAULT_ROLLOUT }, quantileMs });
      const replica = await start({ first: safe(first.handler) }, more);
      const task = await replica.begin();
      (await first.turn()).task(COMPLETED);
      await replica.ended(task);
      expect(quantileMs).not.toHaveBeenCalled();
    });
  });

  /** What an agent does with a task: waits, says that it works, waits, ends it; all in milliseconds. */
  interface Habit {
    silentMs: number;
    worksMs: number;
    end: "completed" | "failed" | "message" | "broken";
    artifact: boolean;
  }
  const habit = fc.record<Habit>({
    silentMs: fc.integer({ min: 0, max: 6 }),
    worksMs: fc.integer({ min: 0, max: 6 }),
    end: fc.constantFrom("completed", "completed", "failed", "message", "broken"),
    artifact: fc.boolean(),
  });

  it("is asked of an agent once at most, never of two where that is not safe, and ends once, with one result", async () => {
    const runtime = systemRuntime();
    const habits = new Map<string, Habit>();
    const calls: { agent: string; text: string }[] = [];
    const textIn = ({ parts }: Message) => String(parts[0]?.content.value);
    function behave(agent: string): AgentHandler {
      return async function* (message, { signal }) {
        const text = textIn(message);
        calls.push({ agent, text });
        const { silentMs, worksMs, end, artifact } = habits.get(`${agent} ${text}`)!;
        const puppet = said(`${agent} ${text}`);
        await runtime.wait(silentMs, signal);
        if (end === "message") return yield puppet.message(agent);
        yield puppet.task(WORKING);
        await runtime.wait(worksMs, signal);
        if (end === "broken") throw new Error("broken");
        if (artifact) yield puppet.artifact(agent);
        yield puppet.status(end === "completed" ? COMPLETED : FAILED);
      };
    }
    const { outcomes, more } = hedges({ inFlight: () => 1000 });
    const replica = await start({ first: safe(behave("first")), second: safe(behave("second")) }, more);
    const unsafe = await start({ first: { handler: behave("first") }, second: safe(behave("second")) }, more);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(habit, habit, fc.boolean()), { minLength: 1, maxLength: 8 }), async (runs) => {
        await Promise.all(
          runs.map(async ([first, second, isSafe]) => {
            const text = runtime.newId();
            habits.set(`first ${text}`, first).set(`second ${text}`, second);
            const where = isSafe ? replica : unsafe;
            const ended = await where.ended(await where.begin(text));
            const asked = calls.filter((call) => call.text === text).map(({ agent }) => agent);
            expect(new Set(asked).size).toBe(asked.length);
            if (!isSafe) expect(asked).toEqual(["first"]);
            expect(asked).toContain(ended.header.agentId);
            const { updates } = (await where.store.load("default", ended.header.taskId))!;
            const ends = updates.filter((update) => TRANSITIONS.get(stateBrought(update) ?? 1)?.length === 0);
            expect(ends).toHaveLength(1);
            expect(ends[0]).toBe(updates.at(-1));
            for (const { parts } of ended.task.artifacts) expect(parts[0]?.content.value).toBe(ended.header.agentId);
            if (ended.reply) expect(ended.reply.parts[0]?.content.value).toBe(ended.header.agentId);
          }),
        );
      }),
      { numRuns: 25 },
    );
    const all = await Promise.all(Array.from({ length: outcomes.waiting }, outcomes.next));
    expect(new Set(all)).toEqual(new Set(["won", "lost", "failed"]));
  });
});

type Turn = Awaited<ReturnType<ReturnType<typeof createPuppet>["turn"]>>;

/** What an agent says of a task that it calls by this id. */
function said(id: string) {
  const parts = (text: string) => [{ content: { case: "text" as const, value: text } }];
  const response = (payload: MessageInitShape<typeof StreamResponseSchema>["payload"]) =>
    create(StreamResponseSchema, { payload: payload! });
  const ids = { taskId: id, contextId: "theirs" };
  return {
    message: (text: string) =>
      response({ case: "message", value: { messageId: id, role: Role.AGENT, parts: parts(text) } }),
    task: (state: TaskState) => response({ case: "task", value: { id, contextId: "theirs", status: { state } } }),
    artifact: (text: string) =>
      response({ case: "artifactUpdate", value: { ...ids, artifact: { artifactId: "a", parts: parts(text) } } }),
    status: (state: TaskState) => response({ case: "statusUpdate", value: { ...ids, status: { state } } }),
  };
}
