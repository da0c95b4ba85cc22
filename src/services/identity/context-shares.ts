/** Lets others see a caller's own tasks of a context, and takes that back. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type ContextShare,
  ContextShareSchema,
  type ListContextSharesRequest,
  type ListContextSharesResponse,
  ListContextSharesResponseSchema,
  type ShareContextRequest,
  type UnshareContextRequest,
} from "../../../gen/signalbox/v1/task_pb.ts";
import { clip, type FieldViolation, invalidArgument, SignalboxError } from "../../domain/errors.ts";
import type { Share } from "../../domain/identity/visibility.ts";
import { idViolations, lengthViolations } from "../../domain/message-rules.ts";
import { refuse } from "../../domain/refusal.ts";
import type { ContextShareRepository, StoredShare } from "../../store/context-share-repository.ts";
import type { Audit } from "../audit.ts";
import type { RequestContext } from "../request-context.ts";
import type { Runtime } from "../runtime.ts";

/** Shares of one context of one owner. */
const MOST_SHARES = 100;
/** Longest id of a principal, in characters. */
const MAX_PRINCIPAL = 512;
/** What names of roles are made of. */
const ROLE = /^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?$/;

export interface ContextShares {
  /** Throws INVALID_ARGUMENT for a subject that is none; TOO_MANY_SHARES. */
  share(context: RequestContext, request: ShareContextRequest): Promise<ContextShare>;
  /** Throws SHARE_NOT_FOUND. */
  unshare(context: RequestContext, request: UnshareContextRequest): Promise<void>;
  list(context: RequestContext, request: ListContextSharesRequest): Promise<ListContextSharesResponse>;
}

export interface ContextSharesDeps {
  repository: ContextShareRepository;
  audit: Audit;
  runtime: Runtime;
}

export function createContextShares({ repository, audit, runtime }: ContextSharesDeps): ContextShares {
  return {
    async share(context, { share: given }) {
      if (!given) throw invalidArgument([{ field: "share", description: "is required: the context, and with whom" }]);
      const { workspaceId, principal } = context;
      const { contextId, canWrite } = given;
      const subject = subjectIn(given.subject, "share.");
      const isOwn = "principalId" in subject && subject.principalId === principal.id;
      refuse([
        ...contextViolations("share.contextId", contextId),
        ...(isOwn ? [{ field: "share.principalId", description: "is you: you see your own tasks" }] : []),
      ]);
      const record = audit.recording(context, deed("context.share", contextId, { ...subject, canWrite }));
      const share = { ownerId: principal.id, contextId, subject, canWrite, createdAt: runtime.now() };
      const stored = await repository.put(workspaceId, share, MOST_SHARES, record);
      if (!stored) throw tooManyShares(contextId);
      return view(stored);
    },

    async unshare(context, { contextId, subject: given }) {
      const { workspaceId, principal } = context;
      const subject = subjectIn(given, "");
      refuse(contextViolations("contextId", contextId));
      const record = audit.recording(context, deed("context.unshare", contextId, subject));
      if (!(await repository.remove(workspaceId, { ownerId: principal.id, contextId, subject }, record))) {
        throw shareNotFound(contextId, subject);
      }
    },

    async list({ workspaceId, principal }, { contextId }) {
      refuse(contextViolations("contextId", contextId));
      const shares = await repository.list(workspaceId, principal.id, contextId);
      return create(ListContextSharesResponseSchema, { shares: shares.map(view) });
    },
  };
}

const deed = (action: string, contextId: string, detail: Record<string, string | boolean>) => ({
  action,
  targetType: "context",
  targetId: contextId,
  detail,
});

const contextViolations = (field: string, contextId: string): readonly FieldViolation[] =>
  contextId === "" ? [{ field, description: "is required: the id of a context" }] : idViolations(field, contextId);

function subjectIn(given: UnshareContextRequest["subject"], at: string): Share["subject"] {
  if (given.case === "role") {
    if (ROLE.test(given.value)) return { role: given.value };
    throw invalidArgument([{ field: `${at}role`, description: "is no name of a role, as operator" }]);
  }
  const { value = "" } = given;
  const field = `${at}principalId`;
  if (value === "") {
    throw invalidArgument([{ field, description: "is required, or role: with whom the context is shared" }]);
  }
  refuse([
    ...lengthViolations(field, value, MAX_PRINCIPAL),
    ...(value.includes("\0") ? [{ field, description: "must not hold a NUL" }] : []),
  ]);
  return { principalId: value };
}

const view = ({ ownerId, contextId, subject, canWrite, createdAt }: StoredShare): ContextShare =>
  create(ContextShareSchema, {
    contextId,
    subject:
      "role" in subject ? { case: "role", value: subject.role } : { case: "principalId", value: subject.principalId },
    canWrite,
    ownerId,
    createTime: timestampFromDate(createdAt),
  });

const shareNotFound = (contextId: string, subject: Share["subject"]) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "SHARE_NOT_FOUND",
    message: `You do not share context "${clip(contextId)}" with ${"role" in subject ? "the role" : "the principal"} "${clip(Object.values(subject)[0]!)}". ListContextShares says with whom you do.`,
    metadata: { contextId: clip(contextId) },
  });

const tooManyShares = (contextId: string) =>
  new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "TOO_MANY_SHARES",
    message: `You share context "${clip(contextId)}" with ${MOST_SHARES} others, which is the most. Share it with a role, or take a share back first.`,
    metadata: { contextId: clip(contextId), limit: String(MOST_SHARES) },
  });
