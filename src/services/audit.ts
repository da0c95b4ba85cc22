/** What use cases tell the audit log: who has done what. */
import type { JsonObject } from "@bufbuild/protobuf";
import { actingDetail, routerActor } from "../domain/audit/actor.ts";
import type { AuditTrail, Recording } from "../store/audit-trail.ts";
import type { RequestContext } from "./request-context.ts";
import type { Runtime } from "./runtime.ts";

/** What a caller does. */
export interface Deed {
  /** The kind of target, and a verb: `rollout.put`. Listed in docs/audit.md. */
  readonly action: string;
  readonly targetType: string;
  readonly targetId: string;
  readonly taskId?: string;
  /** Facts; of contents, digests only. */
  readonly detail?: JsonObject;
}

export interface Audit {
  /**
   * What records a deed of the caller. Hand it to the repository that makes the change: it calls it in its transaction, as the
   * last statement, and where nothing changes it does not. So there is no change without its entry, and no entry without its
   * change:
   *
   *     const record = audit.recording(context, { action: "policy.put", targetType: "policy", targetId: "default", detail });
   *     await repository.put(context.workspaceId, document, record);
   *     // in the repository:
   *     return kysely.transaction().execute(async (tx) => { ...; await record(tx, { version }); });
   */
  recording(by: Pick<RequestContext, "workspaceId" | "principal">, deed: Deed): Recording;
  /** The same for what this server does by itself. */
  recordingOfRouter(workspaceId: string, deed: Deed): Recording;
}

export interface AuditDeps {
  trail: Pick<AuditTrail, "recording">;
  runtime: Pick<Runtime, "now">;
  replicaId: () => string;
}

export function createAudit({ trail, runtime, replicaId }: AuditDeps): Audit {
  const recording = (workspaceId: string, actor: string, deed: Deed): Recording =>
    trail.recording({ workspaceId, at: runtime.now(), actor, result: "OK", ...deed });
  return {
    recording: ({ workspaceId, principal }, deed) => {
      const acting = actingDetail(principal.actors);
      return recording(workspaceId, principal.id, acting ? { ...deed, detail: { ...deed.detail, ...acting } } : deed);
    },
    recordingOfRouter: (workspaceId, deed) => recording(workspaceId, routerActor(replicaId()), deed),
  };
}
