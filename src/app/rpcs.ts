/** Every service of the server, implemented on what is behind the listeners, and bound for all transports. */
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { A2AService } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ApprovalService } from "../../gen/signalbox/v1/approval_pb.ts";
import { AuditService } from "../../gen/signalbox/v1/audit_pb.ts";
import { BudgetService } from "../../gen/signalbox/v1/budget_pb.ts";
import { CacheService } from "../../gen/signalbox/v1/cache_pb.ts";
import { MessageService } from "../../gen/signalbox/v1/message_pb.ts";
import { PolicyService } from "../../gen/signalbox/v1/policy_pb.ts";
import { RegistryService } from "../../gen/signalbox/v1/registry_pb.ts";
import { ReputationService } from "../../gen/signalbox/v1/reputation_pb.ts";
import { RolloutService } from "../../gen/signalbox/v1/rollout_pb.ts";
import { RoutingService } from "../../gen/signalbox/v1/routing_pb.ts";
import { TaskService } from "../../gen/signalbox/v1/task_pb.ts";
import { WorkspaceService } from "../../gen/signalbox/v1/workspace_pb.ts";
import { withOldKeys } from "../domain/a2a-0-3-events.ts";
import type { Engine } from "../engine.ts";
import type { Cards } from "../services/cards.ts";
import type { Rollouts } from "../services/rollouts.ts";
import { createA2AService } from "../transport/rpc/a2a-service.ts";
import { createApprovalService } from "../transport/rpc/approval-service.ts";
import { createAuditService } from "../transport/rpc/audit-service.ts";
import { type BindDeps, bindServices, register } from "../transport/rpc/bind.ts";
import type { BoundRpcs } from "../transport/rpc/bound.ts";
import { createBudgetService } from "../transport/rpc/budget-service.ts";
import { createCacheService } from "../transport/rpc/cache-service.ts";
import { createHealthService, type ServingState } from "../transport/rpc/health-service.ts";
import { createMessageService } from "../transport/rpc/message-service.ts";
import { createPolicyService } from "../transport/rpc/policy-service.ts";
import { createReflection } from "../transport/rpc/reflection-service.ts";
import { createRegistryService } from "../transport/rpc/registry-service.ts";
import { createReputationService } from "../transport/rpc/reputation-service.ts";
import { createRolloutService } from "../transport/rpc/rollout-service.ts";
import { createRoutingService } from "../transport/rpc/routing-service.ts";
import { createTaskService } from "../transport/rpc/task-service.ts";
import { createWorkspaceService } from "../transport/rpc/workspace-service.ts";

export interface RpcsDeps extends Omit<BindDeps, "authenticator" | "limits" | "openCalls" | "refusals"> {
  cards: Cards;
  state: ServingState;
}

export function bindRpcs(engine: Engine, deps: RpcsDeps): BoundRpcs {
  const { sender, tasks, pushConfigs, rollouts } = engine;
  const registrations = [
    register(
      A2AService,
      createA2AService({ sender, tasks, pushConfigs, cards: deps.cards, eventDialect: dialectBy(rollouts) }),
    ),
    register(RegistryService, createRegistryService(engine.registry, engine.agentHealth, engine.agentCredentials)),
    register(TaskService, createTaskService(engine)),
    register(RoutingService, createRoutingService(engine.routes)),
    register(RolloutService, createRolloutService(engine.rolloutSettings, engine.alerts)),
    register(MessageService, createMessageService(engine.exchanges)),
    register(CacheService, createCacheService(engine.cachedResults)),
    register(PolicyService, createPolicyService(engine.policyVersions, engine.policyTrials)),
    register(ApprovalService, createApprovalService(engine.approvals)),
    register(BudgetService, createBudgetService(engine.budgetUsage)),
    register(ReputationService, createReputationService(engine.reputations)),
    register(AuditService, createAuditService(engine.auditLog)),
    register(WorkspaceService, createWorkspaceService(engine)),
  ];
  // These tell of all services, themselves among them.
  const services = [...registrations.map(({ service }) => service), Health, ServerReflection, ServerReflectionAlpha];
  const names = services.map(({ typeName }) => typeName);
  const reflection = createReflection(services);
  const { authenticator, limits, openCalls, refusals } = engine;
  return bindServices({ ...deps, authenticator, limits, openCalls, refusals }, [
    ...registrations,
    register(Health, createHealthService(deps.state, names)),
    register(ServerReflection, reflection.v1),
    register(ServerReflectionAlpha, reflection.v1alpha),
  ]);
}

/** Old keys beside the standard ones, where a rollout wants them. */
const dialectBy = (rollouts: Rollouts) => async (workspaceId: string, capabilityId: string | undefined) => {
  // A stream that has something to show is not broken because the database is away: what was known before holds.
  await rollouts.load(workspaceId)?.catch(() => {});
  const { dualEventWrite, compatibilityMode } = rollouts.of(workspaceId, capabilityId);
  return dualEventWrite && compatibilityMode === "A2A_0_3" ? withOldKeys : undefined;
};
