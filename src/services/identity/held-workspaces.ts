/** What the authenticator asks of workspaces, held in memory. A change that is made here holds at once. */
import type { MemberRecord, MemberRepository } from "../../store/member-repository.ts";
import type { WorkspaceRepository } from "../../store/workspace-repository.ts";
import type { Runtime } from "../runtime.ts";
import { createKnownLookups } from "./known-lookups.ts";
import type { KnownWorkspaces, Membership } from "./known-workspaces.ts";

/** Workspaces and principals that are held, and those that are remembered as not there. */
const MOST = { found: 10_000, missing: 2_000 };

const NOBODY: readonly Membership[] = [];

export interface HeldWorkspaces extends KnownWorkspaces {
  /** A workspace was made, suspended or resumed. */
  workspaceChanged(workspaceId: string): void;
  /** An entry was stored or removed; one with a `*` at its end stands for many. */
  memberChanged(principalId: string): void;
}

export interface HeldWorkspacesDeps {
  workspaces: Pick<WorkspaceRepository, "standings">;
  members: Pick<MemberRepository, "memberships">;
  runtime: Runtime;
}

export function createHeldWorkspaces({ workspaces, members, runtime }: HeldWorkspacesDeps): HeldWorkspaces {
  const standings = createKnownLookups<"active" | "suspended">({
    name: "workspaces",
    runtime,
    most: MOST,
    async load(ids) {
      const found = await workspaces.standings(ids);
      return new Map([...found].map(([id, isSuspended]) => [id, isSuspended ? "suspended" : "active"]));
    },
  });
  const memberships = createKnownLookups<readonly Membership[]>({
    name: "members",
    runtime,
    most: MOST,
    async load(ids) {
      const found = await members.memberships(ids);
      return new Map([...found].map(([id, entries]) => [id, entries.map(membershipOf)]));
    },
  });

  return {
    standing: standings.get,
    memberships(principalId) {
      const found = memberships.get(principalId);
      return found instanceof Promise ? found.then((entries) => entries ?? NOBODY) : (found ?? NOBODY);
    },
    workspaceChanged: (workspaceId) => standings.changed((id) => id === workspaceId),
    memberChanged(principalId) {
      const beginning = principalId.endsWith("*") ? principalId.slice(0, -1) : undefined;
      memberships.changed((id) => (beginning === undefined ? id === principalId : id.startsWith(beginning)));
    },
  };
}

const membershipOf = ({ workspaceId, roles, scopes, agentId, implied }: MemberRecord): Membership => ({
  workspaceId,
  roles,
  scopes,
  implied,
  ...(agentId !== undefined && { agentId }),
});
