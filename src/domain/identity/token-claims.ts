/** What the claims of a verified token say: who it is about, who acts, and what it may do. Pure. */
import { isDnsLabel } from "../identifiers.ts";
import { invalidCredential } from "./errors.ts";
import { isRole } from "./roles.ts";
import { subjectId } from "./token-subject.ts";

export type Claims = Readonly<Record<string, unknown>>;

/** Longest chain of actors, and most characters of all their ids: an entry of the audit log holds them beside what it tells. */
export const MAX_ACTORS = 10;
export const MAX_ACTORS_LENGTH = 2_048;

/** The names of the claims that say what a token may do. */
export interface GrantingClaims {
  readonly workspace: string;
  readonly roles: string;
  readonly scopes: string;
}

/** What a token says that its bearer may do. */
export interface ClaimedGrant {
  readonly workspaceId: string;
  readonly roles: readonly string[];
  readonly scopes: readonly string[];
}

/** The id of a token's subject. @throws SignalboxError CREDENTIAL_INVALID */
export function subjectOf(issuer: string, { sub }: Claims): string {
  const id = typeof sub === "string" ? subjectId(issuer, sub) : undefined;
  if (id === undefined) throw invalidCredential("its token names no subject (sub), or one that is too long.");
  return id;
}

/**
 * Who acts, by the `act` claim (RFC 8693, section 4.1): the one that acts now first, then whoever had acted before it. An actor without
 * an issuer of its own is of the token's; another's is of an https address, or one of `issuers`.
 *
 * @throws SignalboxError CREDENTIAL_INVALID
 */
export function actorsOf(issuer: string, { act }: Claims, issuers: ReadonlySet<string>): readonly string[] {
  if (act === undefined) return NOBODY;
  const actors: string[] = [];
  let length = 0;
  for (let next: unknown = act; next !== undefined; ) {
    if (actors.length === MAX_ACTORS)
      throw invalidCredential(`more than ${MAX_ACTORS} actors (act) stand in its token.`);
    if (!isClaims(next)) throw invalidCredential(UNREADABLE_ACTOR);
    const { sub, iss = issuer, act: before }: Claims = next;
    const isIssuer = typeof iss === "string" && (iss.startsWith("https://") || issuers.has(iss));
    const id = isIssuer && typeof sub === "string" ? subjectId(iss, sub) : undefined;
    if (id === undefined) throw invalidCredential(UNREADABLE_ACTOR);
    length += id.length;
    if (length > MAX_ACTORS_LENGTH) throw invalidCredential("the actors (act) of its token are too long.");
    actors.push(id);
    next = before;
  }
  return actors;
}

const NOBODY: readonly string[] = [];
const UNREADABLE_ACTOR =
  "an actor (act) of its token has no subject (sub), or an issuer (iss) that is no https address.";

export const isClaims = (value: unknown): value is Claims =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * What a token may do by its own claims; undefined where it names no workspace. Roles that there are not, and scopes that this server
 * does not know, `*` among them, give nothing.
 *
 * @throws SignalboxError CREDENTIAL_INVALID where it names something that is no workspace.
 */
export function grantOf(
  claims: Claims,
  names: GrantingClaims,
  knownScopes: ReadonlySet<string>,
): ClaimedGrant | undefined {
  const workspaceId = own(claims, names.workspace);
  if (workspaceId === undefined) return undefined;
  if (typeof workspaceId !== "string" || !isDnsLabel(workspaceId)) {
    throw invalidCredential(`the claim ${names.workspace} of its token is not the name of a workspace.`);
  }
  const roles = words(own(claims, names.roles)).filter(isRole);
  const scopes = words(own(claims, names.scopes)).filter((scope) => scope !== "*" && knownScopes.has(scope));
  return { workspaceId, roles: [...new Set(roles)], scopes: [...new Set(scopes)] };
}

const own = (claims: Claims, name: string): unknown => (Object.hasOwn(claims, name) ? claims[name] : undefined);

/** A list of texts, or a text of words. Whatever else it is says nothing. */
function words(value: unknown): string[] {
  if (typeof value === "string") return value.split(/\s+/).filter((word) => word !== "");
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
