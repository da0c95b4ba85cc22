/** Copies of tasks at another agent: what is compared, and what never depends on it. */
import { describe, expect, it, onTestFinished } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { databaseUnavailable } from "../../src/domain/errors.ts";
import { DEFAULT_ROLLOUT } from "../../src/domain/rollout.ts";
import { stateOf } from "../../src/domain/task-log.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import type { PermitTask } from "../../src/services/agent-permits.ts";
import { AgentCallError } from "../../src/services/agent-port.ts";
import type { DispatcherDeps } from "../../src/services/dispatcher.ts";
import type { ResultPolicy } from "../../src/services/guarded-writer.ts";
import type { MirrorOutcome } from "../../src/services/mirrors.ts";
import { createHeldUpdates } from "../../src/store/held-updates.ts";
import { startTestAgent } from "../agents/test-agent.ts";
import { through } from "../fault/agent-lab.ts";
import { createInbox } from "../fault/inbox.ts";
import { createPuppet } from "../fault/puppet.ts";
import { describeEachBackend } from "../store/backends.ts";
import { resultOf, type SteeringOptions, startReplica } from "./steering-lab.ts";

const { COMPLETED, FAILED, CANCELED, WORKING, INPUT_REQUIRED } = TaskState;

/** What is mirrored, and the outcomes as they come. */
function mirroring(percent = 100, promised = false, hasRoom = true, isAllowed = true) {
  const outcomes = createInbox<MirrorOutcome>();
  const rollout = { ...DEFAULT_ROLLOUT, mirror: { agentId: "mirror", percent } };
  const rollouts = { of: () => (promised ? Promise.resolve(rollout) : rollout) };
  const reserved: PermitTask[] = [];
  const tryReserve = async (task: PermitTask) => {
    reserved.push(task);
    return hasRoom ? () => {} : undefined;
  };
  const more = (): Partial<DispatcherDeps> => ({
    mirrors: { rollouts, isAllowed: async () => isAllowed, tryReserve, onOutcome: outcomes.put },
  });
  return { outcomes, more, reserved };
}

async function realAgent(options: { streaming?: boolean } = {}) {
  const agent = await startTestAgent({ bindings: ["JSONRPC"], ...options });
  onTestFinished(() => agent.close());
  return agent;
}

