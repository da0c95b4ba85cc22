/** What is held of a workspace's agents, and what of it survives when it is loaded again. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { CapabilitySchema } from "../../gen/signalbox/v1/registry_pb.ts";
import { createAgentDirectory } from "../../src/services/agent-directory.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createAgentRepository } from "../../src/store/agent-repository.ts";
import { createCapabilityRepository } from "../../src/store/capability-repository.ts";
import { describeEachBackend } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

const cardOf = (name: string, ...skills: string[]): AgentCard =>
  create(AgentCardSchema, {
    name,
    skills: skills.map((id) => ({ id, name: id, description: `${name} can ${id}` })),
  });

describeEachBackend("the agent directory", (ctx) => {
  async function open() {
    await raw(ctx.db, "delete from agents");
    const agents = createAgentRepository(ctx.db);
    const capabilities = createCapabilityRepository(ctx.db);
    const directory = createAgentDirectory(agents, capabilities, systemRuntime());
    let clock = Date.UTC(2026, 0, 1);
    const now = () => new Date(clock++);
    return {
      agents,
      now,
      add: (id: string, ...skills: string[]) =>
        agents.insert(
          "default",
          id,
          { source: source(cardOf(id, ...skills)), safeToRepeat: false, maxConcurrency: 0 },
          now(),
        ),
      change: (id: string, ...skills: string[]) =>
        agents.update("default", id, { source: source(cardOf(id, ...skills)) }, now()),
      give: (id: string, capabilityId: string, description = "") => {
        const given = create(CapabilitySchema, { capabilityId, description, inputSchema: { type: "object" } });
        return capabilities.put("default", id, given, { most: 1000, now: now() });
      },
      take: (id: string, capabilityId: string) => capabilities.remove("default", id, capabilityId, now()),
      load: () => {
        directory.changed("default");
        return directory.agents("default");
      },
    };
  }
  const source = (card: AgentCard) => ({ card, cardUrl: undefined, cardEtag: undefined });
  const found = (matches: { agentId: string; capabilityId: string }[]) =>
    matches.map(({ agentId, capabilityId }) => `${agentId}/${capabilityId}`);

  test("knows who offers what, in the order of ids", async () => {
    const { add, give, load } = await open();
    await add("b", "swim", "fly");
    await add("a", "fly");
    await give("b", "drive");
    const { byCapability, capabilities, byId } = await load();
    expect([...byId.keys()]).toEqual(["a", "b"]);
    const offers = [...byCapability].map(([id, offers]) => [id, offers.map(({ agent }) => agent.agentId)]);
    expect(offers).toEqual([
      ["drive", ["b"]],
      ["fly", ["a", "b"]],
      ["swim", ["b"]],
    ]);
    expect(capabilities.get("b")!.map(({ capabilityId }) => capabilityId)).toEqual(["swim", "fly", "drive"]);
    expect(byCapability.get("fly")![0]).toEqual({
      agent: byId.get("a"),
      capability: capabilities.get("a")![0],
      version: 0,
    });
  });

  test("finds by words of capabilities, and of agents", async () => {
    const { add, give, load } = await open();
    await add("ann", "fly");
    await add("ben", "swim");
    await give("ben", "dive", "Looks for treasure.");
    const { search } = await load();
    expect(found(search.matches("find a treasure", 5))).toEqual(["ben/dive"]);
    expect(found(search.matches("swim or fly", 1))).toHaveLength(1);
    expect([...search.agents("ann")]).toEqual([["ann", expect.any(Number)]]);
  });

  test("what has not changed is what it was, with all that was made of it", async () => {
    const { add, give, change, take, load } = await open();
    await add("a", "fly");
    await add("b", "swim");
    await give("b", "dive");
    await give("b", "sail", "first");
    const first = await load();
    expect(found(first.search.matches("fly swim", 5))).toEqual(["a/fly", "b/swim"]);
    expect(await load()).toBe(first);

    await give("b", "sail", "second");
    const second = await load();
    expect(second).not.toBe(first);
    expect(second.byId.get("a")).toBe(first.byId.get("a"));
    expect(second.capabilities.get("a")).toBe(first.capabilities.get("a"));
    const schemaOf = (agents: typeof first, id: string) => agents.byCapability.get(id)![0]!.capability.inputSchema;
    expect(schemaOf(second, "dive")).toBe(schemaOf(first, "dive"));
    expect(schemaOf(second, "sail")).not.toBe(schemaOf(first, "sail"));

    // Each finds what it holds, whichever is asked.
    await change("a", "walk");
    await take("b", "dive");
    const third = await load();
    expect(found(third.search.matches("fly walk dive second", 5)).sort()).toEqual(["a/walk", "b/sail"]);
    expect(found(first.search.matches("fly walk dive second", 5)).sort()).toEqual(["a/fly", "b/dive"]);
    expect(found(third.search.matches("fly walk dive second", 5)).sort()).toEqual(["a/walk", "b/sail"]);
  });

  test("another default, or agent, is seen", async () => {
    const { agents, add, load } = await open();
    await add("a", "fly");
    const lone = await load();
    expect(lone.defaultAgent?.agentId).toBe("a");
    await add("b", "fly");
    expect((await load()).defaultAgent).toBeUndefined();
    await agents.setDefault("default", "b");
    const both = await load();
    expect(both.defaultAgent).toBe(both.byId.get("b"));
    await agents.remove("default", "b");
    expect((await load()).defaultAgent?.agentId).toBe("a");
    // Another agent of the same id is another.
    await agents.remove("default", "a");
    await add("a", "swim");
    expect([...(await load()).byCapability.keys()]).toEqual(["swim"]);
  });

  test("loads more than a page of agents and of capabilities", async () => {
    const { add, give, load } = await open();
    await raw(
      ctx.db,
      `insert into agents (workspace_id, agent_id, card, created_at, updated_at, card_fetched_at)
       select 'default', 'agent-' || n, '', now(), now(), now() from generate_series(1, 1000) n`,
    );
    await raw(
      ctx.db,
      `insert into capabilities (workspace_id, agent_id, capability_id, body, created_at, updated_at)
       select 'default', 'agent-' || n, 'many', $1, now(), now() from generate_series(1, 1000) n`,
      [Buffer.from("\n\u0004many")],
    );
    await add("z", "fly");
    await give("z", "last");
    const { byId, byCapability } = await load();
    expect(byId.size).toBe(1001);
    expect(byCapability.get("many")).toHaveLength(1000);
    expect(byCapability.get("last")).toHaveLength(1);
  });

  test("a load that is overtaken by a later one leaves what that one brought", async () => {
    await raw(ctx.db, "delete from agents");
    const agents = createAgentRepository(ctx.db);
    const [reached, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let slow = true;
    const listing: typeof agents = {
      ...agents,
      async list(...args) {
        const listed = await agents.list(...args);
        if (!slow) return listed;
        slow = false;
        reached.resolve();
        await goOn.promise;
        return listed;
      },
    };
    const directory = createAgentDirectory(listing, createCapabilityRepository(ctx.db), systemRuntime());
    const gone: string[] = [];
    directory.onGone((_, agentId) => gone.push(agentId));
    const first = directory.agents("default");
    await reached.promise;
    const given = { source: source(cardOf("a", "fly")), safeToRepeat: false, maxConcurrency: 0 };
    await agents.insert("default", "a", given, new Date());
    directory.changed("default");
    const second = await directory.agents("default");
    goOn.resolve();
    expect(await first).toBe(second);
    expect([...directory.last("default")!.byId.keys()]).toEqual(["a"]);
    expect(gone).toEqual([]);
  });
});
