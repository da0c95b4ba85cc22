/**
 * Every kind of call that somebody of a workspace makes. What they name is drawn from all that anybody was ever told, so that what
 * belongs to others is asked for all the time.
 */
import type { DescMethod, DescService, JsonObject } from "@bufbuild/protobuf";
import { A2AService } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { ApprovalService } from "../../../gen/signalbox/v1/approval_pb.ts";
import { AuditService } from "../../../gen/signalbox/v1/audit_pb.ts";
import { BudgetService } from "../../../gen/signalbox/v1/budget_pb.ts";
import { CacheService } from "../../../gen/signalbox/v1/cache_pb.ts";
import { MessageService } from "../../../gen/signalbox/v1/message_pb.ts";
import { PolicyService } from "../../../gen/signalbox/v1/policy_pb.ts";
import { RegistryService } from "../../../gen/signalbox/v1/registry_pb.ts";
import { ReputationService } from "../../../gen/signalbox/v1/reputation_pb.ts";
import { RolloutService } from "../../../gen/signalbox/v1/rollout_pb.ts";
import { RoutingService } from "../../../gen/signalbox/v1/routing_pb.ts";
import { TaskService } from "../../../gen/signalbox/v1/task_pb.ts";
import { WorkspaceService } from "../../../gen/signalbox/v1/workspace_pb.ts";
import { DELEGATION_EXTENSION } from "../../../src/domain/delegation-extension.ts";
import { cardOf } from "./agents.ts";
import type { Marked } from "./workspace-rows.ts";

/** Kinds of ids that are drawn. */
const POOLS = [
  ...["task", "waiting", "context", "config", "shared", "approval", "grant", "offered", "key", "quote", "page", "hash"],
  ...["agent", "spare", "member", "workspace"],
] as const;
export type Pool = (typeof POOLS)[number];

/** What a call is made of. */
export interface Draw {
  /** Whose call it is. */
  readonly workspace: Marked;
  /** All workspaces. */
  readonly workspaces: readonly Marked[];
  /** Where webhooks of the workspace are. */
  readonly hookUrl: string;
  /** An id that somebody was told. */
  id(pool: Pool): string;
  /** One of these. */
  of<T>(...values: readonly T[]): T;
  /** Another every time, the same for a call and its twin. */
  readonly nonce: string;
}

export interface CallKind {
  readonly method: DescMethod;
  /** Who may make it; others try it as well, now and then. */
  readonly by: string;
  readonly build: (draw: Draw) => JsonObject;
  readonly headers?: (draw: Draw) => Record<string, string>;
  /** How many items of a stream are read; all, unless it is said. */
  readonly items?: number;
}

const method = (service: DescService, name: string): DescMethod => {
  const found = service.methods.find((one) => one.name === name);
  if (!found) throw new Error(`${service.name} has no ${name}`);
  return found;
};

const kinds: CallKind[] = [];
const kind = (
  service: DescService,
  name: string,
  by: string,
  build: CallKind["build"],
  more: Pick<CallKind, "headers" | "items"> = {},
) => {
  kinds.push({ method: method(service, name), by, build, ...more });
};

/** The same words in all workspaces, or the workspace's own. */
const words = ({ of, workspace: { mark }, nonce }: Draw): string =>
  of("the same words", "ask the same", `${mark} ${nonce}`, `ask ${mark} ${nonce}`);

/** Says nothing of its workspace, in every second case: then only what it is answered tells whose it is. */
const message = (draw: Draw, more: JsonObject = {}): JsonObject => ({
  messageId: draw.nonce,
  role: "ROLE_USER",
  parts: [{ text: words(draw) }],
  ...draw.of<JsonObject>({}, { metadata: { note: draw.workspace.mark } }),
  ...more,
});

/** Where a message goes: an agent or a capability, of those that all have, that one has, or that one has been lent. */
const tenant = ({ of, id }: Draw): string => of("a.echo", "a.ask", "c.say", "c.pay", `a.${id("agent")}`, "");

