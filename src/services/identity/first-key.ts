/** The key of the first admin: made once, at the first start of the first server, where nobody could make one otherwise. */
import { KeyKind } from "../../../gen/signalbox/v1/workspace_pb.ts";
import { HOME_WORKSPACE } from "../../domain/identity/principal.ts";
import type { Role } from "../../domain/identity/roles.ts";
import type { ApiKeyRepository } from "../../store/api-key-repository.ts";
import type { Audit } from "../audit.ts";
import type { Runtime } from "../runtime.ts";
import { ADMIN_PRINCIPAL } from "./key-scheme.ts";
import { factsOf, newKey } from "./keys.ts";
import type { SecretBox } from "./secret-box.ts";

export interface FirstKeyDeps {
  repository: Pick<ApiKeyRepository, "createFirst">;
  box: SecretBox;
  audit: Pick<Audit, "recordingOfRouter">;
  runtime: Pick<Runtime, "now">;
  /** What callers may do who do not say who they are. */
  anonymousRole: Role | "none";
  /** Whether `auth.admin-key` is set: then there is an admin already. */
  hasAdminKey: boolean;
}

/** The token of the first key, which is nowhere else; undefined where none was made. */
export async function makeFirstKey(deps: FirstKeyDeps): Promise<string | undefined> {
  const { repository, box, audit, runtime, anonymousRole, hasAdminKey } = deps;
  if (anonymousRole === "admin" || hasAdminKey) return undefined;
  const { key, token } = newKey(box, {
    workspaceId: HOME_WORKSPACE,
    kind: KeyKind.BEARER,
    principalId: ADMIN_PRINCIPAL,
    roles: ["admin"],
    scopes: [],
    agentId: undefined,
    description: "Made at the first start.",
    createdAt: runtime.now(),
    createdBy: "",
    expiresAt: undefined,
    lastsMs: undefined,
  });
  const record = audit.recordingOfRouter(HOME_WORKSPACE, {
    action: "key.create",
    targetType: "key",
    targetId: key.keyId,
    detail: factsOf(key),
  });
  return (await repository.createFirst(key, record)) && token;
}
