/** Which workspace a request of WorkspaceService is about. */

import { isDnsLabel } from "../../domain/identifiers.ts";
import { notTheRouter, workspaceNotFound } from "../../domain/identity/errors.ts";
import { runsTheRouter } from "../../domain/identity/principal.ts";
import type { RecordingIn } from "../../store/recordings.ts";
import type { Audit, Deed } from "../audit.ts";
import type { RequestContext } from "../request-context.ts";

/**
 * The workspace that a request names; its caller's own where it names none. Whether another is there is for whoever looks: that it is
 * not must be said in the same words.
 *
 * @throws SignalboxError WORKSPACE_NOT_FOUND for another, unless the caller runs the router.
 */
export function namedWorkspace({ workspaceId, principal }: RequestContext, named: string): string {
  if (named === "" || named === workspaceId) return workspaceId;
  if (!runsTheRouter(principal) || !isDnsLabel(named)) throw workspaceNotFound(named);
  return named;
}

/** Throws NOT_THE_ROUTER unless the caller runs the router. */
export function requireRouter({ principal }: RequestContext): void {
  if (!runsTheRouter(principal)) throw notTheRouter();
}

/** What records a deed in the logs of several workspaces. In another's log it says whose principal did it. */
export const recordingIn =
  (audit: Audit, { principal, workspaceId: own }: RequestContext, deed: Deed): RecordingIn =>
  (workspaceId) => {
    const detail = workspaceId === own ? deed.detail : { ...deed.detail, by_workspace: own };
    return audit.recording({ workspaceId, principal }, { ...deed, ...(detail && { detail }) });
  };