/** A task that waits for its client, as far as anybody was told, or any. */
const waiting = ({ of, id }: Draw): string => of(id("waiting"), id("waiting"), id("task"));

const request = (draw: Draw, more: JsonObject = {}): JsonObject => ({
  tenant: tenant(draw),
  message: message(draw, more),
  configuration: { returnImmediately: draw.of(true, false) },
});

const hook = ({ hookUrl, workspace }: Draw): JsonObject => ({ url: hookUrl, token: `${workspace.mark}-token` });

// A2A.
kind(A2AService, "SendMessage", "caller-1", (draw) => request(draw));
kind(A2AService, "SendMessage", "caller-2", (draw) => request(draw, { contextId: draw.of("context-1", "context-2") }));
kind(A2AService, "SendMessage", "caller-1", (draw) => request(draw, { contextId: draw.id("context") }));
kind(A2AService, "SendMessage", "operator", (draw) => ({ message: message(draw, { taskId: waiting(draw) }) }));
kind(A2AService, "SendMessage", "caller-1", (draw) => request(draw, { referenceTaskIds: [draw.id("task")] }));
kind(A2AService, "SendMessage", "agent", (draw) => ({
  ...request(draw),
  metadata: { [DELEGATION_EXTENSION]: { parentTaskId: draw.id("task") } },
}));
kind(
  A2AService,
  "SendMessage",
  "caller-1",
  ({ of, workspace: { mark } }) => ({
    tenant: "a.echo",
    message: { messageId: of("message-1", "message-2"), role: "ROLE_USER", parts: [{ text: of("once", mark) }] },
  }),
  { headers: ({ of }) => ({ "idempotency-key": of("key-1", "key-2", "key-3") }) },
);
kind(A2AService, "SendMessage", "caller-2", ({ nonce }) => ({
  tenant: "c.say",
  message: { messageId: nonce, role: "ROLE_USER", parts: [{ text: "the same words" }] },
}));
kind(A2AService, "SendMessage", "caller-2", (draw) => ({
  tenant: "a.ask",
  message: { messageId: draw.nonce, role: "ROLE_USER", parts: [{ text: `ask ${draw.workspace.mark}` }] },
  configuration: { taskPushNotificationConfig: hook(draw) },
}));
kind(A2AService, "SendStreamingMessage", "caller-1", (draw) => request(draw));
kind(A2AService, "GetTask", "viewer", ({ id }) => ({ id: id("task") }));
kind(A2AService, "ListTasks", "viewer", ({ of, id }) =>
  of<() => JsonObject>(
    () => ({}),
    () => ({ contextId: id("context"), includeArtifacts: true }),
    () => ({ tenant: `a.${id("agent")}`, includeArtifacts: true }),
    () => ({ pageSize: 1 }),
    () => ({ pageToken: id("page") }),
  )(),
);
kind(A2AService, "CancelTask", "operator", (draw) => ({ id: waiting(draw) }));
kind(A2AService, "SubscribeToTask", "operator", (draw) => ({ id: waiting(draw) }), { items: 1 });
kind(A2AService, "CreateTaskPushNotificationConfig", "operator", (draw) => ({
  ...hook(draw),
  taskId: draw.id("task"),
}));
kind(A2AService, "GetTaskPushNotificationConfig", "operator", ({ id }) => configOf(id("config")));
kind(A2AService, "ListTaskPushNotificationConfigs", "operator", ({ id }) => ({ taskId: id("task") }));
kind(A2AService, "DeleteTaskPushNotificationConfig", "operator", ({ id }) => configOf(id("config")));
kind(A2AService, "GetExtendedAgentCard", "caller-1", ({ of, id }) => ({ tenant: of("", `a.${id("agent")}`) }));

const configOf = (pair: string): JsonObject => {
  const [taskId, id = "none"] = pair.split("/");
  return { taskId: taskId!, id };
};

