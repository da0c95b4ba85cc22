/** DISCOVER and INTENT: what is there, and what of it fits. */
import { create } from "@bufbuild/protobuf";
import { IntentMatchSchema } from "../../../gen/signalbox/v1/message_pb.ts";
import { type Capability, SearchAgentsRequestSchema } from "../../../gen/signalbox/v1/registry_pb.ts";
import type { AgentDirectory } from "../agent-directory.ts";
import type { RegistrySearch } from "../registry-search.ts";
import { capabilityView } from "../registry-views.ts";
import { matchedCapabilities } from "../routing/text.ts";
import type { Act } from "./act.ts";

/** Capabilities that are told of the agents that were found, and agents that are named for one capability, at most. */
const MOST_CAPABILITIES = 100;
const MOST_AGENTS = 16;
/** Characters of a text that count, as of a message. */
const MOST_TEXT = 1024;

export function discover(registry: RegistrySearch, directory: AgentDirectory): Act<"discover"> {
  return async ({ text, tags, labels, capabilityId, pageSize }, { context }) => {
    const query = create(SearchAgentsRequestSchema, { text, tags, labels, capabilityId, pageSize });
    const { agents } = await registry.searchAgents(context, query);
    const { capabilities } = await directory.agents(context.workspaceId);
    const fitting: Capability[] = [];
    for (const { agent, capabilityIds } of agents) {
      const offered = new Map(capabilities.get(agent!.agentId)?.map((one) => [one.capabilityId, one]));
      for (const id of capabilityIds) {
        const capability = offered.get(id);
        if (capability && fitting.length < MOST_CAPABILITIES) fitting.push(capabilityView(capability));
      }
    }
    return { case: "discover", value: { agents, capabilities: fitting } };
  };
}

export function intent(directory: AgentDirectory): Act<"intent"> {
  return async ({ text }, { context }) => {
    const { search, byCapability } = await directory.agents(context.workspaceId);
    const matches = matchedCapabilities(search, text.slice(0, MOST_TEXT)).map(({ capabilityId, score }) => {
      const offers = byCapability.get(capabilityId) ?? [];
      return create(IntentMatchSchema, {
        capabilityId,
        name: offers[0]?.capability.name ?? "",
        description: offers[0]?.capability.description ?? "",
        score,
        agentIds: offers.slice(0, MOST_AGENTS).map(({ agent }) => agent.agentId),
        agentCount: offers.length,
      });
    });
    return { case: "intent", value: { matches } };
  };
}
