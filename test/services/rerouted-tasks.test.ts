/** A task that its agent did not do goes on to the next one: when, when not, and what follows it there. */
import { fromBinary } from "@bufbuild/protobuf";
import { describe, expect, it, onTestFinished } from "vitest";
import { type AgentCard, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteDecisionSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import { stateOf } from "../../src/domain/task-log.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { readDecision } from "../../src/store/route-reads.ts";
import { startRogueHttp } from "../agents/rogue-agent.ts";
import { startTestAgent } from "../agents/test-agent.ts";
import { through } from "../fault/agent-lab.ts";
import { createPuppet } from "../fault/puppet.ts";
import { describeEachBackend } from "../store/backends.ts";
import { resultOf, startReplica } from "./steering-lab.ts";

const { WORKING, COMPLETED, FAILED, CANCELED, INPUT_REQUIRED } = TaskState;

/** A port at which nobody listens. */
const NOWHERE = 1;

async function realAgent() {
  const agent = await startTestAgent({ bindings: ["JSONRPC"] });
  onTestFinished(() => agent.close());
  return agent;
}

const away = (card: AgentCard): AgentCard => through(card, NOWHERE);

describeEachBackend("a task that its agent did not do", (context) => {
  it("goes to the next agent at once when the first cannot be reached, and says so", async () => {
    const real = await realAgent();
    const puppet = createPuppet();
    const replica = await startReplica(context, {
      agents: {
        first: { card: away(real.card) },
        second: { card: away(real.card) },
        third: { handler: puppet.handler },
      },
      chain: ["second", "third"],
    });
    const task = await replica.begin();
    const turn = await puppet.turn();
    turn.task(COMPLETED);
    const ended = await replica.ended(task);
    expect(ended.header).toMatchObject({ agentId: "third", attempt: 3, origin: { agentIds: ["first", "second"] } });
    const causes = await replica.causes(task);
    expect(causes.filter((cause) => cause.startsWith("attempt"))).toEqual([
      expect.stringMatching(/^attempt 1 failed: unreachable: .*; the next one is with agent second instead of first$/),
      expect.stringMatching(/^attempt 2 failed: unreachable: .*; the next one is with agent third instead of second$/),
    ]);
    const decision = fromBinary(RouteDecisionSchema, (await readDecision(context.db, "default", task.header.taskId))!);
    expect(decision).toMatchObject({ agentId: "third", cuts: [{ agentIds: ["first", "second"] }] });
    for (const agentId of ["first", "second", "third"]) expect(replica.loads.of("default", agentId)?.inFlight).toBe(0);
    expect(replica.loads.of("default", "first")?.signals).toMatchObject({ failed: 1, succeeded: 0 });
    expect(replica.loads.of("default", "third")?.signals).toMatchObject({ failed: 0, succeeded: 1 });
  });

  it("goes to a real agent, whose own failure is the end when nobody is left", async () => {
    const real = await realAgent();
    const replica = await startReplica(context, {
      agents: { first: { card: away(real.card) }, second: { card: real.card } },
      chain: ["second"],
    });
    const done = await replica.ended(await replica.begin("hello"));
    expect([stateOf(done), resultOf(done)]).toEqual([COMPLETED, "hello|Done."]);
    const failed = await replica.ended(await replica.begin("fail"));
    expect([stateOf(failed), resultOf(failed)]).toEqual([FAILED, "It broke."]);
  });

  describe("when the agent says FAILED", () => {
    async function failing(options: { safeToRepeat: boolean; artifact?: boolean }) {
      const [puppet, next] = [createPuppet(), createPuppet()];
      const replica = await startReplica(context, {
        agents: {
          first: { handler: puppet.handler, safeToRepeat: options.safeToRepeat },
          second: { handler: next.handler },
        },
        chain: ["second"],
      });
      const task = await replica.begin();
      const turn = await puppet.turn();
      turn.task();
      if (options.artifact) turn.chunk("half of it");
      turn.status(FAILED, "I broke.");
      return { replica, task, next };
    }

    it("goes on where it is safe to repeat, and clients see no more than that it works", async () => {
      const { replica, task, next } = await failing({ safeToRepeat: true });
      const turn = await next.turn();
      expect(turn.message.taskId).toBe("");
      const meanwhile = await replica.load(task);
      expect([stateOf(meanwhile), meanwhile.header.agentId]).toEqual([WORKING, "second"]);
      turn.task();
      turn.chunk("all of it");
      turn.status(COMPLETED);
      const ended = await replica.ended(task);
      expect([stateOf(ended), resultOf(ended)]).toEqual([COMPLETED, "all of it"]);
      expect(ended.task.history).toHaveLength(1);
      expect(await replica.causes(task)).toContain(
        "attempt 1 failed: the agent says FAILED: I broke.; the next one is with agent second instead of first",
      );
    });

    it.each([
      ["is not safe to repeat", { safeToRepeat: false }],
      ["has shown an artifact", { safeToRepeat: true, artifact: true }],
    ])("ends where the agent %s", async (_, options) => {
      const { replica, task } = await failing(options);
      const ended = await replica.ended(task);
      expect([stateOf(ended), ended.header.agentId]).toEqual([FAILED, "first"]);
      expect(resultOf(ended)).toContain("I broke.");
    });
  });

  it("goes on after an answer that is an error, where the agent is safe to repeat", async () => {
    const next = createPuppet();
    const replica = await startReplica(context, {
      agents: {
        first: { handler: async () => Promise.reject(new Error("a bug")), safeToRepeat: true },
        second: { handler: next.handler },
      },
      chain: ["second"],
    });
    const task = await replica.begin();
    (await next.turn()).task(COMPLETED);
    expect((await replica.ended(task)).header.agentId).toBe("second");
  });

  it("stays where it is when nobody knows what became of an agent that is not safe to repeat", async () => {
    const rogue = await startRogueHttp((request) => {
      request.resume().once("end", () => request.socket.resetAndDestroy());
    });
    onTestFinished(() => rogue.close());
    const real = await realAgent();
    const next = createPuppet();
    const agents = (safeToRepeat: boolean) => ({
      first: { card: through(real.card, rogue.port), safeToRepeat },
      second: { handler: next.handler },
    });
    const unsafe = await startReplica(context, { agents: agents(false), chain: ["second"] });
    const ended = await unsafe.ended(await unsafe.begin());
    expect([stateOf(ended), ended.header.agentId]).toEqual([FAILED, "first"]);
    const safe = await startReplica(context, { agents: agents(true), chain: ["second"] });
    const task = await safe.begin();
    (await next.turn()).task(COMPLETED);
    expect((await safe.ended(task)).header.agentId).toBe("second");
  });

  it("is begun by another replica at the next agent, when its own dies right after it wrote down who has it next", async () => {
    const real = await realAgent();
    const puppet = createPuppet();
    const agents = { first: { card: away(real.card) }, second: { handler: puppet.handler } };
    const doomed = await startReplica(context, { agents, chain: ["second"], claims: false });
    const task = await doomed.begin();
    const between = await doomed.when(task, ({ header }) => header.agentId === "second");
    expect(between.state).toBe(EngineState.SCHEDULED);
    await doomed.kill();
    const other = await startReplica(context, { agents });
    (await puppet.turn()).task(COMPLETED);
    const ended = await other.ended(task);
    expect([stateOf(ended), ended.header.agentId, ended.header.attempt]).toEqual([COMPLETED, "second", 2]);
  });

  it("goes on from where it is, when the replica dies at the next agent", async () => {
    const real = await realAgent();
    const agents = { first: { card: away(real.card) }, second: { card: real.card } };
    const doomed = await startReplica(context, { agents, chain: ["second"] });
    const task = await doomed.begin("slow");
    const named = await doomed.when(task, ({ header }) => header.upstreamTaskId !== undefined);
    await doomed.kill();
    const other = await startReplica(context, { agents });
    await other.when(task, ({ header }) => header.fence > named.header.fence);
    real.release();
    const ended = await other.ended(task);
    expect([stateOf(ended), ended.header.upstreamTaskId]).toEqual([COMPLETED, named.header.upstreamTaskId]);
    expect(real.received).toHaveLength(1);
  });

  it("takes its client's next message, and a cancel, at the agent that has it", async () => {
    const real = await realAgent();
    const replica = await startReplica(context, {
      agents: { first: { card: away(real.card) }, second: { card: real.card } },
      chain: ["second"],
    });
    const asked = await replica.begin("ask");
    await replica.when(asked, (image) => stateOf(image) === INPUT_REQUIRED);
    await replica.tell(asked, "blue");
    expect(resultOf(await replica.ended(asked))).toContain("You said: blue");
    const slow = await replica.begin("slow");
    await replica.when(slow, (image) => stateOf(image) === WORKING);
    // By an image from before it went on.
    await replica.cancel(slow);
    expect(stateOf(await replica.load(slow))).toBe(CANCELED);
    const turn = await real.turn(slow.task.history[0]!.messageId);
    expect(await turn.outcome).toBe("canceled");
  });

  it("refuses a message that was meant for the agent that had it", async () => {
    const real = await realAgent();
    const replica = await startReplica(context, {
      agents: { first: { card: away(real.card) }, second: { card: real.card } },
      chain: ["second"],
    });
    const task = await replica.begin("slow");
    const named = await replica.when(task, ({ header }) => header.upstreamTaskId !== undefined);
    const stale = { ...named, header: { ...named.header, agentId: "first" } };
    await expect(
      replica.dispatcher.proceed(stale, replica.work("more", named, "first"), new AbortController().signal),
    ).rejects.toMatchObject({ reason: "TASK_NOT_BEGUN", code: "UNAVAILABLE" });
    expect(real.received).toHaveLength(1);
    await replica.cancel(named);
  });
});
