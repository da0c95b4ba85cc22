/** What an API key may say. Pure. */
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { type Key, KeyKind } from "../../../gen/signalbox/v1/workspace_pb.ts";
import { clip, type FieldViolation } from "../errors.ts";
import { isDnsLabel } from "../identifiers.ts";
import { timestampViolations } from "../timestamps.ts";
import { ANONYMOUS } from "./principal.ts";
import { isRole, ROLES } from "./roles.ts";

/** Longest description, and most scopes beside those of the roles. */
const MAX_DESCRIPTION = 256;
const MOST_SCOPES = 64;
const SCOPE = /^(?:\*|[a-z][a-z-]{0,31}\.[a-z][a-z-]{0,31})$/;

/** Limits of a new key. */
export function keyViolations(key: Key, now: Date): FieldViolation[] {
  const { kind, principalId, agentId, description, expireTime } = key;
  return [
    ...(KINDS.has(kind) ? [] : [{ field: "key.kind", description: "must be KEY_KIND_BEARER or KEY_KIND_HMAC" }]),
    ...principalViolations("key.principalId", principalId),
    ...grantedViolations("key", key),
    ...(agentId === "" || isDnsLabel(agentId)
      ? []
      : [{ field: "key.agentId", description: "must be the id of an agent: a DNS label" }]),
    ...(description.length > MAX_DESCRIPTION || description.includes("\0")
      ? [{ field: "key.description", description: `at most ${MAX_DESCRIPTION} characters, none of them U+0000` }]
      : []),
    ...endViolations("key.expireTime", expireTime, now),
  ];
}

const KINDS: ReadonlySet<KeyKind> = new Set([KeyKind.UNSPECIFIED, KeyKind.BEARER, KeyKind.HMAC]);

function principalViolations(field: string, id: string): FieldViolation[] {
  if (!isDnsLabel(id))
    return [{ field, description: "must be a DNS label: a-z, 0-9 and - inside, 63 characters at most" }];
  if (id !== ANONYMOUS) return [];
  return [{ field, description: `must not be "${ANONYMOUS}", which is whoever says nothing of who it is` }];
}

/** Of what may be done by somebody: roles, and scopes beside theirs. */
export function grantedViolations(
  path: string,
  { roles, scopes }: { readonly roles: readonly string[]; readonly scopes: readonly string[] },
): FieldViolation[] {
  const names = Object.keys(ROLES).join(", ");
  if (roles.length === 0 && scopes.length === 0) {
    return [{ field: `${path}.roles`, description: `give a role (${names}), or a scope` }];
  }
  const unknown = roles.find((role) => !isRole(role));
  const wrong = scopes.find((scope) => !SCOPE.test(scope));
  return [
    ...(unknown === undefined
      ? []
      : [{ field: `${path}.roles`, description: `there is no role "${clip(unknown, 64)}"; there are ${names}` }]),
    ...(new Set(roles).size < roles.length ? [{ field: `${path}.roles`, description: "name each role once" }] : []),
    ...(scopes.length > MOST_SCOPES ? [{ field: `${path}.scopes`, description: `at most ${MOST_SCOPES} scopes` }] : []),
    ...(wrong === undefined
      ? []
      : [{ field: `${path}.scopes`, description: `"${clip(wrong, 64)}" is no scope; scopes are such as tasks.read` }]),
    ...(new Set(scopes).size < scopes.length ? [{ field: `${path}.scopes`, description: "name each scope once" }] : []),
  ];
}

/** Of the time at which something ends. */
export function endViolations(field: string, time: Timestamp | undefined, now: Date): FieldViolation[] {
  const wrong = timestampViolations(field, time);
  if (wrong.length > 0 || !time || timestampDate(time) > now) return wrong;
  return [{ field, description: "must lie ahead: leave it out for a key that does not expire" }];
}
