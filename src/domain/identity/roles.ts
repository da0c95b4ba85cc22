/** Roles: names for sets of scopes. Every RPC needs one scope, which its proto declares; docs/identity.md shows the table. Pure. */
import { ALL_TASKS } from "./visibility.ts";

/** Roles, each with what it is for. */
export const ROLES = {
  viewer: "sees what is done in the workspace and changes nothing; no keys, members, secrets or others' audit entries",
  caller: "sends tasks, and sees its own and those that are shared with it",
  agent: "is an agent: reports that it lives, and sends tasks on behalf of those that it has",
  operator: "runs the workspace: agents, routes, rollouts, approvals, and every task",
  admin: "everything in the workspace, its policy, keys and members among it",
} as const;

export type Role = keyof typeof ROLES;

export const isRole = (name: string): name is Role => Object.hasOwn(ROLES, name);

/** What no RPC needs by itself: to see, and with `tasks.write` to change, what belongs to others; and to read the metrics. */
export const BESIDE_RPCS: readonly string[] = [ALL_TASKS, "metrics.read"];

/** All that a client of A2A does, and what it must know to do it well: agents and routes, and what its own tasks cost and went through. */
const CALLER = [
  ...["agents.read", "approvals.read", "audit.read", "budgets.read", "exchanges.read", "exchanges.write"],
  ...["routing.read", "self.read", "tasks.read", "tasks.write"],
];

const VIEWER = [
  ...[
    "agents.read",
    "approvals.read",
    "audit.read",
    "budgets.read",
    "cache.read",
    "credentials.read",
    "exchanges.read",
  ],
  ...["grants.read", "policies.read", "reputations.read", "rollouts.read", "routing.read", "self.read", "tasks.read"],
  ...["workspaces.read", ...BESIDE_RPCS],
];

const OPERATOR = [
  ...VIEWER,
  ...["heartbeats.write", "agents.write", "approvals.write", "audit.admin", "cache.admin", "credentials.write"],
  ...["exchanges.write", "reputations.write", "rollouts.write", "routing.write", "tasks.admin", "tasks.write"],
];

/** What only admins hold, by name: theirs are all, whatever there will be. */
export const ONLY_ADMIN: readonly string[] = [
  ...["grants.admin", "keys.admin", "members.admin", "policies.write", "workspaces.admin"],
];

const SCOPES: Readonly<Record<Role, readonly string[]>> = {
  viewer: VIEWER,
  caller: CALLER,
  agent: [...CALLER, "heartbeats.write"],
  operator: OPERATOR,
  admin: ["*"],
};

/** The scopes of roles, and those that were given beside them. Names that are no roles give nothing. */
export function scopesOf(roles: Iterable<string>, more: Iterable<string> = []): Set<string> {
  const scopes = new Set(more);
  for (const role of roles) if (isRole(role)) for (const scope of SCOPES[role]) scopes.add(scope);
  return scopes;
}
