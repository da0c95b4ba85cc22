/** Who may call: the schemes that are configured, what workspaces say, and the authenticator over both. */
import { knownScopes } from "../domain/identity/known-scopes.ts";
import type { Role } from "../domain/identity/roles.ts";
import { createKeySetFetcher } from "../outbound/key-set-fetcher.ts";
import { startKeyUses } from "../services/background/key-uses.ts";
import { type Authenticator, createAuthenticator } from "../services/identity/authenticator.ts";
import { createCertificateScheme } from "../services/identity/certificate-scheme.ts";
import type { Scheme } from "../services/identity/credentials.ts";
import { makeFirstKey } from "../services/identity/first-key.ts";
import { createHeldWorkspaces, type HeldWorkspaces } from "../services/identity/held-workspaces.ts";
import { adminKey, createKeyScheme } from "../services/identity/key-scheme.ts";
import { createKeys, type Keys } from "../services/identity/keys.ts";
import { createKnownKeys } from "../services/identity/known-keys.ts";
import { createSidecarScheme } from "../services/identity/sidecar-scheme.ts";
import { createSignatureScheme } from "../services/identity/signature-scheme.ts";
import { createTokenScheme } from "../services/identity/token-scheme.ts";
import { createTrustedProxies } from "../services/identity/trusted-proxies.ts";
import { limitFailures } from "../services/limits/peer-failures.ts";
import { createApiKeyRepository } from "../store/api-key-repository.ts";
import { createMemberRepository } from "../store/member-repository.ts";
import { createNonceRepository } from "../store/nonce-repository.ts";
import { createWorkspaceRepository } from "../store/workspace-repository.ts";
import type { Ground } from "./ground.ts";
import type { EngineBase } from "./options.ts";

export interface IdentityParts {
  readonly authenticator: Authenticator;
  readonly knownWorkspaces: HeldWorkspaces;
  readonly keys: Keys;
  /** Makes the key of the first admin, where one is wanted. Its token is in the answer, and nowhere else. */
  makeFirstKey(): Promise<string | undefined>;
}

export function buildIdentity(base: EngineBase, { audit }: Pick<Ground, "audit">): IdentityParts {
  const { config, db, runtime, log, closing, onLimited, secrets: box, schemes: more = [] } = base;
  const anonymousRole: Role | "none" = config.auth.anonymousRole;
  const repository = createApiKeyRepository(db);
  const nonces = createNonceRepository(db);
  const known = createKnownKeys({ repository, box, runtime, log, fixed: adminKey(config.auth.adminKey) });
  const uses = startKeyUses({ keys: known, runtime, log });
  closing.push(() => nonces.close());
  closing.push(() => uses.stop());
  const schemes: Scheme[] = [
    ...more,
    createKeyScheme({ keys: known, runtime }),
    createSignatureScheme({ keys: known, nonces, runtime, windowSeconds: config.auth.signatureWindowSeconds }),
    ...tokenSchemes(base),
    ...workloadSchemes(base),
  ];
  const knownWorkspaces = createHeldWorkspaces({
    workspaces: createWorkspaceRepository(db),
    members: createMemberRepository(db),
    runtime,
  });
  const authenticator = createAuthenticator({ schemes, workspaces: knownWorkspaces, anonymousRole });
  const most = config.limits.failedAuthentications;
  const onFlood = () => onLimited("failed_authentications_per_second");
  return {
    authenticator: most === 0 ? authenticator : limitFailures(authenticator, { runtime, most, onLimited: onFlood }),
    knownWorkspaces,
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

function tokenSchemes({ config, runtime, log, closing }: EngineBase): Scheme[] {
  const { issuers, audience, algorithms, clockSkewSeconds, workspaceClaim, rolesClaim, scopesClaim } = config.jwt;
  if (issuers.length === 0) return [];
  const fetcher = createKeySetFetcher({ allowPrivateUrls: config.allowPrivateUrls });
  closing.push(() => fetcher.close());
  const granting =
    workspaceClaim === undefined ? undefined : { workspace: workspaceClaim, roles: rolesClaim, scopes: scopesClaim };
  return [
    createTokenScheme({
      ...{ issuers, audience, algorithms, clockSkewSeconds, granting, fetcher, runtime, log },
      knownScopes: knownScopes(),
    }),
  ];
}

const HOUR_MS = 3_600_000;

/** Certificates of clients, and what trusted proxies say of those that they have seen. Without trust domains none counts. */
function workloadSchemes({ config, runtime }: EngineBase): Scheme[] {
  const { trustDomains, maxCertificateHours, clientCa } = config.tls;
  if (trustDomains.length === 0) return [];
  const rules = {
    trustDomains: new Set(trustDomains),
    maxCertificateMs: maxCertificateHours === 0 ? Number.POSITIVE_INFINITY : maxCertificateHours * HOUR_MS,
  };
  const { trustedProxies } = config.auth;
  const proxies = createTrustedProxies(trustedProxies);
  return [
    ...(clientCa === undefined ? [] : [createCertificateScheme({ rules, proxies, runtime })]),
    ...(trustedProxies.length === 0 ? [] : [createSidecarScheme({ rules, proxies, runtime })]),
  ];
}
