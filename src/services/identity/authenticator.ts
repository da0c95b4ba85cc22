/** Makes the one principal of a request, of whatever credential it has. */

import { SignalboxError } from "../../domain/errors.ts";
import {
  invalidCredential,
  unauthenticated,
  workspaceNotFound,
  workspaceSuspended,
} from "../../domain/identity/errors.ts";
import { ANONYMOUS, HOME_WORKSPACE, type Principal } from "../../domain/identity/principal.ts";
import { type Role, scopesOf } from "../../domain/identity/roles.ts";
import type { Credentials, Granted, Identity, Scheme } from "./credentials.ts";
import type { KnownWorkspaces, Membership } from "./known-workspaces.ts";

/** Names the workspace, for who is a member of several. */
export const WORKSPACE_HEADER = "signalbox-workspace";

/** Headers that hold a credential. One request has one. */
const CREDENTIAL_HEADERS = ["authorization", "x-api-key", "signature-input"] as const;

export interface Authenticator {
  /**
   * A promise only where something must be waited for.
   *
   * @throws SignalboxError UNAUTHENTICATED (reason UNAUTHENTICATED without a credential, CREDENTIAL_INVALID with one that is not good);
   * WORKSPACE_NOT_FOUND, WORKSPACE_SUSPENDED, NO_WORKSPACE or WORKSPACE_AMBIGUOUS for somebody who is known.
   */
  authenticate(credentials: Credentials, may?: Leave): Principal | Promise<Principal>;
}

/** What is no failure of a call. */
export interface Leave {
  /** To say nothing of who one is: what is asked for is there for everybody. */
  readonly beNobody: boolean;
}

export interface AuthenticatorDeps {
  /** Asked in this order: what a request says itself before what its connection says. */
  schemes: readonly Scheme[];
  workspaces: KnownWorkspaces;
  /** What those may do who do not say who they are; `none`: nothing. */
  anonymousRole: Role | "none";
}

export function createAuthenticator({ schemes, workspaces, anonymousRole }: AuthenticatorDeps): Authenticator {
  const anonymous = anonymousRole === "none" ? undefined : anonymousPrincipal(anonymousRole);

  function identify(credentials: Credentials, from = 0): Identity | undefined | Promise<Identity | undefined> {
    for (let i = from; i < schemes.length; i++) {
      const found = schemes[i]!.identify(credentials);
      if (found instanceof Promise) return found.then((identity) => identity ?? identify(credentials, i + 1));
      if (found) return found;
    }
    return undefined;
  }

  function admit(credentials: Credentials, identity: Identity | undefined): Principal | Promise<Principal> {
    if (identity) return inWorkspace(credentials, identity);
    if (CREDENTIAL_HEADERS.some((name) => credentials.header(name) !== null)) throw invalidCredential(UNKNOWN_SCHEME);
    if (!anonymous) throw unauthenticated();
    const wanted = wantedIn(credentials);
    if (wanted !== undefined && wanted !== HOME_WORKSPACE) throw workspaceNotFound(wanted);
    return anonymous;
  }

  function inWorkspace(credentials: Credentials, identity: Identity): Principal | Promise<Principal> {
    const wanted = wantedIn(credentials);
    const { granted } = identity;
    if (granted) {
      if (wanted !== undefined && wanted !== granted.workspaceId) {
        throw workspaceNotFound(wanted, granted.workspaceId);
      }
      return enter(identity, granted.workspaceId, [granted]);
    }
    const memberships = workspaces.memberships(identity.id);
    if (memberships instanceof Promise) return memberships.then((found) => asMember(identity, found, wanted));
    return asMember(identity, memberships, wanted);
  }

  function asMember(
    identity: Identity,
    memberships: readonly Membership[],
    wanted: string | undefined,
  ): Principal | Promise<Principal> {
    const counting = memberships.filter((membership) =>
      wanted === undefined ? membership.implied : membership.workspaceId === wanted,
    );
    const ids = new Set(counting.map(({ workspaceId }) => workspaceId));
    const [chosen] = ids;
    if (chosen === undefined) throw wanted === undefined ? noWorkspace(identity.id) : workspaceNotFound(wanted);
    if (ids.size > 1) throw ambiguous([...ids]);
    // What its other memberships of that workspace give counts there, too.
    const there = memberships.filter(({ workspaceId }) => workspaceId === chosen);
    return enter(identity, chosen, there);
  }

  function enter(identity: Identity, workspaceId: string, grants: readonly Granted[]): Principal | Promise<Principal> {
    const standing = workspaces.standing(workspaceId);
    const check = (found: typeof standing) => {
      if (found === undefined) throw workspaceNotFound(workspaceId);
      if (found === "suspended") throw workspaceSuspended(workspaceId);
      return principalOf(identity, workspaceId, grants);
    };
    return standing instanceof Promise ? standing.then(check) : check(standing);
  }

  return {
    authenticate(credentials) {
      if (CREDENTIAL_HEADERS.filter((name) => credentials.header(name) !== null).length > 1) {
        throw invalidCredential(SEVERAL);
      }
      const identity = identify(credentials);
      if (identity instanceof Promise) return identity.then((found) => admit(credentials, found));
      return admit(credentials, identity);
    },
  };
}

