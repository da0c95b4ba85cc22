/** Who may call: the schemes that are configured, what workspaces say, and the authenticator over both. */
import { knownScopes } from "../domain/identity/known-scopes.ts";
import type { Role } from "../domain/identity/roles.ts";
import { createKeySetFetcher } from "../outbound/key-set-fetcher.ts";
import { type Authenticator, createAuthenticator } from "../services/identity/authenticator.ts";
import { createCertificateScheme } from "../services/identity/certificate-scheme.ts";
import type { Scheme } from "../services/identity/credentials.ts";
import type { KnownWorkspaces } from "../services/identity/known-workspaces.ts";
import { createSidecarScheme } from "../services/identity/sidecar-scheme.ts";
import { createTokenScheme } from "../services/identity/token-scheme.ts";
import { createTrustedProxies } from "../services/identity/trusted-proxies.ts";
import { limitFailures } from "../services/limits/peer-failures.ts";
import type { EngineBase } from "./options.ts";

export interface IdentityParts {
  readonly authenticator: Authenticator;
}

export function buildIdentity(base: EngineBase): IdentityParts {
  const { config, runtime, onLimited, schemes: more = [] } = base;
  const schemes: Scheme[] = [...more, ...tokenSchemes(base), ...workloadSchemes(base)];
  const workspaces: KnownWorkspaces = { standing: () => "active", memberships: () => [] };
  const anonymousRole: Role | "none" = config.auth.anonymousRole;
  const authenticator = createAuthenticator({ schemes, workspaces, anonymousRole });
  const onFlood = () => onLimited("failed_authentications_per_second");
  return { authenticator: limitFailures(authenticator, { runtime, onLimited: onFlood }) };
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
