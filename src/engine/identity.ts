/** Who may call: the schemes that are configured, what workspaces say, and the authenticator over both. */
import type { Role } from "../domain/identity/roles.ts";
import { type Authenticator, createAuthenticator } from "../services/identity/authenticator.ts";
import type { Scheme } from "../services/identity/credentials.ts";
import type { KnownWorkspaces } from "../services/identity/known-workspaces.ts";
import type { EngineBase } from "./options.ts";

export interface IdentityParts {
  readonly authenticator: Authenticator;
}

export function buildIdentity({ config, schemes: more = [] }: EngineBase): IdentityParts {
  const schemes: Scheme[] = [...more];
  const workspaces: KnownWorkspaces = { standing: () => "active", memberships: () => [] };
  const anonymousRole: Role | "none" = config.auth.anonymousRole;
  return { authenticator: createAuthenticator({ schemes, workspaces, anonymousRole }) };
}