const UNKNOWN_SCHEME =
  "it is of a kind that this server does not take. A key is sent as Authorization: Bearer sbx_..., or as X-API-Key; the security schemes of its agent card are all that it takes.";
const SEVERAL = `the call has several. Send one of ${CREDENTIAL_HEADERS.join(", ")}.`;

function wantedIn(credentials: Credentials): string | undefined {
  const wanted = credentials.header(WORKSPACE_HEADER)?.trim();
  return wanted === "" ? undefined : wanted;
}

/** Whoever does not say who it is. */
export const anonymousPrincipal = (role: Role): Principal =>
  principalOf({ id: ANONYMOUS, authentication: "anonymous", actors: [] }, HOME_WORKSPACE, [
    { workspaceId: HOME_WORKSPACE, roles: [role], scopes: [] },
  ]);

/** Of whoever calls often, so that its sets are made once. */
const made = new WeakMap<Identity, { grants: readonly Granted[]; principal: Principal }>();

/** What schemes and workspaces hold in memory are the same objects from call to call. */
function principalOf(identity: Identity, workspaceId: string, grants: readonly Granted[]): Principal {
  const known = made.get(identity);
  if (known && known.grants.length === grants.length && grants.every((grant, i) => grant === known.grants[i])) {
    return known.principal;
  }
  const principal = newPrincipal(identity, workspaceId, grants);
  made.set(identity, { grants, principal });
  return principal;
}

function newPrincipal(
  { id, authentication, actors }: Identity,
  workspaceId: string,
  grants: readonly Granted[],
): Principal {
  const roles = new Set(grants.flatMap((grant) => grant.roles));
  const scopes = scopesOf(
    roles,
    grants.flatMap((grant) => grant.scopes),
  );
  const agentId = grants.find((grant) => grant.agentId !== undefined)?.agentId;
  return { id, workspaceId, roles, scopes, authentication, actors, ...(agentId !== undefined && { agentId }) };
}

const noWorkspace = (id: string) =>
  new SignalboxError({
    code: "PERMISSION_DENIED",
    reason: "NO_WORKSPACE",
    message: `You are known as "${id}", and a member of no workspace that those who run the router have made you one of. If another has, name it in the header ${WORKSPACE_HEADER}; else an admin can make you one (PutMember).`,
    metadata: { principal: id },
  });

const ambiguous = (workspaceIds: readonly string[]) =>
  new SignalboxError({
    code: "INVALID_ARGUMENT",
    reason: "WORKSPACE_AMBIGUOUS",
    message: `You are a member of several workspaces. Name one in the header ${WORKSPACE_HEADER}: ${workspaceIds.toSorted().join(", ")}.`,
    metadata: { workspaces: workspaceIds.toSorted().join(",") },
  });
