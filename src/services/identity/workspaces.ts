/** Workspaces: made, looked at, suspended and resumed, and told how much they may use. */
import { create, toJson } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type CreateWorkspaceRequest,
  type GetQuotasResponse,
  GetQuotasResponseSchema,
  type ListWorkspacesRequest,
  type ListWorkspacesResponse,
  ListWorkspacesResponseSchema,
  type Quotas,
  QuotasSchema,
  type QuotaUse,
  type SetQuotasRequest,
  type SuspendWorkspaceRequest,
  type Workspace,
  WorkspaceSchema,
} from "../../../gen/signalbox/v1/workspace_pb.ts";
import { clip, invalidArgument, SignalboxError } from "../../domain/errors.ts";
import { isDnsLabel } from "../../domain/identifiers.ts";
import { workspaceNotFound } from "../../domain/identity/errors.ts";
import { HOME_WORKSPACE, runsTheRouter } from "../../domain/identity/principal.ts";
import { quotaViolations } from "../../domain/identity/quota-rules.ts";
import { textViolations } from "../../domain/identity/text-rules.ts";
import { RESERVED_WORKSPACES } from "../../domain/identity/workspace-id.ts";
import { refuse } from "../../domain/refusal.ts";
import type { StoredQuotas, WorkspaceRecord, WorkspaceRepository } from "../../store/workspace-repository.ts";
import type { Audit, Deed } from "../audit.ts";
import { etagMismatch, etagOf, revisionIn } from "../etag.ts";
import { pageLimit, pageToken, readPageToken } from "../paging.ts";
import type { RequestContext } from "../request-context.ts";
import { namedWorkspace, recordingIn, requireRouter } from "./named-workspace.ts";

const DEFAULT_PAGE = 50;
const MAX_NAME_LENGTH = 256;
const MAX_REASON_LENGTH = 1_024;

export interface Workspaces {
  /** Throws NOT_THE_ROUTER, INVALID_ARGUMENT by field, WORKSPACE_EXISTS. */
  create(context: RequestContext, request: CreateWorkspaceRequest): Promise<Workspace>;
  /** Throws WORKSPACE_NOT_FOUND. */
  get(context: RequestContext, workspaceId: string): Promise<Workspace>;
  list(context: RequestContext, request: ListWorkspacesRequest): Promise<ListWorkspacesResponse>;
  /** One that is suspended stays as it is. Throws NOT_THE_ROUTER, WORKSPACE_NOT_FOUND, WORKSPACE_NEEDED for the router's own. */
  suspend(context: RequestContext, request: SuspendWorkspaceRequest): Promise<Workspace>;
  /** Throws NOT_THE_ROUTER, WORKSPACE_NOT_FOUND. */
  resume(context: RequestContext, workspaceId: string): Promise<Workspace>;
  /** Throws NOT_THE_ROUTER, WORKSPACE_NOT_FOUND, INVALID_ARGUMENT by field, ETAG_MISMATCH. */
  setQuotas(context: RequestContext, request: SetQuotasRequest): Promise<Quotas>;
  /** Throws WORKSPACE_NOT_FOUND. */
  getQuotas(context: RequestContext, workspaceId: string): Promise<GetQuotasResponse>;
}

export interface WorkspacesDeps {
  repository: WorkspaceRepository;
  audit: Audit;
  /** Told of each workspace that was made, suspended or resumed, when it is stored. */
  onChange(workspaceId: string): void;
  /** Told of each workspace whose quotas were set. */
  onQuotas(workspaceId: string): void;
  /** How much a workspace uses; where nobody counts it, nothing is said. */
  use?(workspaceId: string): Promise<QuotaUse>;
}

