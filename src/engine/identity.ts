/** Who may call: the schemes that are configured, what workspaces say, and the authenticator over both. */
import type { Role } from "../domain/identity/roles.ts";
import { startKeyUses } from "../services/background/key-uses.ts";
import { type Authenticator, createAuthenticator } from "../services/identity/authenticator.ts";
import type { Scheme } from "../services/identity/credentials.ts";
import { makeFirstKey } from "../services/identity/first-key.ts";
import { adminKey, createKeyScheme } from "../services/identity/key-scheme.ts";
import { createKeys, type Keys } from "../services/identity/keys.ts";
import { createKnownKeys } from "../services/identity/known-keys.ts";
import type { KnownWorkspaces } from "../services/identity/known-workspaces.ts";
import type { SecretBox } from "../services/identity/secret-box.ts";
import { createSignatureScheme } from "../services/identity/signature-scheme.ts";
import { createApiKeyRepository } from "../store/api-key-repository.ts";
import { createNonceRepository } from "../store/nonce-repository.ts";
import type { Ground } from "./ground.ts";
import type { EngineBase } from "./options.ts";

export interface IdentityParts {
  readonly authenticator: Authenticator;
  readonly keys: Keys;
  /** Makes the key of the first admin, where one is wanted. Its token is in the answer, and nowhere else. */
  makeFirstKey(): Promise<string | undefined>;
}

export function buildIdentity(base: EngineBase, { audit }: Pick<Ground, "audit">, box: SecretBox): IdentityParts {
  const { config, db, runtime, log, closing } = base;
  const anonymousRole: Role | "none" = config.auth.anonymousRole;
  const repository = createApiKeyRepository(db);
  const nonces = createNonceRepository(db);
  const known = createKnownKeys({ repository, box, runtime, log, fixed: adminKey(config.auth.adminKey) });
  const uses = startKeyUses({ keys: known, runtime, log });
  closing.push(() => nonces.close());
  closing.push(() => uses.stop());
  const schemes: Scheme[] = [
    createKeyScheme({ keys: known, runtime }),
    createSignatureScheme({ keys: known, nonces, runtime, windowSeconds: config.auth.signatureWindowSeconds }),
  ];
  const workspaces: KnownWorkspaces = { standing: () => "active", memberships: () => [] };
  return {
    authenticator: createAuthenticator({ schemes, workspaces, anonymousRole }),
    keys: createKeys({ repository, known, box, audit, runtime }),
    makeFirstKey: () =>
      makeFirstKey({
        repository,
        box,
        audit,
        runtime,
        anonymousRole,
        hasAdminKey: config.auth.adminKey !== undefined,
      }),
  };
}
