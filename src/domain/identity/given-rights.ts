/** Roles and scopes that somebody gives to somebody: what they may be, and that nobody gives what is not their own. Pure. */
import { clip, type FieldViolation, SignalboxError } from "../errors.ts";
import { holds, type Principal } from "./principal.ts";
import { isRole, ROLES } from "./roles.ts";
import { ALL_TASKS } from "./visibility.ts";

/** Most roles, and most scopes beside theirs, of one principal. */
const MAX_ROLES = 16;
const MAX_SCOPES = 100;

const SCOPE = /^(?:\*|[a-z]{1,32}\.[a-z]{1,32})$/;

interface GivenRights {
  readonly roles: readonly string[];
  readonly scopes: readonly string[];
}

/** What is wrong with roles and scopes as names; `at` is the path of the message that has them. */
export function rightsViolations({ roles, scopes }: GivenRights, at: string): FieldViolation[] {
  const found: FieldViolation[] = [];
  if (roles.length > MAX_ROLES) found.push({ field: `${at}.roles`, description: `at most ${MAX_ROLES}` });
  if (scopes.length > MAX_SCOPES) found.push({ field: `${at}.scopes`, description: `at most ${MAX_SCOPES}` });
  if (found.length > 0) return found;
  const names = Object.keys(ROLES).join(", ");
  roles.forEach((role, i) => {
    if (!isRole(role)) found.push({ field: `${at}.roles[${i}]`, description: `"${clip(role)}" is none of ${names}` });
  });
  scopes.forEach((scope, i) => {
    if (SCOPE.test(scope)) return;
    const description = `"${clip(scope)}" is no scope: one is a noun and a verb, as tasks.read, or * for all`;
    found.push({ field: `${at}.scopes[${i}]`, description });
  });
  return found;
}

/**
 * Throws unless somebody may give these roles and scopes: it must hold them itself. Roles are held by name, because approvals and
 * shares ask for names; who holds `*` holds all.
 *
 * @throws SignalboxError ROLE_NOT_HELD
 */
export function checkHeld(giver: Pick<Principal, "roles" | "scopes">, { roles, scopes }: GivenRights): void {
  if (giver.scopes.has("*")) return;
  for (const role of roles) if (!giver.roles.has(role)) throw notHeld("role", role);
  for (const scope of scopes) if (!holds(giver, scope)) throw notHeld("scope", scope);
}

/**
 * Throws unless somebody may let others be whom it names: who is to be somebody else sees what is theirs, and who is to be an agent acts
 * for it.
 *
 * @throws SignalboxError ROLE_NOT_HELD
 */
export function checkNamed(
  giver: Pick<Principal, "id" | "scopes">,
  { principalId, agentId }: { readonly principalId: string; readonly agentId: string | undefined },
): void {
  if (principalId !== giver.id && !holds(giver, ALL_TASKS)) throw notHeld("scope", ALL_TASKS);
  if (agentId !== undefined && agentId !== "" && !holds(giver, AGENTS)) throw notHeld("scope", AGENTS);
}

const AGENTS = "agents.write";

const notHeld = (kind: "role" | "scope", name: string) =>
  new SignalboxError({
    code: "PERMISSION_DENIED",
    reason: "ROLE_NOT_HELD",
    message: `You can give nobody what takes the ${kind} "${clip(name)}", because you do not hold it yourself.`,
    metadata: { [kind]: clip(name) },
  });