// Plain tasks.
const plain = (draw: Draw, more: JsonObject = {}): JsonObject => ({
  text: words(draw),
  labels: {},
  ...draw.of<JsonObject>(
    { agentId: "echo" },
    { capabilityId: "say" },
    { capabilityId: "pay" },
    { agentId: draw.id("agent") },
  ),
  ...more,
});
kind(TaskService, "SubmitTask", "caller-1", (draw) => plain(draw, { contextId: draw.id("context") }));
kind(TaskService, "SubmitTask", "caller-2", (draw) => ({
  text: draw.of("once", draw.workspace.mark),
  agentId: "echo",
  idempotencyKey: draw.of("key-1", "key-2", "key-3"),
  wait: true,
}));
kind(TaskService, "SubmitTask", "operator", (draw) => plain(draw, { parentTaskId: draw.id("task") }));
kind(TaskService, "BatchSubmitTasks", "caller-1", (draw) => ({
  requests: [plain(draw), { text: "the same words", capabilityId: "say" }],
}));
kind(TaskService, "GetTask", "viewer", ({ id }) => ({ taskId: id("task") }));
kind(TaskService, "ListTasks", "viewer", ({ of, id }) =>
  of<() => JsonObject>(
    () => ({}),
    () => ({ contextId: id("context") }),
    () => ({ agentId: id("agent") }),
    () => ({ pageSize: 1 }),
    () => ({ pageToken: id("page") }),
  )(),
);
kind(TaskService, "WaitTask", "viewer", ({ id }) => ({ taskId: id("task"), timeoutMs: 50 }));
kind(TaskService, "CancelTask", "operator", (draw) => ({ taskId: waiting(draw) }));
kind(TaskService, "DeleteTask", "operator", ({ id }) => ({ taskId: id("task") }));
kind(TaskService, "GetTaskExecution", "viewer", ({ id }) => ({ taskId: id("task") }));
kind(TaskService, "ListTaskTransitions", "viewer", ({ id }) => ({ taskId: id("task") }));
kind(TaskService, "WatchTasks", "viewer", ({ id }) => ({ contextId: id("context") }), { items: 1 });
const subject = ({ of }: Draw): JsonObject => of<JsonObject>({ principalId: "caller-1" }, { role: "agent" });
kind(TaskService, "ShareContext", "caller-2", (draw) => ({
  share: { contextId: draw.id("context"), ...subject(draw), canWrite: draw.of(true, false) },
}));
kind(TaskService, "UnshareContext", "caller-2", (draw) => ({
  contextId: draw.of(draw.id("shared"), draw.id("context")),
  ...subject(draw),
}));
kind(TaskService, "ListContextShares", "caller-2", ({ id }) => ({ contextId: id("context") }));

// Exchanges.
const exchange = (build: (draw: Draw) => JsonObject) =>
  kind(MessageService, "Exchange", "operator", (draw) => ({
    message: {
      correlationId: draw.of("exchange-1", "exchange-2"),
      metadata: { note: draw.workspace.mark },
      ...build(draw),
    },
  }));
exchange(({ of }) => ({ discover: of<JsonObject>({}, { text: "say" }, { capabilityId: "say" }) }));
exchange(() => ({ intent: { text: "say" } }));
exchange((draw) => ({
  negotiate: {
    ...draw.of<JsonObject>({ capabilityId: "say" }, { agentId: draw.id("agent") }),
    message: message(draw),
  },
}));
exchange((draw) => ({ delegate: { request: request(draw) } }));
exchange((draw) => ({ delegate: { quoteId: draw.id("quote"), request: { message: message(draw) } } }));
exchange((draw) => ({
  delegate: { input: { capabilityId: "say", text: "the same words" }, parentTaskId: draw.id("task") },
}));
exchange(({ id }) => ({ observe: { taskId: id("task") } }));
exchange((draw) => ({ revise: { taskId: waiting(draw), text: words(draw) } }));
exchange(({ id }) => ({ explain: { taskId: id("task") } }));
exchange(({ id }) => ({ verify: { taskId: id("task") } }));
kind(MessageService, "ListExchanges", "viewer", ({ of, id }) =>
  of<() => JsonObject>(
    () => ({ correlationId: of("exchange-1", "exchange-2") }),
    () => ({ correlationId: "exchange-1", pageSize: 1 }),
    () => ({ correlationId: "exchange-1", pageToken: id("page") }),
  )(),
);

