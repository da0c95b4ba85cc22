/** Where what was said of capabilities is kept. */
import { create } from "@bufbuild/protobuf";
import { beforeEach, expect, test } from "vitest";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type Capability, CapabilitySchema } from "../../gen/signalbox/v1/registry_pb.ts";
import { createAgentRepository } from "../../src/store/agent-repository.ts";
import { createCapabilityRepository } from "../../src/store/capability-repository.ts";
import { describeEachBackend } from "./backends.ts";
import { raw } from "./tables.ts";

const BORN = new Date("2026-01-01T00:00:00Z");
const NOW = new Date("2026-01-02T00:00:00Z");

const saying = (capabilityId: string, description = ""): Capability =>
  create(CapabilitySchema, { capabilityId, description, labels: { a: "b" }, inputSchema: { type: "object" } });

describeEachBackend("capabilities", (ctx) => {
  const agents = () => createAgentRepository(ctx.db);
  const capabilities = () => createCapabilityRepository(ctx.db);
  const put = (workspace: string, agent: string, given: Capability, most = 10) =>
    capabilities().put(workspace, agent, given, { most, now: NOW });
  const keys = (records: { agentId: string; given: Capability }[]) =>
    records.map(({ agentId, given }) => `${agentId}/${given.capabilityId}`);

  beforeEach(async () => {
    await raw(ctx.db, "delete from agents");
    await raw(ctx.db, "insert into workspaces (workspace_id) values ('other') on conflict do nothing");
    const source = { card: create(AgentCardSchema, { name: "n" }), cardUrl: undefined, cardEtag: undefined };
    for (const [workspace, agent] of [
      ["default", "a"],
      ["default", "b"],
      ["other", "a"],
    ] as const) {
      await agents().insert(workspace, agent, { source, safeToRepeat: false, maxConcurrency: 0 }, BORN);
    }
  });

  test("are kept as they were given, and replaced whole", async () => {
    expect(await put("default", "a", saying("fly", "first"))).toBe("stored");
    const [first] = await capabilities().ofAgent("default", "a");
    expect(first).toEqual({ agentId: "a", given: saying("fly", "first"), version: expect.any(Number) });
    expect(await put("default", "a", saying("fly", "second"))).toBe("stored");
    const [second, ...more] = await capabilities().ofAgent("default", "a");
    expect(more).toEqual([]);
    expect(second!.given.description).toBe("second");
    expect(second!.version).not.toBe(first!.version);
  });

  test("a version is never used twice", async () => {
    await put("default", "a", saying("fly"));
    const [first] = await capabilities().ofAgent("default", "a");
    await capabilities().remove("default", "a", "fly", NOW);
    await put("default", "a", saying("fly"));
    const [second] = await capabilities().ofAgent("default", "a");
    expect(second!.version).not.toBe(first!.version);
  });

  test("their agent counts as changed, but is no other revision", async () => {
    const agent = () => agents().get("default", "a");
    expect(await agent()).toMatchObject({ updatedAt: BORN, revision: 1 });
    await put("default", "a", saying("fly"));
    expect(await agent()).toMatchObject({ updatedAt: NOW, revision: 1 });
    const later = new Date("2026-01-03T00:00:00Z");
    expect(await capabilities().remove("default", "a", "swim", later)).toBe(false);
    expect(await agent()).toMatchObject({ updatedAt: NOW });
    expect(await capabilities().remove("default", "a", "fly", later)).toBe(true);
    expect(await agent()).toMatchObject({ updatedAt: later, revision: 1 });
    expect(await agents().get("default", "b")).toMatchObject({ updatedAt: BORN });
  });

  test("no agent has more than it may, and none that is not there has any", async () => {
    expect(await put("default", "a", saying("fly"), 1)).toBe("stored");
    expect(await put("default", "a", saying("swim"), 1)).toBe("full");
    expect(await put("default", "a", saying("fly", "anew"), 1)).toBe("stored");
    expect(await put("default", "b", saying("swim"), 1)).toBe("stored");
    expect(await put("default", "nobody", saying("fly"))).toBe("missing");
    expect(await capabilities().remove("default", "nobody", "fly", NOW)).toBe(false);
    const some = ["c", "d", "e", "f", "g"].map((id) => put("default", "b", saying(id), 3));
    expect((await Promise.all(some)).filter((outcome) => outcome === "stored")).toHaveLength(2);
  });

  test("leave with their agent", async () => {
    await put("default", "a", saying("fly"));
    await put("default", "b", saying("fly"));
    await agents().remove("default", "a");
    expect(keys(await capabilities().list("default", { limit: 10 }))).toEqual(["b/fly"]);
  });

  test("are listed by agent and capability, by pages", async () => {
    for (const [agent, id] of [
      ["b", "x"],
      ["a", "y"],
      ["a", "x"],
      ["b", "a"],
      ["a", "z-1"],
    ] as const) {
      await put("default", agent, saying(id));
    }
    const all = ["a/x", "a/y", "a/z-1", "b/a", "b/x"];
    const seen: string[] = [];
    for (let after: { agentId: string; capabilityId: string } | undefined; ; ) {
      const page = await capabilities().list("default", { limit: 2, ...(after && { after }) });
      if (page.length === 0) break;
      seen.push(...keys(page));
      const { agentId, given } = page.at(-1)!;
      after = { agentId, capabilityId: given.capabilityId };
    }
    expect(seen).toEqual(all);
    expect(keys(await capabilities().ofAgent("default", "a"))).toEqual(all.slice(0, 3));
  });

  test("no method reaches into another workspace", async () => {
    await put("other", "a", saying("fly", "theirs"));
    expect(await capabilities().list("default", { limit: 10 })).toEqual([]);
    expect(await capabilities().ofAgent("default", "a")).toEqual([]);
    expect(await capabilities().remove("default", "a", "fly", NOW)).toBe(false);
    await put("default", "a", saying("fly", "ours"));
    await capabilities().remove("default", "a", "fly", NOW);
    const theirs = await capabilities().list("other", { after: { agentId: "", capabilityId: "" }, limit: 10 });
    expect(theirs).toMatchObject([{ given: { description: "theirs" } }]);
    await agents().remove("default", "a");
    expect(await capabilities().ofAgent("other", "a")).toHaveLength(1);
    // The one agent of that id that is left is the other workspace's.
    expect(await put("default", "a", saying("fly"))).toBe("missing");
  });
});
