/** Who may call: the schemes that are configured, what workspaces say, and the authenticator over both. */
import type { Role } from "../domain/identity/roles.ts";
import { type Authenticator, createAuthenticator } from "../services/identity/authenticator.ts";
import type { Scheme } from "../services/identity/credentials.ts";
import type { KnownWorkspaces } from "../services/identity/known-workspaces.ts";
import { limitFailures } from "../services/limits/peer-failures.ts";
import type { EngineBase } from "./options.ts";

export interface IdentityParts {
  readonly authenticator: Authenticator;
}

export function buildIdentity({ config, runtime, onLimited }: EngineBase): IdentityParts {
  const schemes: Scheme[] = [];
  const workspaces: KnownWorkspaces = { standing: () => "active", memberships: () => [] };
  const anonymousRole: Role | "none" = config.auth.anonymousRole;
  const authenticator = createAuthenticator({ schemes, workspaces, anonymousRole });
  const onFlood = () => onLimited("failed_authentications_per_second");
  return { authenticator: limitFailures(authenticator, { runtime, onLimited: onFlood }) };
}