// How tasks are routed, and what policy says of it.
kind(RoutingService, "PreviewRoute", "caller-1", (draw) => ({ request: request(draw) }));
kind(RoutingService, "GetRouteDecision", "viewer", ({ id }) => ({ taskId: id("task") }));
kind(RoutingService, "GetRoutingSettings", "viewer", () => ({}));
kind(RoutingService, "UpdateRoutingSettings", "operator", ({ of }) => ({
  routingSettings: { strategy: of("round-robin", "least-load") },
  updateMask: "strategy",
}));
kind(RoutingService, "ReplayRoutes", "viewer", () => ({ strategy: "round-robin" }));
kind(RolloutService, "UpdateRollout", "operator", ({ of }) => ({
  rollout: { capabilityId: of("say", ""), alertThresholds: { errorRate: of(0.5, 0.9) } },
  updateMask: "alertThresholds",
}));
kind(RolloutService, "GetRollout", "viewer", ({ of }) => ({ capabilityId: of("say", "") }));
kind(RolloutService, "ListRollouts", "viewer", () => ({}));
kind(RolloutService, "ListAlerts", "viewer", () => ({}));
kind(RolloutService, "DeleteRollout", "operator", () => ({ capabilityId: "say" }));
kind(ApprovalService, "ListApprovals", "operator", ({ of, id }) =>
  of<() => JsonObject>(
    () => ({}),
    () => ({ taskId: id("task") }),
    () => ({ pageToken: id("page") }),
  )(),
);
kind(ApprovalService, "GetApproval", "operator", ({ id }) => ({ approvalId: id("approval") }));
kind(ApprovalService, "DecideApproval", "operator", ({ id, of, workspace }) => ({
  approvalId: id("approval"),
  verdict: of("APPROVAL_VERDICT_APPROVE", "APPROVAL_VERDICT_REJECT"),
  comment: workspace.mark,
}));
export const policyOf = ({ mark }: Marked, more = ""): string => `
version: 1
rules:
  - effect: REQUIRE
    scope: CAPABILITY
    when: {capability_id: pay}
    then: {approval: {expires: 24h, self: true}}
    description: Payments of ${mark} are looked at first ${more}
budgets:
  - {id: every, capability_id: "*", monthly_tasks: 100000, description: What ${mark} has}
  - {id: each, principal_id: "*", monthly_tasks: 100000, description: What each of ${mark} has}
`;
kind(PolicyService, "PutPolicy", "admin", ({ workspace, nonce }) => ({
  policy: { document: policyOf(workspace, nonce), comment: workspace.mark },
}));
kind(PolicyService, "GetPolicy", "viewer", ({ of }) => ({ version: of(0, 1, 2) }));
kind(PolicyService, "ListPolicyVersions", "viewer", () => ({}));
kind(PolicyService, "RollbackPolicy", "admin", ({ workspace }) => ({ version: 1, comment: workspace.mark }));
kind(PolicyService, "EvaluatePolicy", "viewer", () => ({
  facts: { capability_id: "pay" },
  phase: "POLICY_PHASE_CANDIDATE",
}));
kind(PolicyService, "ReplayPolicy", "viewer", ({ workspace }) => ({ document: policyOf(workspace) }));
kind(BudgetService, "ListBudgets", "viewer", ({ of, id }) =>
  of<() => JsonObject>(
    () => ({}),
    () => ({ pageSize: 1 }),
    () => ({ pageToken: id("page") }),
  )(),
);
kind(BudgetService, "ListBudgetUsage", "viewer", ({ of }) => ({ budgetId: of("every", "each") }));
kind(ReputationService, "ReportOutcome", "operator", (draw) => ({
  reportId: draw.of("report-1", "report-2", draw.nonce),
  taskId: draw.id("task"),
  quality: draw.of(0, 0.5, 1),
  comment: draw.workspace.mark,
}));
kind(ReputationService, "ReportOutcome", "operator", (draw) => ({
  reportId: draw.of("report-1", "report-2", draw.nonce),
  agentId: draw.of("echo", draw.id("agent")),
  quality: 1,
  comment: draw.workspace.mark,
}));
kind(ReputationService, "SetTrust", "operator", ({ of, id, workspace }) => ({
  agentId: of("echo", id("agent")),
  trust: of(0.4, 0.6),
  comment: workspace.mark,
}));
kind(ReputationService, "GetReputation", "viewer", ({ of, id }) => ({ agentId: of("echo", id("agent")) }));
kind(ReputationService, "ListReputations", "viewer", () => ({}));

