/** Errors of who asks. They say what to do, and nothing of what there is. Pure. */
import { clip, SignalboxError, type SignalboxError as Thrown } from "../errors.ts";

/** Nobody says who they are, where somebody must. */
export const unauthenticated = (): Thrown =>
  new SignalboxError({
    code: "UNAUTHENTICATED",
    reason: "UNAUTHENTICATED",
    message:
      "This server wants to know who calls. Send a key as Authorization: Bearer sbx_..., or what else the security schemes of its agent card name.",
  });

/**
 * A credential that is not good. `why` tells those who hold a good one how to mend their request, and nobody whether a key, a subject
 * or a secret exists.
 */
export const invalidCredential = (why: string, metadata: Record<string, string> = {}, cause?: unknown): Thrown =>
  new SignalboxError({
    code: "UNAUTHENTICATED",
    reason: "CREDENTIAL_INVALID",
    message: `The credential of this call is not accepted: ${why}`,
    metadata,
    cause,
  });

/** A workspace that there is not, or that is none of the caller's business. `only`: the one that its credential is for. */
export const workspaceNotFound = (workspaceId: string, only?: string): Thrown =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "WORKSPACE_NOT_FOUND",
    message:
      only === undefined
        ? `There is no workspace "${clip(workspaceId)}" that you may see.`
        : `There is no workspace "${clip(workspaceId)}" that you may see: your credential is for "${only}" alone.`,
    metadata: { workspace: clip(workspaceId) },
  });

export const workspaceSuspended = (workspaceId: string): Thrown =>
  new SignalboxError({
    code: "PERMISSION_DENIED",
    reason: "WORKSPACE_SUSPENDED",
    message: `The workspace "${workspaceId}" is suspended. Who runs this router can resume it.`,
    metadata: { workspace: workspaceId },
  });

/** For what only those may do who run the router: in a workspace of their own, admins may do everything but this. */
export const notTheRouter = (): Thrown =>
  new SignalboxError({
    code: "PERMISSION_DENIED",
    reason: "NOT_THE_ROUTER",
    message: 'Only those who run this router may do that: principals of its workspace "default" whose roles let them.',
  });
