/** When the registry gives up the connections to an agent, as tasks may be running over them; what an update changes. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  AgentSchema,
  ListAgentsRequestSchema,
  RegisterAgentRequestSchema,
  UpdateAgentRequestSchema,
} from "../../gen/signalbox/v1/registry_pb.ts";
import { createAgentConnector } from "../../src/outbound/agent-connector.ts";
import { createAgentDirectory } from "../../src/services/agent-directory.ts";
import type { AgentConnector, CardFetcher } from "../../src/services/agent-port.ts";
import { createCardRefresh } from "../../src/services/card-refresh.ts";
import { createRegistry } from "../../src/services/registry.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createAgentRepository } from "../../src/store/agent-repository.ts";
import { createCapabilityRepository } from "../../src/store/capability-repository.ts";
import type { Database } from "../../src/store/database.ts";
import { noAudit } from "../fixtures/no-audit.ts";
import { describeEachBackend } from "../store/backends.ts";

const cardSaying = (description: string): AgentCard =>
  create(AgentCardSchema, {
    name: "n",
    description,
    version: "1",
    supportedInterfaces: [{ url: "http://127.0.0.1:9", protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
    capabilities: {},
  });

/** A registry over a database, with the ways to agents that a test gives it, and no news of their health. */
function registryOn(db: Database, connector: AgentConnector, cards: CardFetcher) {
  const runtime = systemRuntime();
  const repository = createAgentRepository(db);
  const capabilities = createCapabilityRepository(db);
  const directory = createAgentDirectory(repository, capabilities, runtime);
  const cardDeps = { repository, directory, connector, cards, audit: noAudit, runtime };
  const health = { of: async () => undefined, ofAll: async () => new Map(), recheck: async () => {} };
  const reputation = { load: () => undefined, standing: () => ({ trust: 0.5, score: 0.5 }) };
  const verifier = { verify: async () => undefined };
  const cardRefresh = createCardRefresh({ ...cardDeps, verifier, health: { moved: async () => {} } });
  const registry = createRegistry({ ...cardDeps, capabilities, cardRefresh, health, reputation });
  return { registry, directory };
}

describeEachBackend("the registry", (backend) => {
  it("keeps connections as long as the card says the same and the agent stays", async () => {
    const connector = createAgentConnector({ allowPrivateUrls: true });
    const forgotten: string[] = [];
    let served: AgentCard | undefined = cardSaying("first");
    const { registry } = registryOn(
      backend.db,
      { ...connector, forget: (_workspaceId, agentId) => forgotten.push(agentId) },
      { fetch: async () => served && { card: served } },
    );
    const context = { workspaceId: "default", signal: new AbortController().signal } as RequestContext;
    const update = (card: AgentCard) =>
      registry.update(
        context,
        create(UpdateAgentRequestSchema, { agent: create(AgentSchema, { agentId: "a", card }) }),
      );

    const cardUrl = { case: "cardUrl" as const, value: "http://127.0.0.1:9/card" };
    await registry.register(context, create(RegisterAgentRequestSchema, { agentId: "a", source: cardUrl }));
    await registry.setDefault(context, "a");
    await registry.refreshCard(context, "a");
    served = undefined;
    await registry.refreshCard(context, "a");
    await update(cardSaying("first"));
    expect(forgotten).toEqual([]);
    const { agents } = await registry.list(context, create(ListAgentsRequestSchema));
    expect(agents).toMatchObject([{ agentId: "a", isDefault: true }]);

    await update(cardSaying("second"));
    expect(forgotten).toEqual(["a"]);
    await registry.remove(context, "a");
    expect(forgotten).toEqual(["a", "a"]);
    await connector.close();
  });

  it("changes what an update names, and nothing else", async () => {
    const connector = createAgentConnector({ allowPrivateUrls: true });
    const cards = { fetch: async () => ({ card: cardSaying("fetched") }) };
    const { registry, directory } = registryOn(backend.db, connector, cards);
    const context = { workspaceId: "default", signal: new AbortController().signal } as RequestContext;
    const update = (agent: MessageInitShape<typeof AgentSchema>, ...paths: string[]) => {
      const updateMask = paths.length > 0 ? { paths } : undefined;
      return registry.update(
        context,
        create(UpdateAgentRequestSchema, { agent: { agentId: "b", ...agent }, updateMask }),
      );
    };

    const source = { case: "cardUrl" as const, value: "http://127.0.0.1:9/card" };
    const before = await registry.register(context, create(RegisterAgentRequestSchema, { agentId: "b", source }));
    expect(before.safeToRepeat).toBe(false);

    const safe = await update({ safeToRepeat: true });
    const { etag, updateTime } = safe;
    expect(safe).toEqual({ ...before, safeToRepeat: true, etag, updateTime });
    expect(etag).not.toBe(before.etag);
    expect((await directory.agents("default")).byId.get("b")?.safeToRepeat).toBe(true);

    // Without a mask, false is no more than silence; a card says nothing of it.
    expect(await update({ card: cardSaying("given") })).toMatchObject({ safeToRepeat: true, cardUrl: "" });
    expect(await update({ safeToRepeat: false, cardUrl: source.value }, "card_url")).toMatchObject({
      safeToRepeat: true,
      card: { description: "fetched" },
    });
    expect(await update({ safeToRepeat: false, card: cardSaying("ignored") }, "safe_to_repeat")).toMatchObject({
      safeToRepeat: false,
      card: { description: "fetched" },
    });
    expect(await update({ safeToRepeat: true, card: cardSaying("all") }, "*")).toMatchObject({
      safeToRepeat: true,
      card: { description: "all" },
    });
    expect(before.maxConcurrency).toBe(0);
    expect(await update({ maxConcurrency: 7 })).toMatchObject({ maxConcurrency: 7, safeToRepeat: true });
    expect((await directory.agents("default")).limits.get("b")).toMatchObject({ agent: 7 });
    expect(await update({ safeToRepeat: false, card: cardSaying("kept") }, "card")).toMatchObject({
      maxConcurrency: 7,
    });
    await expect(update({ maxConcurrency: -1 }, "max_concurrency")).rejects.toMatchObject({
      violations: [{ field: "agent.maxConcurrency" }],
    });
    await expect(update({ maxConcurrency: 1_000_001 })).rejects.toMatchObject({ reason: "INVALID_ARGUMENT" });
    expect(await update({ maxConcurrency: 0 }, "max_concurrency")).toMatchObject({ maxConcurrency: 0 });
    expect((await directory.agents("default")).limits.size).toBe(0);
    await expect(update({ safeToRepeat: true }, "*")).rejects.toMatchObject({ violations: [{ field: "agent" }] });
    await expect(update({ safeToRepeat: true, etag })).rejects.toMatchObject({ reason: "ETAG_MISMATCH" });
    await registry.remove(context, "b");
    await connector.close();
  });
});
