/** Agents that a workspace borrows from another: agents of its own in everything but that it cannot change them. */
import { setTimeout } from "node:timers/promises";
import { clone, create } from "@bufbuild/protobuf";
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import {
  AgentCardSchema,
  AgentSkillSchema,
  CancelTaskRequestSchema,
  GetTaskRequestSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  AddCapabilityRequestSchema,
  CircuitState,
  HeartbeatRequestSchema,
  ListAgentsRequestSchema,
  ListCapabilitiesRequestSchema,
  RemoveCapabilityRequestSchema,
  SearchAgentsRequestSchema,
  UpdateAgentRequestSchema,
} from "../../gen/signalbox/v1/registry_pb.ts";
import type { Engine } from "../../src/engine.ts";
import { AgentCallError } from "../../src/services/agent-port.ts";
import { type RemotePuppet, type RemoteTurn, startRemotePuppet } from "../agents/remote-puppet.ts";
import { BACKENDS } from "../store/backends.ts";
import { raw } from "../store/tables.ts";
import { contextIn, grant, type LendingLab, openLendingLab, register, revoke, sendIn } from "./lending-lab.ts";

const LONG = { timeout: 20_000 };

function end(turn: RemoteTurn, text?: string): void {
  turn.name();
  turn.status("COMPLETED", text);
}

async function puppet(): Promise<RemotePuppet> {
  const started = await startRemotePuppet();
  onTestFinished(() => started.close());
  return started;
}

const withSkills = (card: RemotePuppet["card"], ...ids: string[]) => {
  const copy = clone(AgentCardSchema, card);
  copy.skills = ids.map((id) =>
    create(AgentSkillSchema, { id, name: id, description: `It can ${id}.`, tags: ["test"] }),
  );
  return copy;
};

const stateIn = async ({ tasks }: Engine, workspaceId: string, id: string) =>
  (await tasks.get(contextIn(workspaceId), create(GetTaskRequestSchema, { id }))).status?.state;

const idsIn = async ({ registry }: Engine, workspaceId: string) =>
  (await registry.list(contextIn(workspaceId), create(ListAgentsRequestSchema, {}))).agents.map(
    ({ agentId }) => agentId,
  );

const refusal = (deed: Promise<unknown>) =>
  deed.then(
    () => "done",
    (error: { reason?: string }) => error.reason ?? error,
  );

