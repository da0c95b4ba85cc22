/** Workspaces, their members and what they lend each other; and what ends the calls of those that are suspended. */
import { startSuspensionWatch } from "../services/background/suspension-watch.ts";
import { createGrants, type Grants } from "../services/identity/grants.ts";
import type { HeldWorkspaces } from "../services/identity/held-workspaces.ts";
import { createMembers, type Members } from "../services/identity/members.ts";
import { createOpenCalls, type OpenCalls } from "../services/identity/open-calls.ts";
import { createWorkspaces, type Workspaces } from "../services/identity/workspaces.ts";
import { createGrantRepository } from "../store/grant-repository.ts";
import { createMemberRepository } from "../store/member-repository.ts";
import { createWorkspaceRepository } from "../store/workspace-repository.ts";
import type { Ground } from "./ground.ts";
import type { LimitParts } from "./limits.ts";
import type { EngineBase } from "./options.ts";
import type { RoutingParts } from "./routing.ts";

export interface WorkspaceParts {
  readonly workspaces: Workspaces;
  readonly members: Members;
  readonly grants: Grants;
  /** Every call that can be ended is to be among them for as long as it lasts. */
  readonly openCalls: OpenCalls;
}

export function buildWorkspaces(
  base: EngineBase,
  { hub, audit, repositories }: Ground,
  { watch }: Pick<RoutingParts, "watch">,
  { knownQuotas, quotaUses }: Pick<LimitParts, "knownQuotas" | "quotaUses">,
  known: HeldWorkspaces,
): WorkspaceParts {
  const { db, runtime, log, closing } = base;
  const repository = createWorkspaceRepository(db);
  const openCalls = createOpenCalls();
  const suspension = startSuspensionWatch({ calls: openCalls, workspaces: known, log });
  closing.push(() => suspension.stop());
  const workspaces = createWorkspaces({
    repository,
    audit,
    onChange(workspaceId) {
      known.workspaceChanged(workspaceId);
      suspension.look();
      // What waited while it was suspended is due.
      hub.announceWork();
    },
    onQuotas: (workspaceId) => knownQuotas.changed(workspaceId),
    use: (workspaceId) => quotaUses.of(workspaceId),
  });
  const members = createMembers({
    repository: createMemberRepository(db),
    workspaces: repository,
    audit,
    runtime,
    onChange: known.memberChanged,
  });
  const grants = createGrants({
    repository: createGrantRepository(db),
    agents: repositories.agents,
    capabilities: repositories.capabilities,
    audit,
    runtime,
    onChange: watch.directory.changed,
  });
  return { workspaces, members, grants, openCalls };
}
