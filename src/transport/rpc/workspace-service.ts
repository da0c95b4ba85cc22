/** signalbox.v1.WorkspaceService over the use cases. */

import { create } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type WhoAmIResponse,
  WhoAmIResponseSchema,
  type WorkspaceService,
} from "../../../gen/signalbox/v1/workspace_pb.ts";
import type { Principal } from "../../domain/identity/principal.ts";
import type { Grants } from "../../services/identity/grants.ts";
import type { Keys } from "../../services/identity/keys.ts";
import type { Members } from "../../services/identity/members.ts";
import type { Workspaces } from "../../services/identity/workspaces.ts";
import { requestContextOf } from "./bind.ts";

export interface WorkspaceServiceDeps {
  workspaces: Workspaces;
  members: Members;
  grants: Grants;
  keys: Keys;
}

export function createWorkspaceService(deps: WorkspaceServiceDeps): ServiceImpl<typeof WorkspaceService> {
  const { workspaces, members, grants, keys } = deps;
  return {
    createWorkspace: (request, context) => workspaces.create(requestContextOf(context), request),
    getWorkspace: (request, context) => workspaces.get(requestContextOf(context), request.workspaceId),
    listWorkspaces: (request, context) => workspaces.list(requestContextOf(context), request),
    suspendWorkspace: (request, context) => workspaces.suspend(requestContextOf(context), request),
    resumeWorkspace: (request, context) => workspaces.resume(requestContextOf(context), request.workspaceId),
    setQuotas: (request, context) => workspaces.setQuotas(requestContextOf(context), request),
    getQuotas: (request, context) => workspaces.getQuotas(requestContextOf(context), request.workspaceId),
    putMember: (request, context) => members.put(requestContextOf(context), request),
    listMembers: (request, context) => members.list(requestContextOf(context), request),
    removeMember: async (request, context) => {
      await members.remove(requestContextOf(context), request);
      return create(EmptySchema);
    },
    offerGrant: (request, context) => grants.offer(requestContextOf(context), request),
    acceptGrant: (request, context) => grants.accept(requestContextOf(context), request),
    revokeGrant: (request, context) => grants.revoke(requestContextOf(context), request.grantId),
    listGrants: (request, context) => grants.list(requestContextOf(context), request),
    createKey: (request, context) => keys.create(requestContextOf(context), request),
    listKeys: (request, context) => keys.list(requestContextOf(context), request),
    rotateKey: (request, context) => keys.rotate(requestContextOf(context), request),
    revokeKey: (request, context) => keys.revoke(requestContextOf(context), request),
    whoAmI: (_, context) => whoIs(requestContextOf(context).principal),
  };
}

const whoIs = ({ id, workspaceId, roles, scopes, actors, agentId, authentication }: Principal): WhoAmIResponse =>
  create(WhoAmIResponseSchema, {
    principalId: id,
    workspaceId,
    roles: [...roles].sort(),
    scopes: [...scopes].sort(),
    actors: [...actors],
    agentId: agentId ?? "",
    authentication,
  });
