/** What workspaces lend each other: one offers, the other accepts, and either can end it. */
import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type AcceptGrantRequest,
  type Grant,
  GrantSchema,
  GrantState,
  type ListGrantsRequest,
  type ListGrantsResponse,
  ListGrantsResponseSchema,
  type OfferGrantRequest,
} from "../../../gen/signalbox/v1/workspace_pb.ts";
import { capabilitiesOf } from "../../domain/capability.ts";
import { clip, type FieldViolation, invalidArgument, SignalboxError } from "../../domain/errors.ts";
import { isDnsLabel, RESERVED_IDS } from "../../domain/identifiers.ts";
import { refuse } from "../../domain/refusal.ts";
import type { AgentRepository } from "../../store/agent-repository.ts";
import type { CapabilityRepository } from "../../store/capability-repository.ts";
import type { GrantRecord, GrantRepository } from "../../store/grant-repository.ts";
import type { Audit, Deed } from "../audit.ts";
import { pageLimit, pageToken, pageTokenAs } from "../paging.ts";
import { agentNotFound } from "../registry-views.ts";
import type { RequestContext } from "../request-context.ts";
import type { Runtime } from "../runtime.ts";
import { recordingIn } from "./named-workspace.ts";

const DEFAULT_PAGE = 50;
/** Grants that have not ended, which a workspace has offered, or has accepted. */
const MAX_GRANTS = 1_000;
/** The last moment that the database and JavaScript both know by four digits of its year. */
const LAST_TIME = Date.parse("9999-12-31T23:59:59Z");

export interface Grants {
  /** Throws INVALID_ARGUMENT by field; AGENT_NOT_FOUND, CAPABILITY_NOT_FOUND; TOO_MANY_GRANTS. */
  offer(context: RequestContext, request: OfferGrantRequest): Promise<Grant>;
  /** Throws GRANT_NOT_FOUND, GRANT_NOT_PENDING, AGENT_EXISTS, TOO_MANY_GRANTS. */
  accept(context: RequestContext, request: AcceptGrantRequest): Promise<Grant>;
  /** One that has ended stays as it is. Throws GRANT_NOT_FOUND. */
  revoke(context: RequestContext, grantId: string): Promise<Grant>;
  list(context: RequestContext, request: ListGrantsRequest): Promise<ListGrantsResponse>;
}

export interface GrantsDeps {
  repository: GrantRepository;
  agents: Pick<AgentRepository, "get">;
  capabilities: Pick<CapabilityRepository, "ofAgent">;
  audit: Audit;
  runtime: Pick<Runtime, "now" | "newId">;
  /** Told of each grant that was accepted or ended: of both of its workspaces. */
  onChange(workspaceId: string): void;
}

export function createGrants(deps: GrantsDeps): Grants {
  const { repository, agents, capabilities, audit, runtime } = deps;

  const recordOf = (context: RequestContext, action: string, grantId: string, detail?: Deed["detail"]) =>
    recordingIn(audit, context, { action, targetType: "grant", targetId: grantId, ...(detail && { detail }) });

  function changed({ providerWorkspaceId, consumerWorkspaceId }: GrantRecord): void {
    deps.onChange(providerWorkspaceId);
    deps.onChange(consumerWorkspaceId);
  }

  /** Throws AGENT_NOT_FOUND for what is no agent of the workspace's own: what is lent to it is not for it to lend. */
  async function checkOffered(workspaceId: string, agentId: string, capabilityId: string): Promise<void> {
    const agent = isDnsLabel(agentId) ? await agents.get(workspaceId, agentId) : undefined;
    if (!agent) throw agentNotFound(agentId);
    if (capabilityId === "") return;
    const said = await capabilities.ofAgent(workspaceId, agentId);
    const offered = capabilitiesOf(
      agentId,
      agent.card,
      said.map(({ given }) => given),
    );
    if (!offered.some((one) => one.capabilityId === capabilityId)) throw capabilityNotFound(agentId, capabilityId);
  }

  return {
    async offer(context, { grant }) {
      const { workspaceId, principal } = context;
      if (!grant) throw invalidArgument([{ field: "grant", description: "is required" }]);
      const { consumerWorkspaceId, agentId, capabilityId, expireTime } = grant;
      const expiresAt = expireTime && timestampDate(expireTime);
      refuse([...consumerViolations(consumerWorkspaceId, workspaceId), ...expiryViolations(expiresAt, runtime.now())]);
      await checkOffered(workspaceId, agentId, capabilityId);
      const offered = {
        grantId: runtime.newId(),
        providerWorkspaceId: workspaceId,
        consumerWorkspaceId,
        agentId,
        capabilityId: capabilityId === "" ? undefined : capabilityId,
        expiresAt,
        offeredBy: principal.id,
      };
      const record = recordOf(context, "grant.offer", offered.grantId, {
        provider: workspaceId,
        consumer: consumerWorkspaceId,
        agent: agentId,
        ...(capabilityId !== "" && { capability: capabilityId }),
        ...(expiresAt && { expires: expiresAt.toISOString() }),
      });
      const stored = await repository.offer(offered, MAX_GRANTS, record);
      if (stored === "no-agent") throw agentNotFound(agentId);
      if (stored === "full") throw tooManyGrants("offers");
      return view(stored);
    },

    async accept(context, { grantId, aliasAgentId }) {
      const { workspaceId, principal } = context;
      refuse(aliasViolations(aliasAgentId));
      const alias = aliasAgentId === "" ? undefined : aliasAgentId;
      const record = recordOf(context, "grant.accept", grantId, { consumer: workspaceId, ...(alias && { alias }) });
      const accepted = isGrantId(grantId)
        ? await repository.accept(
            workspaceId,
            grantId,
            { aliasAgentId: alias, by: principal.id, most: MAX_GRANTS },
            record,
          )
        : "missing";
      if (accepted === "missing") throw grantNotFound(grantId);
      if (accepted === "not-pending") throw grantNotPending(grantId);
      if (accepted === "taken") throw agentExists(aliasAgentId);
      if (accepted === "full") throw tooManyGrants("has accepted");
      changed(accepted);
      return view(accepted);
    },

    async revoke(context, grantId) {
      const record = recordOf(context, "grant.revoke", grantId);
      const revoked = isGrantId(grantId) ? await repository.revoke(context.workspaceId, grantId, record) : undefined;
      if (!revoked) throw grantNotFound(grantId);
      changed(revoked);
      return view(revoked);
    },

    async list({ workspaceId }, request) {
      const limit = pageLimit(request.pageSize, DEFAULT_PAGE);
      const before = pageTokenAs(request.pageToken, "ListGrants", (text) => (isGrantId(text) ? text : undefined));
      if (!Object.values<number>(GrantState).includes(request.state)) {
        throw invalidArgument([{ field: "state", description: "is none of the states of a grant" }]);
      }
      const found = await repository.list(workspaceId, request.state, { before, limit: limit + 1 });
      const page = found.slice(0, limit);
      return create(ListGrantsResponseSchema, {
        grants: page.map(view),
        nextPageToken: found.length > limit ? pageToken(page.at(-1)!.grantId) : "",
      });
    },
  };
}

