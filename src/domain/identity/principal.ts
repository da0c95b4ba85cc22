/** Who asks, and what they may do. Pure. */

/** How somebody proved who they are. */
export const AUTHENTICATIONS = ["anonymous", "api-key", "hmac", "jwt", "mtls", "sidecar"] as const;

export type Authentication = (typeof AUTHENTICATIONS)[number];

/** Who a request comes from. Made once a request, by transport; every binding makes the same of the same credential. */
export interface Principal {
  /**
   * Its id in its workspace. A name of the workspace's own, which is a DNS label; `jwt/<issuer>/<subject>`; `spiffe/<trust
   * domain>/<path>`; or `anonymous`. No id holds a colon: audit entries name agents and replicas with one.
   */
  readonly id: string;
  readonly workspaceId: string;
  /** Names of its roles: see roles.ts. */
  readonly roles: ReadonlySet<string>;
  /** Scopes held, such as `tasks.read`: those of its roles, and what was given beside them; `*` is all. */
  readonly scopes: ReadonlySet<string>;
  readonly authentication: Authentication;
  /**
   * Who acts on its behalf, the one that called first and whoever had asked that one after it: the `act` chain of RFC 8693 (section
   * 4.1). Empty where it calls itself.
   */
  readonly actors: readonly string[];
  /** The agent that it is; undefined for who is none. */
  readonly agentId?: string;
}

/** The workspace that is there from the beginning. Its admins run the router: they make workspaces and see to all of them. */
export const HOME_WORKSPACE = "default";

/** Id of whoever says nothing of who they are. */
export const ANONYMOUS = "anonymous";

export const holds = ({ scopes }: Pick<Principal, "scopes">, scope: string): boolean =>
  scopes.has(scope) || scopes.has("*");

/** Whether somebody may see to other workspaces than their own. */
export const runsTheRouter = (principal: Pick<Principal, "scopes" | "workspaceId">): boolean =>
  principal.workspaceId === HOME_WORKSPACE && holds(principal, "workspaces.admin");
