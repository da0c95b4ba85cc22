/** API keys as admins see them: made, listed, rotated, revoked. A secret is shown once, and by nothing here again. */
import { randomBytes } from "node:crypto";
import { create, type JsonObject } from "@bufbuild/protobuf";
import { type Duration, durationMs, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type CreateKeyRequest,
  type CreateKeyResponse,
  CreateKeyResponseSchema,
  type Key,
  KeyKind,
  KeySchema,
  type ListKeysRequest,
  type ListKeysResponse,
  ListKeysResponseSchema,
  type RevokeKeyRequest,
  type RotateKeyRequest,
} from "../../../gen/signalbox/v1/workspace_pb.ts";
import { clip, type FieldViolation, invalidArgument, SignalboxError } from "../../domain/errors.ts";
import { isDnsLabel } from "../../domain/identifiers.ts";
import { workspaceNotFound } from "../../domain/identity/errors.ts";
import { checkHeld, checkNamed } from "../../domain/identity/given-rights.ts";
import { endViolations, keyViolations } from "../../domain/identity/key-rules.ts";
import {
  isKeyId,
  KEY_ID_RANDOM_BYTES,
  keyToken,
  newKeyId,
  SECRET_BYTES,
  secretHash,
  secretText,
} from "../../domain/identity/key-token.ts";
import { refuse } from "../../domain/refusal.ts";
import type { ApiKey, ApiKeyRepository, NewApiKey, NotMade } from "../../store/api-key-repository.ts";
import type { Audit } from "../audit.ts";
import { pageLimit, pageToken, pageTokenAs } from "../paging.ts";
import type { RequestContext } from "../request-context.ts";
import type { Runtime } from "../runtime.ts";
import { type KnownKeys, sealedKeyAbout } from "./known-keys.ts";
import { namedWorkspace, recordingIn } from "./named-workspace.ts";
import type { SecretBox } from "./secret-box.ts";

/** Keys of a workspace that have not ended, at most. */
export const MOST_LIVE_KEYS = 1_000;
const DEFAULT_PAGE = 50;
const DAY_MS = 86_400_000;
const DEFAULT_OVERLAP_MS = DAY_MS;
const MAX_OVERLAP_MS = 30 * DAY_MS;
/** The last moment of the year 9999. */
const LATEST_MS = 253_402_300_799_999;

export interface Keys {
  /** Throws INVALID_ARGUMENT, ROLE_NOT_HELD, WORKSPACE_NOT_FOUND, TOO_MANY_KEYS, SECRETS_KEY_MISSING. */
  create(context: RequestContext, request: CreateKeyRequest): Promise<CreateKeyResponse>;
  /** Throws WORKSPACE_NOT_FOUND. */
  list(context: RequestContext, request: ListKeysRequest): Promise<ListKeysResponse>;
  /** Throws KEY_NOT_FOUND, KEY_NOT_ACTIVE, and what `create` throws. */
  rotate(context: RequestContext, request: RotateKeyRequest): Promise<CreateKeyResponse>;
  /** Throws KEY_NOT_FOUND. One that was revoked before stays as it is. */
  revoke(context: RequestContext, request: RevokeKeyRequest): Promise<Key>;
}

export interface KeysDeps {
  repository: ApiKeyRepository;
  known: Pick<KnownKeys, "ends">;
  box: Pick<SecretBox, "seal">;
  audit: Audit;
  runtime: Pick<Runtime, "now">;
}