const isGrantId = (text: string): boolean => /^[0-9a-f-]{36}$/.test(text);

function consumerViolations(consumerId: string, ownId: string): FieldViolation[] {
  const field = "grant.consumerWorkspaceId";
  if (consumerId === "") return [{ field, description: "is required" }];
  if (!isDnsLabel(consumerId)) return [{ field, description: "must be the id of a workspace" }];
  return consumerId === ownId ? [{ field, description: "is your own: its agents are there already" }] : [];
}

function expiryViolations(expiresAt: Date | undefined, now: Date): FieldViolation[] {
  if (!expiresAt) return [];
  const time = expiresAt.getTime();
  if (time > now.getTime() && time <= LAST_TIME) return [];
  return [{ field: "grant.expireTime", description: "must lie in the future, before the year 10000" }];
}

function aliasViolations(id: string): FieldViolation[] {
  const field = "aliasAgentId";
  if (id === "") return [];
  if (!isDnsLabel(id)) return [{ field, description: "must be a DNS label, as the id of any agent" }];
  return RESERVED_IDS.has(id) ? [{ field, description: `"${id}" is a part of the router's own addresses` }] : [];
}

const view = (grant: GrantRecord): Grant =>
  create(GrantSchema, {
    grantId: grant.grantId,
    providerWorkspaceId: grant.providerWorkspaceId,
    consumerWorkspaceId: grant.consumerWorkspaceId,
    agentId: grant.agentId,
    capabilityId: grant.capabilityId ?? "",
    aliasAgentId: grant.aliasAgentId ?? "",
    state: grant.state,
    ...(grant.expiresAt && { expireTime: timestampFromDate(grant.expiresAt) }),
    createTime: timestampFromDate(grant.createdAt),
    offeredBy: grant.offeredBy,
    acceptedBy: grant.acceptedBy ?? "",
  });

const grantNotFound = (grantId: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "GRANT_NOT_FOUND",
    message: `There is no grant "${clip(grantId)}" that your workspace offers or is offered. ListGrants shows those that there are.`,
    metadata: { grantId: clip(grantId) },
  });

const grantNotPending = (grantId: string) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "GRANT_NOT_PENDING",
    message: `The grant "${grantId}" was accepted, or has ended. Ask the workspace that offered it for another.`,
    metadata: { grantId },
  });

const agentExists = (agentId: string) =>
  new SignalboxError({
    code: "ALREADY_EXISTS",
    reason: "AGENT_EXISTS",
    message: `Your workspace has an agent ${agentId === "" ? "of that id" : `"${agentId}"`} already. Accept the grant with another aliasAgentId.`,
    metadata: { agentId },
  });

const capabilityNotFound = (agentId: string, capabilityId: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "CAPABILITY_NOT_FOUND",
    message: `Agent "${agentId}" has no capability "${clip(capabilityId)}". ListCapabilities shows those that it has.`,
    metadata: { agentId, capabilityId: clip(capabilityId) },
  });

const tooManyGrants = (how: "offers" | "has accepted") =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "TOO_MANY_GRANTS",
    message: `Your workspace ${how} ${MAX_GRANTS} grants already that have not ended. Revoke one first.`,
  });