describe.each(BACKENDS)("what is lent, on %s", (backend) => {
  let lab: LendingLab;
  beforeAll(async () => {
    lab = await openLendingLab(backend);
    return () => lab.close();
  });
  beforeEach(async () => {
    await raw(lab.db, "delete from grants");
    await raw(lab.db, "delete from agents");
    for (const id of ["lender", "borrower", "other"]) lab.engine.directory.changed(id);
  });

  /** An agent of the lender's, and how the borrower sees it by now. */
  async function lent(
    skills: string[],
    given: Partial<Parameters<typeof grant>[1]> = {},
    { agentId = "worker", maxConcurrency = 0 } = {},
  ) {
    const agent = await puppet();
    await register(lab.engine, "lender", agentId, withSkills(agent.card, ...skills), { maxConcurrency });
    const grantId = await grant(lab.db, { provider: "lender", consumer: "borrower", agentId, ...given });
    lab.engine.directory.changed("borrower");
    return { agent, grantId };
  }

  test("does the borrower's tasks under the borrower's name for it, and neither sees the other's", async () => {
    const { engine } = lab;
    const { agent } = await lent(["dig"], { alias: "digger" });
    const task = sendIn(engine, "borrower", "a hole", { tenant: "a.digger", wait: true });
    end(await agent.turn());
    const done = await task;
    expect(done.status?.state).toBe(TaskState.COMPLETED);
    const byCapability = sendIn(engine, "borrower", "another", { tenant: "c.dig", wait: true });
    end(await agent.turn());
    expect((await byCapability).status?.state).toBe(TaskState.COMPLETED);
    expect(await refusal(stateIn(engine, "lender", done.id))).toBe("TASK_NOT_FOUND");
    for (const [workspaceId, tenant] of [
      ["borrower", "a.worker"],
      ["lender", "a.digger"],
      ["other", "a.digger"],
      ["other", "a.worker"],
    ] as const)
      expect(await refusal(sendIn(engine, workspaceId, "x", { tenant }))).toBe("TARGET_NOT_FOUND");
    expect(agent.heard).toEqual(["a hole", "another"]);
  });

  test("is shown with whose it is, and without where it is and how to get in", async () => {
    const { engine } = lab;
    await lent(["dig", "fill"], { alias: "digger" });
    await register(engine, "borrower", "b-own", (await puppet()).card);
    await register(engine, "borrower", "z-own", (await puppet()).card);
    expect(await idsIn(engine, "borrower")).toEqual(["b-own", "digger", "z-own"]);
    const pages: string[] = [];
    for (let pageToken = ""; ; ) {
      const page = await engine.registry.list(
        contextIn("borrower"),
        create(ListAgentsRequestSchema, { pageSize: 1, pageToken }),
      );
      pages.push(...page.agents.map(({ agentId }) => agentId));
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    expect(pages).toEqual(["b-own", "digger", "z-own"]);
    const seen = await engine.registry.get(contextIn("borrower"), "digger");
    expect(seen).toMatchObject({ agentId: "digger", lentByWorkspaceId: "lender", cardUrl: "" });
    expect(seen.interface).toBeUndefined();
    expect(seen.health?.healthy).toBe(true);
    expect(JSON.stringify(seen.card)).not.toContain("127.0.0.1");
    expect((await engine.registry.get(contextIn("lender"), "worker")).lentByWorkspaceId).toBe("");
    expect((await engine.registry.get(contextIn("lender"), "worker")).interface).toBeDefined();
    const found = await engine.registry.searchAgents(
      contextIn("borrower"),
      create(SearchAgentsRequestSchema, { capabilityId: "dig" }),
    );
    expect(found.agents.map(({ agent }) => agent?.lentByWorkspaceId)).toEqual(["lender"]);
    expect(found.agents[0]?.agent?.interface).toBeUndefined();
  });

  test("cannot be changed by the borrower, may be its default, and keeps its id from others", async () => {
    const { engine } = lab;
    await lent(["dig"], { alias: "digger" });
    const { registry, agentHealth } = engine;
    const context = contextIn("borrower");
    const capability = { agentId: "digger", capability: { capabilityId: "more" } };
    const agent = { agentId: "digger", safeToRepeat: true };
    const deeds = {
      update: registry.update(context, create(UpdateAgentRequestSchema, { agent, updateMask: { paths: ["*"] } })),
      remove: registry.remove(context, "digger"),
      refresh: registry.refreshCard(context, "digger"),
      add: registry.addCapability(context, create(AddCapabilityRequestSchema, capability)),
      take: registry.removeCapability(
        context,
        create(RemoveCapabilityRequestSchema, { agentId: "digger", capabilityId: "dig" }),
      ),
      beat: agentHealth.beat(context, create(HeartbeatRequestSchema, { agentId: "digger", ttlMs: 1000 })),
      check: agentHealth.check(context, "digger"),
    };
    // All at once: whatever is refused while another is looked at is refused all the same.
    const refused = Object.entries(deeds).map(async ([deed, done]) => [deed, await refusal(done)]);
    for (const [deed, reason] of await Promise.all(refused)) expect([deed, reason]).toEqual([deed, "AGENT_IS_LENT"]);
    expect(await refusal(register(engine, "borrower", "digger", (await puppet()).card))).toBe("AGENT_EXISTS");
    expect((await registry.setDefault(context, "digger")).isDefault).toBe(true);
    // Who has nothing to do with it hears nothing of it.
    expect(await refusal(registry.remove(contextIn("other"), "digger"))).toBe("AGENT_NOT_FOUND");
    expect(await registry.get(contextIn("lender"), "worker")).toMatchObject({ safeToRepeat: false });
  });

  test("of one capability offers nothing else, whatever else the agent learns", async () => {
    const { engine } = lab;
    await lent(["dig", "fill"], { capabilityId: "dig" });
    const offered = async () =>
      (
        await engine.registry.listCapabilities(contextIn("borrower"), create(ListCapabilitiesRequestSchema, {}))
      ).capabilities.map(({ capabilityId }) => capabilityId);
    expect(await offered()).toEqual(["dig"]);
    await engine.registry.addCapability(
      contextIn("lender"),
      create(AddCapabilityRequestSchema, { agentId: "worker", capability: { capabilityId: "paint" } }),
    );
    expect(await offered()).toEqual(["dig"]);
    expect(await refusal(sendIn(engine, "borrower", "x", { tenant: "c.fill" }))).toBe("TARGET_NOT_FOUND");
    expect((await engine.registry.get(contextIn("borrower"), "worker")).card?.skills.map(({ id }) => id)).toEqual([
      "dig",
    ]);
    const { card } = await engine.registry.get(contextIn("lender"), "worker");
    card!.skills = card!.skills.filter(({ id }) => id !== "dig");
    await engine.registry.update(
      contextIn("lender"),
      create(UpdateAgentRequestSchema, { agent: { agentId: "worker", card: card! }, updateMask: { paths: ["card"] } }),
    );
    expect(await idsIn(engine, "borrower")).toEqual([]);
  });

  test(
    "gets no task that another agent has had under its id, before it was lent or after its grant has ended",
    LONG,
    async () => {
      const { engine, db } = lab;
      const { agent, grantId } = await lent(["dig"]);
      await revoke(db, grantId);
      await expect.poll(() => idsIn(engine, "borrower"), LONG).toEqual([]);
      // As if the borrower's own agent knew what the lender's calls its tasks: it says what it likes.
      await register(engine, "borrower", "worker", agent.card);
      const task = await sendIn(engine, "borrower", "own", { tenant: "a.worker" });
      const turn = await agent.turn();
      turn.name();
      turn.status("INPUT_REQUIRED", "how deep?");
      await expect.poll(() => stateIn(engine, "borrower", task.id), LONG).toBe(TaskState.INPUT_REQUIRED);
      await engine.registry.remove(contextIn("borrower"), "worker");
      await refusal(sendIn(engine, "borrower", "after the grant", { taskId: task.id }));
      await setTimeout(500);
      expect(agent.heard).toEqual(["own"]);
      await grant(db, { provider: "lender", consumer: "borrower", agentId: "worker" });
      await expect.poll(() => idsIn(engine, "borrower"), LONG).toEqual(["worker"]);
      await refusal(sendIn(engine, "borrower", "before the grant", { taskId: task.id }));
      await setTimeout(500);
      expect(agent.heard).toEqual(["own"]);
    },
  );

  test("shows the lender's changes, and goes when the agent, the grant or its time goes", LONG, async () => {
    const { engine, db } = lab;
    const { grantId } = await lent(["dig"]);
    const context = contextIn("lender");
    const said = { agentId: "worker", capability: { capabilityId: "paint" } };
    expect(await idsIn(engine, "borrower")).toEqual(["worker"]);
    await engine.registry.addCapability(context, create(AddCapabilityRequestSchema, said));
    const { byCapability } = await engine.directory.agents("borrower");
    expect([...byCapability.keys()]).toEqual(["dig", "paint"]);
    expect(byCapability.get("paint")![0]).toMatchObject({
      agent: { workspaceId: "borrower", agentId: "worker", home: { workspaceId: "lender", agentId: "worker" } },
      capability: { agentId: "worker" },
    });
    await revoke(db, grantId);
    await expect.poll(() => idsIn(engine, "borrower"), LONG).toEqual([]);
    await grant(db, { provider: "lender", consumer: "borrower", agentId: "worker", expiresInMs: 2_500 });
    await expect.poll(() => idsIn(engine, "borrower"), LONG).toEqual(["worker"]);
    await expect.poll(() => idsIn(engine, "borrower"), LONG).toEqual([]);
    await grant(db, { provider: "lender", consumer: "borrower", agentId: "worker", alias: "again" });
    await expect.poll(() => idsIn(engine, "borrower"), LONG).toEqual(["again"]);
    await raw(db, "update workspaces set suspended_at = now() where workspace_id = 'lender'");
    await expect.poll(() => idsIn(engine, "borrower"), LONG).toEqual([]);
    await raw(db, "update workspaces set suspended_at = null where workspace_id = 'lender'");
    await expect.poll(() => idsIn(engine, "borrower"), LONG).toEqual(["again"]);
    await engine.registry.remove(context, "worker");
    expect(await idsIn(engine, "borrower")).toEqual([]);
  });

  test("is not lent on, and two may lend each other", async () => {
    const { engine, db } = lab;
    await lent(["dig"]);
    await register(engine, "borrower", "mine", (await puppet()).card);
    await grant(db, { provider: "borrower", consumer: "other", agentId: "worker" });
    await grant(db, { provider: "borrower", consumer: "lender", agentId: "mine" });
    for (const id of ["lender", "borrower", "other"]) engine.directory.changed(id);
    expect(await idsIn(engine, "other")).toEqual([]);
    const [a, b] = await Promise.all([idsIn(engine, "lender"), idsIn(engine, "borrower")]);
    expect(a).toEqual(["mine", "worker"]);
    expect(b).toEqual(["mine", "worker"]);
  });

  test(
    "tasks under way run to their end when the grant ends, also with more that is said; new ones do not begin",
    LONG,
    async () => {
      const { engine, db } = lab;
      const { agent, grantId } = await lent(["dig"], {}, { maxConcurrency: 2 });
      const first = await sendIn(engine, "borrower", "first", { tenant: "a.worker" });
      const turn = await agent.turn();
      turn.name();
      const second = await sendIn(engine, "borrower", "second", { tenant: "a.worker" });
      const asking = await agent.turn();
      asking.name();
      asking.status("INPUT_REQUIRED", "how deep?");
      await expect.poll(() => stateIn(engine, "borrower", second.id), LONG).toBe(TaskState.INPUT_REQUIRED);
      const third = await sendIn(engine, "borrower", "third", { tenant: "a.worker" });
      (await agent.turn()).name();
      await revoke(db, grantId);
      await expect
        .poll(() => refusal(sendIn(engine, "borrower", "late", { tenant: "a.worker" })), LONG)
        .toBe("TARGET_NOT_FOUND");
      end(turn);
      await expect.poll(() => stateIn(engine, "borrower", first.id), LONG).toBe(TaskState.COMPLETED);
      // The alias is somebody else's by now, who never had the task.
      const stranger = await puppet();
      await register(engine, "borrower", "worker", stranger.card);
      const more = sendIn(engine, "borrower", "deep", { taskId: second.id, wait: true });
      const answer = await agent.turn();
      expect(answer.text).toBe("deep");
      answer.status("COMPLETED");
      expect((await more).status?.state).toBe(TaskState.COMPLETED);
      await engine.tasks.cancel(contextIn("borrower"), create(CancelTaskRequestSchema, { id: third.id }));
      await agent.canceled();
      expect(await stateIn(engine, "borrower", third.id)).toBe(TaskState.CANCELED);
      // What was sent before the server heard of the end, and waited, is for whoever has the id now: it had begun nowhere.
      expect(stranger.heard.filter((text) => text !== "late")).toEqual([]);
    },
  );

  test("is in trouble for the borrower when it is for the lender, and the other way round", async () => {
    const { engine, db } = lab;
    const { agent } = await lent(["dig"], { alias: "digger" });
    const { loads, directory } = engine;
    const ask = (workspaceId: string) =>
      refusal(sendIn(engine, workspaceId, "x", { tenant: workspaceId === "lender" ? "a.worker" : "a.digger" }));
    const task = sendIn(engine, "borrower", "x", { tenant: "a.digger", wait: true });
    end(await agent.turn());
    await task;
    expect(loads.of("lender", "worker")?.signals.succeeded).toBe(1);
    expect(loads.of("borrower", "digger")).toBe(loads.of("lender", "worker"));
    const home = { workspaceId: "lender", agentId: "worker" };
    for (let i = 0; i < 50; i++) loads.failedCall(home, new AgentCallError("unreachable", "It is not there."));
    expect(await ask("borrower")).toBe("AGENT_UNAVAILABLE");
    expect(await ask("lender")).toBe("AGENT_UNAVAILABLE");
    const { health } = await engine.registry.get(contextIn("borrower"), "digger");
    expect(health?.circuitState).toBe(CircuitState.OPEN);
    loads.moved(home);
    expect(await ask("borrower")).toBe("done");
    const context = contextIn("lender");
    await engine.agentHealth.beat(context, create(HeartbeatRequestSchema, { agentId: "worker", ttlMs: 60_000 }));
    await raw(db, "update agent_health set heartbeat_expires_at = now() - interval '1 second'");
    directory.changed("lender");
    expect(await ask("borrower")).toBe("AGENT_UNAVAILABLE");
    const seen = await engine.registry.get(contextIn("borrower"), "digger");
    expect(seen.health).toMatchObject({ healthy: false, reason: "the workspace that lends it knows why" });
    await engine.agentHealth.beat(context, create(HeartbeatRequestSchema, { agentId: "worker" }));
    expect(await ask("borrower")).toBe("done");
  });

  test("the agent's limit is one for all who use it, and they take turns at it", LONG, async () => {
    const { engine } = lab;
    // What earlier tests have left comes to whoever has the agent's id now, and would take a turn.
    const { agent } = await lent(["dig"], { alias: "crew" }, { agentId: "crowded", maxConcurrency: 1 });
    await sendIn(engine, "lender", "l0", { tenant: "a.crowded" });
    let turn = await agent.turn();
    turn.name();
    // The lender is there first, with many.
    for (let i = 1; i <= 6; i++) await sendIn(engine, "lender", `l${i}`, { tenant: "a.crowded" });
    for (let i = 1; i <= 3; i++) await sendIn(engine, "borrower", `b${i}`, { tenant: "a.crew" });
    const order: string[] = [];
    for (let turns = 1; order.length < 9; turns++) {
      expect(agent.heard).toHaveLength(turns);
      turn.status("COMPLETED");
      turn = await agent.turn();
      turn.name();
      order.push(turn.text);
    }
    turn.status("COMPLETED");
    expect(order.filter((text) => text.startsWith("l"))).toEqual(["l1", "l2", "l3", "l4", "l5", "l6"]);
    expect(order.filter((text) => text.startsWith("b"))).toEqual(["b1", "b2", "b3"]);
    expect(order.slice(0, 7).filter((text) => text.startsWith("b")).length, order.join(" ")).toBeGreaterThanOrEqual(3);
  });
});