// Agents.
kind(RegistryService, "RegisterAgent", "operator", ({ workspace }) => {
  const agentId = spareOf(workspace);
  return { agentId, card: cardOf(workspace, agentId) };
});
kind(RegistryService, "DeregisterAgent", "operator", ({ id, of, workspace }) => ({
  agentId: of(spareOf(workspace), id("spare")),
}));
kind(RegistryService, "UpdateAgent", "operator", ({ id, of }) => ({
  agent: { agentId: of("ask", id("agent")), maxConcurrency: of(0, 8) },
  updateMask: "maxConcurrency",
}));
kind(RegistryService, "GetAgent", "viewer", ({ id, of }) => ({ agentId: of("echo", id("agent")) }));
kind(RegistryService, "ListAgents", "viewer", ({ of, id }) =>
  of<() => JsonObject>(
    () => ({}),
    () => ({ pageSize: 1 }),
    () => ({ pageToken: id("page") }),
  )(),
);
kind(RegistryService, "SearchAgents", "caller-2", ({ of }) =>
  of<JsonObject>({}, { text: "say" }, { capabilityId: "say" }, { tags: ["test"] }),
);
kind(RegistryService, "AddCapability", "operator", ({ id, of, workspace }) => ({
  agentId: of("ask", id("agent")),
  capability: { capabilityId: "talk", description: `${workspace.agentMark} talks`, tags: ["test"] },
}));
kind(RegistryService, "RemoveCapability", "operator", ({ id, of }) => ({
  agentId: of("ask", id("agent")),
  capabilityId: "talk",
}));
kind(RegistryService, "ListCapabilities", "viewer", ({ id, of }) =>
  of<JsonObject>({}, { agentId: id("agent") }, { capabilityId: "say" }),
);
kind(RegistryService, "Heartbeat", "operator", ({ id, of }) => ({
  agentId: of("echo", id("agent")),
  ttlMs: 86_400_000,
}));
kind(RegistryService, "CheckAgentHealth", "operator", ({ id, of }) => ({ agentId: of("echo", id("agent")) }));
kind(RegistryService, "SetDefaultAgent", "operator", ({ id, of }) => ({ agentId: of("echo", "ask", id("agent")) }));
kind(RegistryService, "SetAgentCredential", "operator", ({ id, of, workspace }) => ({
  agentId: of("ask", id("agent")),
  credential: { apiKey: { header: `x-${workspace.mark}`, key: `${workspace.mark}-credential` } },
}));
kind(RegistryService, "GetAgentCredential", "viewer", ({ id, of }) => ({ agentId: of("ask", id("agent")) }));
kind(RegistryService, "DeleteAgentCredential", "operator", ({ id, of }) => ({ agentId: of("ask", id("agent")) }));
kind(CacheService, "GetCacheStats", "viewer", () => ({ capabilityId: "say" }));
kind(CacheService, "ClearCache", "operator", () => ({ capabilityId: "say" }));

/** The agent that comes and goes, one in each workspace. */
export const spareOf = ({ workspaceId }: Marked): string => `spare-${workspaceId.at(-1)}`;

