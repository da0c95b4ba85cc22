/** What the authenticator asks of workspaces at every request: held in memory, a second old at most. */

/** What somebody may do in a workspace, by membership. */
export interface Membership {
  readonly workspaceId: string;
  readonly roles: readonly string[];
  readonly scopes: readonly string[];
  readonly agentId?: string;
  /** Whether it counts for calls that name no workspace. Others hold only where they are named: nobody is drawn into a workspace. */
  readonly implied: boolean;
}

/** Whether a workspace lets its principals in. Undefined: there is no such workspace. */
export type Standing = "active" | "suspended" | undefined;

/** What is held is given at once, without a promise. */
export interface KnownWorkspaces {
  standing(workspaceId: string): Standing | Promise<Standing>;
  /** Of a principal by its whole id, and of all whose beginning an id with a `*` names. */
  memberships(principalId: string): readonly Membership[] | Promise<readonly Membership[]>;
}
