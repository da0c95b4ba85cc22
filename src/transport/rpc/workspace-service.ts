/** signalbox.v1.WorkspaceService over the use cases. */
import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type WhoAmIResponse,
  WhoAmIResponseSchema,
  type WorkspaceService,
} from "../../../gen/signalbox/v1/workspace_pb.ts";
import type { Principal } from "../../domain/identity/principal.ts";
import type { Keys } from "../../services/identity/keys.ts";
import { requestContextOf } from "./bind.ts";

export function createWorkspaceService({ keys }: { keys: Keys }): ServiceImpl<typeof WorkspaceService> {
  return {
    createWorkspace: notYet,
    getWorkspace: notYet,
    listWorkspaces: notYet,
    suspendWorkspace: notYet,
    resumeWorkspace: notYet,
    setQuotas: notYet,
    getQuotas: notYet,
    createKey: (request, context) => keys.create(requestContextOf(context), request),
    listKeys: (request, context) => keys.list(requestContextOf(context), request),
    rotateKey: (request, context) => keys.rotate(requestContextOf(context), request),
    revokeKey: (request, context) => keys.revoke(requestContextOf(context), request),
    putMember: notYet,
    listMembers: notYet,
    removeMember: notYet,
    offerGrant: notYet,
    acceptGrant: notYet,
    revokeGrant: notYet,
    listGrants: notYet,
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

/** BUILDING: replaced by who builds it. */
const notYet = (): never => {
  throw new Error("not built yet");
};
