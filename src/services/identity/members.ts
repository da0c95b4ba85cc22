/** Members: what those may do in a workspace who are known by a token or a certificate. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type ListMembersRequest,
  type ListMembersResponse,
  ListMembersResponseSchema,
  type Member,
  MemberSchema,
  type PutMemberRequest,
  type RemoveMemberRequest,
} from "../../../gen/signalbox/v1/workspace_pb.ts";
import { clip, invalidArgument, SignalboxError } from "../../domain/errors.ts";
import { isDnsLabel } from "../../domain/identifiers.ts";
import { workspaceNotFound } from "../../domain/identity/errors.ts";
import { checkHeld, checkNamed, rightsViolations } from "../../domain/identity/given-rights.ts";
import { memberIdViolations } from "../../domain/identity/member-id.ts";
import { runsTheRouter } from "../../domain/identity/principal.ts";
import { refuse } from "../../domain/refusal.ts";
import type { MemberRecord, MemberRepository } from "../../store/member-repository.ts";
import type { WorkspaceRepository } from "../../store/workspace-repository.ts";
import type { Audit } from "../audit.ts";
import { pageLimit, pageToken, pageTokenAs } from "../paging.ts";
import type { RequestContext } from "../request-context.ts";
import type { Runtime } from "../runtime.ts";
import { namedWorkspace, recordingIn } from "./named-workspace.ts";

const DEFAULT_PAGE = 50;
/** Members of one workspace. */
const MAX_MEMBERS = 10_000;

export interface Members {
  /** Throws WORKSPACE_NOT_FOUND, INVALID_ARGUMENT by field, ROLE_NOT_HELD, TOO_MANY_MEMBERS. */
  put(context: RequestContext, request: PutMemberRequest): Promise<Member>;
  /** By id. Throws WORKSPACE_NOT_FOUND. */
  list(context: RequestContext, request: ListMembersRequest): Promise<ListMembersResponse>;
  /** Throws WORKSPACE_NOT_FOUND, MEMBER_NOT_FOUND. */
  remove(context: RequestContext, request: RemoveMemberRequest): Promise<void>;
}

export interface MembersDeps {
  repository: MemberRepository;
  workspaces: Pick<WorkspaceRepository, "get">;
  audit: Audit;
  runtime: Pick<Runtime, "now">;
  /** Told of each entry that was stored or removed, by its id. */
  onChange(principalId: string): void;
}

export function createMembers({ repository, workspaces, audit, runtime, onChange }: MembersDeps): Members {
  const deedOf = (context: RequestContext, action: string, principalId: string, detail?: object) => ({
    byWorkspaceId: context.workspaceId,
    record: recordingIn(audit, context, {
      action,
      targetType: "member",
      targetId: principalId,
      ...(detail && { detail: { ...detail } }),
    }),
  });

  return {
    async put(context, { member }) {
      if (!member) throw invalidArgument([{ field: "member", description: "is required" }]);
      const workspaceId = namedWorkspace(context, member.workspaceId);
      const { principalId, roles, scopes, agentId } = member;
      refuse([
        ...memberIdViolations("member.principalId", principalId),
        ...rightsViolations(member, "member"),
        ...(roles.length + scopes.length === 0
          ? [{ field: "member.roles", description: "at least one role or scope; RemoveMember takes all away" }]
          : []),
        ...(agentId === "" || isDnsLabel(agentId)
          ? []
          : [{ field: "member.agentId", description: "must be the id of an agent" }]),
      ]);
      checkHeld(context.principal, member);
      checkNamed(context.principal, { principalId: context.principal.id, agentId });
      const before = await repository.find(workspaceId, principalId);
      if (before) checkHeld(context.principal, before);
      const wanted: MemberRecord = {
        workspaceId,
        principalId,
        roles: [...new Set(roles)],
        scopes: [...new Set(scopes)],
        agentId: agentId === "" ? undefined : agentId,
        // Nobody is drawn into a workspace by its own admins.
        implied: runsTheRouter(context.principal),
        createdAt: runtime.now(),
        createdBy: context.principal.id,
      };
      const detail = {
        roles: [...wanted.roles],
        scopes: [...wanted.scopes],
        ...(agentId !== "" && { agent: agentId }),
      };
      const stored = await repository.put(wanted, MAX_MEMBERS, deedOf(context, "member.put", principalId, detail));
      if (stored === "no-workspace") throw workspaceNotFound(workspaceId);
      if (stored === "full") throw tooManyMembers();
      onChange(principalId);
      return view(stored);
    },

    async list(context, request) {
      const workspaceId = namedWorkspace(context, request.workspaceId);
      const limit = pageLimit(request.pageSize, DEFAULT_PAGE);
      const afterId = pageTokenAs(request.pageToken, "ListMembers", (text) =>
        memberIdViolations("", text).length === 0 ? text : undefined,
      );
      if (workspaceId !== context.workspaceId && !(await workspaces.get(workspaceId))) {
        throw workspaceNotFound(workspaceId);
      }
      const found = await repository.list(workspaceId, { afterId, limit: limit + 1 });
      const page = found.slice(0, limit);
      return create(ListMembersResponseSchema, {
        members: page.map(view),
        nextPageToken: found.length > limit ? pageToken(page.at(-1)!.principalId) : "",
      });
    },

    async remove(context, { principalId, workspaceId: named }) {
      const workspaceId = namedWorkspace(context, named);
      const deed = deedOf(context, "member.remove", principalId);
      const isId = memberIdViolations("", principalId).length === 0;
      const before = isId ? await repository.find(workspaceId, principalId) : undefined;
      // Nobody takes from who may do more.
      if (before) checkHeld(context.principal, before);
      if (isId && (await repository.remove(workspaceId, principalId, deed))) return onChange(principalId);
      if (workspaceId !== context.workspaceId && !(await workspaces.get(workspaceId))) {
        throw workspaceNotFound(workspaceId);
      }
      throw memberNotFound(principalId);
    },
  };
}

const view = ({
  workspaceId,
  principalId,
  roles,
  scopes,
  agentId,
  implied,
  createdAt,
  createdBy,
}: MemberRecord): Member =>
  create(MemberSchema, {
    workspaceId,
    principalId,
    roles: [...roles],
    scopes: [...scopes],
    agentId: agentId ?? "",
    implied,
    createTime: timestampFromDate(createdAt),
    createdBy,
  });

const memberNotFound = (principalId: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "MEMBER_NOT_FOUND",
    message: `No member of the workspace is called "${clip(principalId)}". ListMembers shows those that there are.`,
    metadata: { principal: clip(principalId) },
  });

const tooManyMembers = () =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "TOO_MANY_MEMBERS",
    message: `The workspace has ${MAX_MEMBERS} members already. Remove one first, or let an entry with a * stand for many.`,
  });