export function createKeys({ repository, known, box, audit, runtime }: KeysDeps): Keys {
  const recording = (
    context: RequestContext,
    workspaceId: string,
    action: string,
    keyId: string,
    detail?: JsonObject,
  ) =>
    recordingIn(audit, context, { action, targetType: "key", targetId: keyId, ...(detail && { detail }) })(workspaceId);

  async function find(workspaceId: string, keyId: string): Promise<ApiKey> {
    const found = isKeyId(keyId) ? await repository.get(workspaceId, keyId) : undefined;
    if (!found) throw keyNotFound(keyId);
    return found;
  }

  return {
    async create(context, { key: given }) {
      if (!given) throw invalidArgument([{ field: "key", description: "is required" }]);
      const now = runtime.now();
      refuse(keyViolations(given, now));
      checkHeld(context.principal, given);
      checkNamed(context.principal, given);
      const workspaceId = namedWorkspace(context, given.workspaceId);
      const expiresAt = given.expireTime && timestampDate(given.expireTime);
      const { key, token } = newKey(box, {
        workspaceId,
        kind: given.kind === KeyKind.UNSPECIFIED ? KeyKind.BEARER : given.kind,
        principalId: given.principalId,
        roles: given.roles,
        scopes: given.scopes,
        agentId: given.agentId === "" ? undefined : given.agentId,
        description: given.description,
        createdAt: now,
        createdBy: context.principal.id,
        expiresAt,
        lastsMs: expiresAt && expiresAt.getTime() - now.getTime(),
      });
      const record = recording(context, workspaceId, "key.create", key.keyId, factsOf(key));
      refuseUnmade(await repository.create(key, MOST_LIVE_KEYS, record), workspaceId);
      return create(CreateKeyResponseSchema, { key: view(key), token });
    },

    async list(context, request) {
      const workspaceId = namedWorkspace(context, request.workspaceId);
      const limit = pageLimit(request.pageSize, DEFAULT_PAGE);
      const before = pageTokenAs(request.pageToken, "ListKeys", (text) => (isKeyId(text) ? text : undefined));
      const { principalId } = request;
      refuse(
        principalId === "" || isDnsLabel(principalId)
          ? []
          : [{ field: "principalId", description: "must be a DNS label, as the principals of keys are" }],
      );
      const isOther = workspaceId !== context.workspaceId;
      if (isOther && !(await repository.hasWorkspace(workspaceId))) throw workspaceNotFound(workspaceId);
      const filter = principalId === "" ? {} : { principalId };
      const found = await repository.list(workspaceId, filter, { before, limit: limit + 1 });
      const page = found.slice(0, limit);
      return create(ListKeysResponseSchema, {
        keys: page.map(view),
        nextPageToken: found.length > limit ? pageToken(page.at(-1)!.keyId) : "",
      });
    },

    async rotate(context, { keyId, workspaceId: named, overlap, expireTime }) {
      const now = runtime.now();
      refuse([...overlapViolations(overlap), ...endViolations("expireTime", expireTime, now)]);
      const workspaceId = namedWorkspace(context, named);
      const old = await find(workspaceId, keyId);
      // Else whoever may make keys could have one of somebody who may do more.
      checkHeld(context.principal, old);
      checkNamed(context.principal, old);
      const endsAt = new Date(now.getTime() + (overlap ? durationMs(overlap) : DEFAULT_OVERLAP_MS));
      const lastsMs = expireTime ? timestampDate(expireTime).getTime() - now.getTime() : old.lastsMs;
      const { key, token } = newKey(box, {
        ...old,
        createdAt: now,
        createdBy: context.principal.id,
        expiresAt: lastsMs === undefined ? undefined : new Date(Math.min(now.getTime() + lastsMs, LATEST_MS)),
        lastsMs,
      });
      const record = recording(context, workspaceId, "key.rotate", keyId, {
        newKey: key.keyId,
        endsAt: endsAt.toISOString(),
      });
      const ended = await repository.rotate(keyId, endsAt, key, MOST_LIVE_KEYS, record);
      if (ended === "no-key") throw keyNotActive(keyId);
      if (typeof ended === "string") refuseUnmade(ended, workspaceId);
      else if (ended.expiresAt) known.ends(keyId, ended.expiresAt);
      return create(CreateKeyResponseSchema, { key: view(key), token });
    },

    async revoke(context, { keyId, workspaceId: named }) {
      const workspaceId = namedWorkspace(context, named);
      // Nobody locks out who may do more.
      checkHeld(context.principal, await find(workspaceId, keyId));
      const now = runtime.now();
      const revoked = await repository.revoke(
        workspaceId,
        keyId,
        now,
        recording(context, workspaceId, "key.revoke", keyId),
      );
      if (!revoked) throw keyNotFound(keyId);
      known.ends(keyId, ENDED);
      return view(revoked);
    },
  };
}

