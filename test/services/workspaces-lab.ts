/** The use cases of workspaces, members and grants over the database of a suite, with their audit log. */
import { create } from "@bufbuild/protobuf";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Principal } from "../../src/domain/identity/principal.ts";
import { scopesOf } from "../../src/domain/identity/roles.ts";
import { createAudit } from "../../src/services/audit.ts";
import { createGrants } from "../../src/services/identity/grants.ts";
import { createHeldWorkspaces } from "../../src/services/identity/held-workspaces.ts";
import { createMembers } from "../../src/services/identity/members.ts";
import { createWorkspaces } from "../../src/services/identity/workspaces.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createAgentRepository } from "../../src/store/agent-repository.ts";
import { createAuditTrail } from "../../src/store/audit-trail.ts";
import { createCapabilityRepository } from "../../src/store/capability-repository.ts";
import type { Database } from "../../src/store/database.ts";
import { createGrantRepository } from "../../src/store/grant-repository.ts";
import { createMemberRepository } from "../../src/store/member-repository.ts";
import { createWorkspaceRepository } from "../../src/store/workspace-repository.ts";
import { silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

export function principalOf(
  workspaceId: string,
  { id = "admin", roles = ["admin"], scopes = [] as string[] } = {},
): Principal {
  return {
    id,
    workspaceId,
    roles: new Set(roles),
    scopes: scopesOf(roles, scopes),
    authentication: "api-key",
    actors: [],
  };
}

export const contextOf = (principal: Principal, signal = new AbortController().signal): RequestContext => ({
  principal,
  workspaceId: principal.workspaceId,
  requestId: "request",
  signal,
  extensions: [],
  traceparent: undefined,
  addressTarget: undefined,
  idempotencyKey: undefined,
  noStore: false,
  log: silent,
});

/** An admin's call. */
export const by = (workspaceId: string, given: Parameters<typeof principalOf>[1] = {}): RequestContext =>
  contextOf(principalOf(workspaceId, given));

/** One replica's use cases. */
export function openIdentity(db: Database, replicaId = "replica") {
  const runtime = systemRuntime();
  const audit = createAudit({
    trail: createAuditTrail({ db, enabled: true, replicaId: () => replicaId }),
    runtime,
    replicaId: () => replicaId,
  });
  const repository = createWorkspaceRepository(db);
  const memberRepository = createMemberRepository(db);
  const agents = createAgentRepository(db);
  const known = createHeldWorkspaces({ workspaces: repository, members: memberRepository, runtime });
  const changed: string[] = [];
  return {
    known,
    changed,
    repository,
    memberRepository,
    grantRepository: createGrantRepository(db),
    workspaces: createWorkspaces({ repository, audit, onChange: known.workspaceChanged, onQuotas() {} }),
    members: createMembers({
      repository: memberRepository,
      workspaces: repository,
      audit,
      runtime,
      onChange: known.memberChanged,
    }),
    grants: createGrants({
      repository: createGrantRepository(db),
      agents,
      capabilities: createCapabilityRepository(db),
      audit,
      runtime,
      onChange: (workspaceId) => void changed.push(workspaceId),
    }),
    async agent(workspaceId: string, agentId: string) {
      const card = create(AgentCardSchema, {
        name: agentId,
        skills: [{ id: "translate", name: "Translate", description: "Translates.", tags: ["test"] }],
      });
      const source = { card, cardUrl: undefined, cardEtag: undefined };
      await agents.insert(workspaceId, agentId, { source, safeToRepeat: false, maxConcurrency: 0 }, new Date());
    },
  };
}

export type Identity = ReturnType<typeof openIdentity>;

/** What is recorded in the log of a workspace: actions with their targets and details, in their order. */
export async function recorded(db: Database, workspaceId: string) {
  const rows = await raw(db, "select body from audit_entries where workspace_id = $1 order by chain_id, n", [
    workspaceId,
  ]);
  return rows.map((row) => {
    const entry = JSON.parse(`{${(row.body as string).replace(/^.*?"time":/s, '"time":')}`);
    return { action: entry.action, actor: entry.actor, id: entry.id, ...(entry.detail && { detail: entry.detail }) };
  });
}