export function createWorkspaces({ repository, audit, onChange, onQuotas, use }: WorkspacesDeps): Workspaces {
  const deedOf = (context: RequestContext, action: string, workspaceId: string, detail?: Deed["detail"]) => ({
    byWorkspaceId: context.workspaceId,
    record: recordingIn(audit, context, {
      action,
      targetType: "workspace",
      targetId: workspaceId,
      ...(detail && { detail }),
    }),
  });

  function found(workspaceId: string, record: WorkspaceRecord | undefined): Workspace {
    if (!record) throw workspaceNotFound(workspaceId);
    return view(record);
  }

  return {
    async create(context, { workspace }) {
      requireRouter(context);
      if (!workspace) throw invalidArgument([{ field: "workspace", description: "is required" }]);
      const { workspaceId, displayName } = workspace;
      refuse([
        ...idViolations("workspace.workspaceId", workspaceId),
        ...textViolations("workspace.displayName", displayName, MAX_NAME_LENGTH),
      ]);
      const made = await repository.create(
        workspaceId,
        displayName,
        deedOf(context, "workspace.create", workspaceId, { name: displayName }),
      );
      if (!made) throw workspaceExists(workspaceId);
      onChange(workspaceId);
      return view(made);
    },

    async get(context, named) {
      const workspaceId = namedWorkspace(context, named);
      return found(workspaceId, await repository.get(workspaceId));
    },

    async list({ workspaceId, principal }, request) {
      const limit = pageLimit(request.pageSize, DEFAULT_PAGE);
      const [afterId] = readPageToken(request.pageToken, 1, "ListWorkspaces") ?? [];
      if (!runsTheRouter(principal)) {
        const own = afterId !== undefined && afterId >= workspaceId ? undefined : await repository.get(workspaceId);
        return create(ListWorkspacesResponseSchema, { workspaces: own ? [view(own)] : [] });
      }
      const records = await repository.list({ afterId, limit: limit + 1 });
      const page = records.slice(0, limit);
      return create(ListWorkspacesResponseSchema, {
        workspaces: page.map(view),
        nextPageToken: records.length > limit ? pageToken(page.at(-1)!.workspaceId) : "",
      });
    },

    async suspend(context, { workspaceId: named, reason }) {
      requireRouter(context);
      const workspaceId = required(context, named);
      refuse(textViolations("reason", reason, MAX_REASON_LENGTH));
      if (workspaceId === HOME_WORKSPACE) throw workspaceNeeded();
      const deed = deedOf(context, "workspace.suspend", workspaceId, { reason });
      const suspended = found(workspaceId, await repository.suspend(workspaceId, reason, deed));
      onChange(workspaceId);
      return suspended;
    },

    async resume(context, named) {
      requireRouter(context);
      const workspaceId = required(context, named);
      const deed = deedOf(context, "workspace.resume", workspaceId);
      const resumed = found(workspaceId, await repository.resume(workspaceId, deed));
      onChange(workspaceId);
      return resumed;
    },

    async setQuotas(context, { workspaceId: named, quotas }) {
      requireRouter(context);
      const workspaceId = namedWorkspace(context, named);
      if (!quotas) throw invalidArgument([{ field: "quotas", description: "is required" }]);
      refuse(quotaViolations(quotas, "quotas"));
      const { etag, ...said } = quotas;
      const revision = etag === "" ? undefined : asRevision(etag);
      const detail = toJson(QuotasSchema, create(QuotasSchema, { ...said, etag: "" })) as NonNullable<Deed["detail"]>;
      const stored = await repository.setQuotas(
        workspaceId,
        quotas,
        revision,
        deedOf(context, "quotas.set", workspaceId, detail),
      );
      if (stored === "missing") throw workspaceNotFound(workspaceId);
      if (stored === "changed") throw etagMismatch(`The quotas of workspace "${workspaceId}" were`);
      onQuotas(workspaceId);
      return quotasView(stored);
    },

    async getQuotas(context, named) {
      const workspaceId = namedWorkspace(context, named);
      const stored = await repository.quotas(workspaceId);
      if (!stored) throw workspaceNotFound(workspaceId);
      const used = await use?.(workspaceId);
      return create(GetQuotasResponseSchema, { quotas: quotasView(stored), ...(used && { use: used }) });
    },
  };
}

function required(context: RequestContext, named: string): string {
  if (named === "") throw invalidArgument([{ field: "workspaceId", description: "is required" }]);
  return namedWorkspace(context, named);
}

/** A number that no revision is where the etag holds none. */
function asRevision(etag: string): number {
  const text = revisionIn(etag);
  return /^\d{1,9}$/.test(text) ? Number(text) : -1;
}

function idViolations(field: string, id: string) {
  if (id === "") return [{ field, description: "is required" }];
  if (!isDnsLabel(id)) {
    const description =
      "must be a DNS label: at most 63 of the lower-case letters a to z, digits and -, with a letter or digit at either end";
    return [{ field, description }];
  }
  return RESERVED_WORKSPACES.has(id)
    ? [{ field, description: `"${id}" has a meaning of its own; choose another` }]
    : [];
}

const view = ({ workspaceId, displayName, createdAt, suspendedAt, suspendReason }: WorkspaceRecord): Workspace =>
  create(WorkspaceSchema, {
    workspaceId,
    displayName,
    createTime: timestampFromDate(createdAt),
    ...(suspendedAt && { suspendTime: timestampFromDate(suspendedAt), suspendReason }),
  });

const quotasView = ({ quotas, revision }: StoredQuotas): Quotas =>
  create(QuotasSchema, { ...quotas, etag: etagOf(revision) });

const workspaceExists = (workspaceId: string) =>
  new SignalboxError({
    code: "ALREADY_EXISTS",
    reason: "WORKSPACE_EXISTS",
    message: `There is a workspace "${clip(workspaceId)}" already. Choose another id.`,
    metadata: { workspace: clip(workspaceId) },
  });

const workspaceNeeded = () =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "WORKSPACE_NEEDED",
    message: `The workspace "${HOME_WORKSPACE}" cannot be suspended: nobody would be left to resume it.`,
    metadata: { workspace: HOME_WORKSPACE },
  });
