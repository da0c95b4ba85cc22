/** signalbox.v1.RegistryService over the registry. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { RegistryService } from "../../../gen/signalbox/v1/registry_pb.ts";
import type { AgentHealthService } from "../../services/agent-health.ts";
import type { AgentCredentials } from "../../services/identity/agent-credentials.ts";
import type { Registry } from "../../services/registry.ts";
import { requestContextOf } from "./bind.ts";

export function createRegistryService(
  registry: Registry,
  health: AgentHealthService,
  credentials: AgentCredentials,
): ServiceImpl<typeof RegistryService> {
  return {
    registerAgent: (request, context) => registry.register(requestContextOf(context), request),
    updateAgent: (request, context) => registry.update(requestContextOf(context), request),
    deregisterAgent: async (request, context) => {
      await registry.remove(requestContextOf(context), request.agentId);
      return {};
    },
    getAgent: (request, context) => registry.get(requestContextOf(context), request.agentId),
    listAgents: (request, context) => registry.list(requestContextOf(context), request),
    refreshAgentCard: (request, context) => registry.refreshCard(requestContextOf(context), request.agentId),
    heartbeat: (request, context) => health.beat(requestContextOf(context), request),
    checkAgentHealth: (request, context) => health.check(requestContextOf(context), request.agentId),
    setDefaultAgent: (request, context) => registry.setDefault(requestContextOf(context), request.agentId),
    addCapability: (request, context) => registry.addCapability(requestContextOf(context), request),
    removeCapability: async (request, context) => {
      await registry.removeCapability(requestContextOf(context), request);
      return {};
    },
    listCapabilities: (request, context) => registry.listCapabilities(requestContextOf(context), request),
    searchAgents: (request, context) => registry.searchAgents(requestContextOf(context), request),
    setAgentCredential: (request, context) => credentials.set(requestContextOf(context), request),
    getAgentCredential: (request, context) => credentials.get(requestContextOf(context), request.agentId),
    deleteAgentCredential: async (request, context) => {
      await credentials.remove(requestContextOf(context), request.agentId);
      return {};
    },
  };
}
