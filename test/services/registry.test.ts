/** When the registry gives up the connections to an agent: tasks may be running over them. */
import { create } from "@bufbuild/protobuf";
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
import { createRegistry } from "../../src/services/registry.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createAgentRepository } from "../../src/store/agent-repository.ts";
import { describeEachBackend } from "../store/backends.ts";

const cardSaying = (description: string): AgentCard =>
  create(AgentCardSchema, {
    name: "n",
    description,
    version: "1",
    supportedInterfaces: [{ url: "http://127.0.0.1:9", protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
    capabilities: {},
  });

describeEachBackend("the registry", (backend) => {
  it("keeps connections as long as the card says the same and the agent stays", async () => {
    const runtime = systemRuntime();
    const repository = createAgentRepository(backend.db);
    const directory = createAgentDirectory(repository, runtime);
    const connector = createAgentConnector({ allowPrivateUrls: true });
    const forgotten: string[] = [];
    let served: AgentCard | undefined = cardSaying("first");
    const registry = createRegistry({
      repository,
      directory,
      runtime,
      connector: { ...connector, forget: (_workspaceId, agentId) => forgotten.push(agentId) },
      cards: { fetch: async () => served && { card: served } },
    });
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
});
