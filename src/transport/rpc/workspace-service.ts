/** signalbox.v1.WorkspaceService over the use cases. */

import { create } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { WorkspaceService } from "../../../gen/signalbox/v1/workspace_pb.ts";
import type { Grants } from "../../services/identity/grants.ts";
import type { Members } from "../../services/identity/members.ts";
import type { Workspaces } from "../../services/identity/workspaces.ts";
import { requestContextOf } from "./bind.ts";

export interface WorkspaceServiceDeps {
  workspaces: Workspaces;
  members: Members;
  grants: Grants;
}

export function createWorkspaceService(deps: WorkspaceServiceDeps): ServiceImpl<typeof WorkspaceService> {
  const { workspaces, members, grants } = deps;
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
    createKey: notYet,
    listKeys: notYet,
    rotateKey: notYet,
    revokeKey: notYet,
    whoAmI: notYet,
  };
}

/** BUILDING: replaced by who builds it. */
const notYet = (): never => {
  throw new Error("not built yet");
};
