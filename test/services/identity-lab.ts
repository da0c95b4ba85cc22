/** Keys and the schemes over them, as one server has them: on a database that others share. */
import { createHash, randomBytes } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Key, KeySchema } from "../../gen/signalbox/v1/workspace_pb.ts";
import type { Principal } from "../../src/domain/identity/principal.ts";
import { type Role, scopesOf } from "../../src/domain/identity/roles.ts";
import { createAudit } from "../../src/services/audit.ts";
import type { Credentials } from "../../src/services/identity/credentials.ts";
import { createKeyScheme } from "../../src/services/identity/key-scheme.ts";
import { createKeys } from "../../src/services/identity/keys.ts";
import { createKnownKeys, type KnownKey } from "../../src/services/identity/known-keys.ts";
import { createSecretBox } from "../../src/services/identity/secret-box.ts";
import { createSignatureScheme } from "../../src/services/identity/signature-scheme.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { type ApiKeyRepository, createApiKeyRepository } from "../../src/store/api-key-repository.ts";
import { createAuditTrail } from "../../src/store/audit-trail.ts";
import type { Database } from "../../src/store/database.ts";
import { createNonceRepository } from "../../src/store/nonce-repository.ts";
import { silent } from "../store/backends.ts";

/** A clock that stands still until it is moved. */
export function movedClock(): Runtime & { move(ms: number): void } {
  const runtime = systemRuntime();
  let [now, elapsed] = [Date.now(), 0];
  return {
    ...runtime,
    now: () => new Date(now),
    elapsedMs: () => elapsed,
    // Nothing here waits for longer than the database takes.
    wait: (_, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      }),
    move(ms) {
      now += ms;
      elapsed += ms;
    },
  };
}

export interface IdentityServerOptions {
  runtime?: Runtime;
  /** What its reads of keys go through. */
  repository?: (real: ApiKeyRepository) => ApiKeyRepository;
  secretsKey?: Uint8Array;
  fixed?: KnownKey;
  windowSeconds?: number;
}

export const SECRETS_KEY = randomBytes(32);

/** One server's part. */
export function identityServer(db: Database, options: IdentityServerOptions = {}) {
  const { runtime = systemRuntime(), secretsKey = SECRETS_KEY, fixed, windowSeconds = 300 } = options;
  const real = createApiKeyRepository(db);
  const repository = options.repository?.(real) ?? real;
  const box = createSecretBox([secretsKey]);
  const replicaId = () => "replica";
  const audit = createAudit({ trail: createAuditTrail({ db, enabled: true, replicaId }), runtime, replicaId });
  const known = createKnownKeys({ repository, box, runtime, log: silent, fixed });
  const nonces = createNonceRepository(db);
  return {
    runtime,
    repository,
    box,
    audit,
    known,
    nonces,
    keys: createKeys({ repository, known, box, audit, runtime }),
    byKey: createKeyScheme({ keys: known, runtime }),
    bySignature: createSignatureScheme({ keys: known, nonces, runtime, windowSeconds }),
  };
}

export type IdentityServer = ReturnType<typeof identityServer>;

/** Somebody with a role, and what their requests come with. */
export function contextOf(role: Role | readonly string[], over: Partial<Principal> = {}): RequestContext {
  const roles = typeof role === "string" ? [role] : [];
  const principal: Principal = {
    id: "ann",
    workspaceId: "default",
    roles: new Set(roles),
    scopes: scopesOf(roles, typeof role === "string" ? [] : role),
    authentication: "api-key",
    actors: [],
    ...over,
  };
  return { principal, workspaceId: principal.workspaceId } as RequestContext;
}

export const newKeyOf = (
  given: MessageInitShape<typeof KeySchema>,
): { $typeName: "signalbox.v1.CreateKeyRequest"; key: Key } => ({
  $typeName: "signalbox.v1.CreateKeyRequest",
  key: create(KeySchema, given),
});

/** A request as transport tells of it; its content is null where it is a stream. */
export function credentialsOf(
  headers: Readonly<Record<string, string>>,
  { method = "POST", target = "/v1/tasks", content = "" as string | Uint8Array | null | undefined } = {},
): Credentials {
  const all = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  return {
    header: (name) => all.get(name) ?? null,
    method,
    target,
    authority: "127.0.0.1:8080",
    peer: { address: "127.0.0.1", isLocalSocket: false, certificate: undefined },
    contentDigest: () =>
      content === null
        ? undefined
        : createHash("sha256")
            .update(content ?? "")
            .digest(),
  };
}

export const bearer = (token: string): Credentials => credentialsOf({ authorization: `Bearer ${token}` });