describeEachBackend("a mirrored task", (context) => {
  const start = (agents: SteeringOptions["agents"], more: SteeringOptions["more"]) =>
    startReplica(context, { agents, ...(more && { more }) });

  it.each([
    ["streams", true],
    ["does not stream", false],
  ])("is compared with what a mirror says that %s, and told to nobody", async (_, streaming) => {
    const [first, mirror] = [await realAgent(), await realAgent({ streaming })];
    const { outcomes, more } = mirroring(100, streaming);
    const replica = await start({ first: { card: first.card }, mirror: { card: mirror.card } }, more);
    const task = await replica.begin("hello");
    expect(await outcomes.next()).toBe("same");
    const ended = await replica.ended(task);
    expect([ended.header.agentId, resultOf(ended)]).toEqual(["first", "hello|Done."]);
    expect(ended.header).not.toHaveProperty("origin");
    const line = await replica.logged.until("a mirrored task was compared");
    expect(line).toMatchObject({ level: 30, mirrorAgentId: "mirror", outcome: "same", digest: line.mirrorDigest });
    expect(mirror.received[0]).toMatchObject({ taskId: "", messageId: task.task.history[0]?.messageId });
  });

  it("differs where the texts do, and where one of them failed", async () => {
    const first = await realAgent();
    const mirror = createPuppet();
    const { outcomes, more } = mirroring();
    const replica = await start({ first: { card: first.card }, mirror: { handler: mirror.handler } }, more);
    await replica.begin("hello");
    const turn = await mirror.turn();
    turn.task();
    turn.chunk("good day");
    turn.status(COMPLETED, "Done.");
    expect(await outcomes.next()).toBe("different");
    await replica.begin("hello");
    (await mirror.turn()).task(FAILED);
    expect(await outcomes.next()).toBe("different");
    await replica.begin("message");
    (await mirror.turn()).task(COMPLETED);
    expect(await outcomes.next()).toBe("different");
  });

  it("is compared as far as both come without their client", async () => {
    const [first, mirror] = [createPuppet(), createPuppet()];
    const { outcomes, more } = mirroring();
    const replica = await start({ first: { handler: first.handler }, mirror: { handler: mirror.handler } }, more);
    const task = await replica.begin();
    (await first.turn()).task(INPUT_REQUIRED);
    (await mirror.turn()).task(INPUT_REQUIRED);
    expect(await outcomes.next()).toBe("same");
    await replica.cancel(await replica.load(task));
  });

  it("is not delayed by a mirror that hangs, nor failed by one that cannot be had", async () => {
    const first = await realAgent();
    const silent: AgentHandler = async (_, { signal }) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    const hanging = mirroring();
    const replica = await start({ first: { card: first.card }, mirror: { handler: silent } }, hanging.more);
    expect(stateOf(await replica.ended(await replica.begin()))).toBe(COMPLETED);
    expect(hanging.outcomes.waiting).toBe(0);
    // Its copy is let go of with the server.
    await replica.stop();
    expect(await hanging.outcomes.next()).toBe("dropped");

    const away = mirroring();
    const other = await start({ first: { card: first.card }, mirror: { card: through(first.card, 1) } }, away.more);
    expect(stateOf(await other.ended(await other.begin()))).toBe(COMPLETED);
    expect(await away.outcomes.next()).toBe("failed");
  });

  it("is compared with nothing when its client cancels it, and the copy is canceled too", async () => {
    const first = createPuppet();
    const mirror = await realAgent();
    const { outcomes, more } = mirroring();
    const replica = await start({ first: { handler: first.handler }, mirror: { card: mirror.card } }, more);
    const task = await replica.begin("slow");
    (await first.turn()).task();
    await replica.when(task, (image) => stateOf(image) === WORKING && image.header.upstreamTaskId !== undefined);
    await mirror.turn(task.task.history[0]!.messageId);
    await replica.cancel(task);
    expect(stateOf(await replica.load(task))).toBe(CANCELED);
    expect(await outcomes.next()).toBe("dropped");
  });

  it("is not copied to a mirror that has no room", async () => {
    const [first, mirror] = [createPuppet(), createPuppet()];
    const { outcomes, more, reserved } = mirroring(100, false, false);
    const replica = await start({ first: { handler: first.handler }, mirror: { handler: mirror.handler } }, more);
    await replica.begin("hello", { capabilityId: "translate" });
    expect(await outcomes.next()).toBe("dropped");
    // The limit of the capability counts as the agent's does.
    expect(reserved).toMatchObject([{ agentId: "mirror", capabilityId: "translate" }]);
  });

  it("has nothing that the mirror says in this server's log, where that one is looked at", async () => {
    const first = createPuppet();
    const { outcomes, more } = mirroring();
    const results: ResultPolicy = {
      load: () => undefined,
      guards: ({ agentId }) => agentId === "mirror",
      factsOf: async () => ({}),
      decide: () => ({ effect: "ALLOW", rules: [] }),
    };
    const guard = { results, held: createHeldUpdates(context.db), maxBytes: 1_000_000 };
    const refuse = () => Promise.reject(new AgentCallError("refused", "secret words", { reason: "SECRET" }));
    const agents = { first: { handler: first.handler }, mirror: { handler: first.handler } };
    const replica = await start(agents, ({ connector }) => ({
      ...more(),
      guard,
      connector: {
        ...connector,
        connect(agent) {
          const client = connector.connect(agent);
          return agent.agentId === "mirror" ? Object.assign(client, { streaming: false, send: refuse }) : client;
        },
      },
    }));
    await replica.begin();
    (await first.turn()).task(COMPLETED);
    expect(await outcomes.next()).toBe("failed");
    const { lines } = replica.logged;
    expect(lines.find(({ msg }) => msg === "the mirror failed")).toMatchObject({ kind: "refused" });
    expect(JSON.stringify(lines)).not.toMatch(/secret/i);
  });

  it("is not copied where nobody can say whether it is to be, because the database is away", async () => {
    const [first, mirror] = [createPuppet(), createPuppet()];
    const { outcomes, more } = mirroring();
    const away = { ...more().mirrors!, rollouts: { of: () => Promise.reject(databaseUnavailable(new Error("away"))) } };
    const logged: unknown[] = [];
    const agents = { first: { handler: first.handler }, mirror: { handler: mirror.handler } };
    const replica = await start(agents, ({ log }) => ({
      mirrors: away,
      log: Object.assign(Object.create(log), { error: (...said: unknown[]) => void logged.push(said) }),
    }));
    const task = await replica.begin();
    (await first.turn()).task(COMPLETED);
    await replica.ended(task);
    await replica.stop();
    expect([logged, outcomes.waiting]).toEqual([[], 0]);
  });

  it("has 64 companions at most, and the 65th has no copy", async () => {
    const [first, mirror] = [createPuppet(), createPuppet()];
    const { outcomes, more } = mirroring();
    const replica = await start({ first: { handler: first.handler }, mirror: { handler: mirror.handler } }, more);
    const tasks = await Promise.all(Array.from({ length: 65 }, () => replica.begin()));
    expect(await outcomes.next()).toBe("dropped");
    for (let i = 0; i < 65; i++) (await first.turn()).task(COMPLETED);
    for (let i = 0; i < 64; i++) (await mirror.turn()).task(COMPLETED);
    for (let i = 0; i < 64; i++) expect(await outcomes.next()).toBe("same");
    await Promise.all(tasks.map(replica.ended));
    await replica.begin();
    (await first.turn()).task(COMPLETED);
    (await mirror.turn()).task(COMPLETED);
    expect(await outcomes.next()).toBe("same");
  });

  describe("is not copied", () => {
    it("to the agent that has it", async () => {
      const puppet = createPuppet();
      const { outcomes, more } = mirroring();
      const replica = await start({ mirror: { handler: puppet.handler } }, more);
      const task = await replica.begin();
      (await puppet.turn()).task(COMPLETED);
      await replica.ended(task);
      await replica.stop();
      expect(outcomes.waiting).toBe(0);
    });

    it("where it is not in the sample, which is as large as was said", async () => {
      const mirror: AgentHandler = async () => Promise.reject(new Error("no"));
      const first = await realAgent();
      const { outcomes, more } = mirroring(30);
      const replica = await start({ first: { card: through(first.card, 1) }, mirror: { handler: mirror } }, () => ({
        ...more(),
        attempts: { most: 1, minPauseMs: 1, maxPauseMs: 1, onPause() {} },
      }));
      await Promise.all(Array.from({ length: 200 }, async () => replica.ended(await replica.begin())));
      await replica.stop();
      // 30 of 100, give or take four standard deviations.
      expect(outcomes.waiting).toBeGreaterThan(60 - 26);
      expect(outcomes.waiting).toBeLessThan(60 + 26);
    });
  });
});
