/** Who may call: the schemes that are configured, what workspaces say, and the authenticator over both. */
import type { Role } from "../domain/identity/roles.ts";
import { type Authenticator, createAuthenticator } from "../services/identity/authenticator.ts";
import type { Scheme } from "../services/identity/credentials.ts";
import { createHeldWorkspaces, type HeldWorkspaces } from "../services/identity/held-workspaces.ts";
import { createMemberRepository } from "../store/member-repository.ts";
import { createWorkspaceRepository } from "../store/workspace-repository.ts";
import type { EngineBase } from "./options.ts";

export interface IdentityParts {
  readonly authenticator: Authenticator;
  readonly knownWorkspaces: HeldWorkspaces;
}

export function buildIdentity({ db, config, runtime }: EngineBase): IdentityParts {
  const schemes: Scheme[] = [];
  const knownWorkspaces = createHeldWorkspaces({
    workspaces: createWorkspaceRepository(db),
    members: createMemberRepository(db),
    runtime,
  });
  const anonymousRole: Role | "none" = config.auth.anonymousRole;
  return {
    authenticator: createAuthenticator({ schemes, workspaces: knownWorkspaces, anonymousRole }),
    knownWorkspaces,
  };
}