// The workspace itself.
kind(WorkspaceService, "WhoAmI", "caller-1", () => ({}));
kind(WorkspaceService, "WhoAmI", "admin", () => ({}), {
  headers: ({ id }) => ({ "signalbox-workspace": id("workspace") }),
});
kind(WorkspaceService, "GetWorkspace", "admin", ({ id }) => ({ workspaceId: id("workspace") }));
kind(WorkspaceService, "ListWorkspaces", "admin", () => ({}));
kind(WorkspaceService, "SuspendWorkspace", "admin", ({ id }) => ({ workspaceId: id("workspace"), reason: "x" }));
kind(WorkspaceService, "GetQuotas", "admin", ({ id }) => ({ workspaceId: id("workspace") }));
kind(WorkspaceService, "SetQuotas", "admin", ({ id }) => ({ workspaceId: id("workspace"), quotas: { streams: 1 } }));
kind(WorkspaceService, "CreateKey", "admin", ({ id, of, workspace }) => ({
  key: {
    principalId: of("extra", "caller-1"),
    roles: ["viewer"],
    description: workspace.mark,
    workspaceId: of("", id("workspace")),
  },
}));
kind(WorkspaceService, "ListKeys", "admin", ({ id, of }) => ({
  workspaceId: of("", id("workspace")),
  pageSize: of(1, 50),
}));
kind(WorkspaceService, "RotateKey", "admin", ({ id }) => ({ keyId: id("key") }));
kind(WorkspaceService, "RevokeKey", "admin", ({ id }) => ({ keyId: id("key") }));
kind(WorkspaceService, "RevokeKey", "admin", ({ id }) => ({ keyId: id("key"), workspaceId: id("workspace") }));
kind(WorkspaceService, "PutMember", "admin", ({ id, of, workspaces, workspace }) => ({
  member: {
    principalId: memberOf(of(workspace, ...workspaces)),
    roles: [of("viewer", "caller")],
    workspaceId: of("", id("workspace")),
  },
}));
kind(WorkspaceService, "ListMembers", "admin", ({ id, of }) => ({ workspaceId: of("", id("workspace")) }));
kind(WorkspaceService, "RemoveMember", "admin", ({ id }) => ({ principalId: id("member") }));
export const memberOf = ({ workspaceId }: Marked): string => `jwt/login.example/anna-${workspaceId.at(-1)}`;
kind(WorkspaceService, "OfferGrant", "admin", ({ of, id, workspaces }) => ({
  grant: {
    consumerWorkspaceId: of(...workspaces.map(({ workspaceId }) => workspaceId)),
    agentId: of("echo", id("agent")),
    ...of<JsonObject>({}, { capabilityId: "say" }),
  },
}));
kind(WorkspaceService, "AcceptGrant", "admin", ({ id, of }) => ({
  grantId: of(id("offered"), id("grant")),
  aliasAgentId: of("lent-1", "lent-2"),
}));
kind(WorkspaceService, "RevokeGrant", "admin", ({ id }) => ({ grantId: id("grant") }));
kind(WorkspaceService, "ListGrants", "admin", () => ({}));

// The audit log.
kind(AuditService, "ListEntries", "viewer", ({ of, id }) =>
  of<() => JsonObject>(
    () => ({ pageSize: 100 }),
    () => ({ taskId: id("task") }),
    () => ({ targetType: "context", targetId: id("context") }),
    () => ({ pageToken: id("page") }),
  )(),
);
kind(AuditService, "GetCheckpoint", "viewer", () => ({}));
kind(AuditService, "ProveInclusion", "viewer", ({ id }) => ({ hash: id("hash") }));
kind(AuditService, "ExportEntries", "operator", () => ({}));
kind(AuditService, "VerifyChain", "operator", () => ({}));
kind(AuditService, "ListAuditKeys", "viewer", () => ({}));

export const KINDS: readonly CallKind[] = kinds;