/** Clocks may differ, and what is revoked has ended whatever they say. */
const ENDED = new Date(0);

/** A new key, and the one text that has its secret. */
export function newKey(
  box: Pick<SecretBox, "seal">,
  facts: Omit<NewApiKey, "keyId" | "secretHash" | "secretSealed">,
): { key: NewApiKey; token: string } {
  const keyId = newKeyId(facts.createdAt.getTime(), randomBytes(KEY_ID_RANDOM_BYTES));
  const secret = secretText(randomBytes(SECRET_BYTES));
  const { workspaceId, kind, principalId, roles, scopes, agentId, description } = facts;
  const signs = kind === KeyKind.HMAC;
  const key: NewApiKey = {
    workspaceId,
    keyId,
    kind,
    principalId,
    roles,
    scopes,
    agentId,
    description,
    createdAt: facts.createdAt,
    createdBy: facts.createdBy,
    expiresAt: facts.expiresAt,
    lastsMs: facts.lastsMs,
    secretHash: signs ? undefined : secretHash(secret),
    secretSealed: signs ? box.seal(Buffer.from(secret), sealedKeyAbout({ workspaceId, keyId })) : undefined,
  };
  return { key, token: keyToken({ keyId, secret }) };
}

/** What the audit log keeps of a new key. */
export const factsOf = ({ kind, principalId, roles, scopes, agentId, expiresAt }: NewApiKey) => ({
  kind: kind === KeyKind.HMAC ? "HMAC" : "BEARER",
  principal: principalId,
  roles: [...roles],
  scopes: [...scopes],
  ...(agentId !== undefined && { agent: agentId }),
  ...(expiresAt && { expires: expiresAt.toISOString() }),
});

function refuseUnmade(outcome: "made" | NotMade, workspaceId: string): void {
  if (outcome === "no-workspace") throw workspaceNotFound(workspaceId);
  if (outcome === "too-many") throw tooManyKeys();
}

function overlapViolations(overlap: Duration | undefined): FieldViolation[] {
  if (!overlap) return [];
  const { seconds, nanos } = overlap;
  const isDuration = nanos > -1_000_000_000 && nanos < 1_000_000_000 && seconds >= -315_576_000_000n;
  const isInRange = isDuration && seconds <= MAX_OVERLAP_MS / 1_000 && durationMs(overlap) >= 0;
  if (isInRange && durationMs(overlap) <= MAX_OVERLAP_MS) return [];
  return [{ field: "overlap", description: "must be 0 seconds to 30 days" }];
}

const view = (key: ApiKey | NewApiKey): Key =>
  create(KeySchema, {
    keyId: key.keyId,
    kind: key.kind as KeyKind,
    principalId: key.principalId,
    roles: [...key.roles],
    scopes: [...key.scopes],
    agentId: key.agentId ?? "",
    description: key.description,
    createTime: timestampFromDate(key.createdAt),
    createdBy: key.createdBy,
    ...(key.expiresAt && { expireTime: timestampFromDate(key.expiresAt) }),
    ...("revokedAt" in key && key.revokedAt && { revokeTime: timestampFromDate(key.revokedAt) }),
    ...("lastUsedAt" in key && key.lastUsedAt && { lastUseTime: timestampFromDate(key.lastUsedAt) }),
    workspaceId: key.workspaceId,
  });

function keyNotFound(keyId: string): SignalboxError {
  const key = clip(keyId.replaceAll("\0", ""));
  return new SignalboxError({
    code: "NOT_FOUND",
    reason: "KEY_NOT_FOUND",
    message: `There is no key "${key}" in this workspace. ListKeys names those that there are.`,
    metadata: { key },
  });
}

const keyNotActive = (keyId: string) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "KEY_NOT_ACTIVE",
    message: `The key "${keyId}" has expired or was revoked. Make a new one with CreateKey.`,
    metadata: { key: keyId },
  });

const tooManyKeys = () =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "TOO_MANY_KEYS",
    message: `This workspace has ${MOST_LIVE_KEYS} keys already. Revoke those that are not used.`,
  });
