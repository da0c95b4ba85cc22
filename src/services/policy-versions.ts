/** Reading and changing the policy of a workspace: each change is a version, and none is ever lost. */
import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type GetPolicyRequest,
  type ListPolicyVersionsRequest,
  type ListPolicyVersionsResponse,
  ListPolicyVersionsResponseSchema,
  type Policy,
  PolicyFileSchema,
  PolicySchema,
  type PutPolicyRequest,
  type RollbackPolicyRequest,
  type ValidatePolicyRequest,
  type ValidatePolicyResponse,
  ValidatePolicyResponseSchema,
} from "../../gen/signalbox/v1/policy_pb.ts";
import { invalidArgument, SignalboxError } from "../domain/errors.ts";
import { lengthViolations } from "../domain/message-rules.ts";
import type { PolicyDocument, PolicyProblem } from "../domain/policy/document.ts";
import { refuse } from "../domain/refusal.ts";
import type { PolicyRepository, PolicyVersion, StoredPolicy } from "../store/policy-repository.ts";
import type { Audit } from "./audit.ts";
import type { PolicyFiles } from "./background/policy-files.ts";
import { etagMismatch, etagOf, revisionIn } from "./etag.ts";
import { pageLimit, pageToken, pageTokenAs } from "./paging.ts";
import type { Policies } from "./policies.ts";
import type { PolicyReader } from "./policy-reader.ts";
import type { RequestContext } from "./request-context.ts";
import type { Runtime } from "./runtime.ts";

/** How often a change without an etag is made anew because somebody else was faster. */
const MOST_TRIES = 5;
const MAX_COMMENT_LENGTH = 1024;
const DEFAULT_PAGE = 50;
/** What the number of a version can be at most, as it is stored. */
const MAX_VERSION = 2 ** 31 - 1;

export interface PolicyVersions {
  /** Throws POLICY_VERSION_NOT_FOUND. */
  get(context: RequestContext, request: GetPolicyRequest): Promise<Policy>;
  /** Throws INVALID_ARGUMENT with each problem, or ABORTED with reason ETAG_MISMATCH. Nothing is stored then. */
  put(context: RequestContext, request: PutPolicyRequest): Promise<Policy>;
  validate(context: RequestContext, request: ValidatePolicyRequest): Promise<ValidatePolicyResponse>;
  list(context: RequestContext, request: ListPolicyVersionsRequest): Promise<ListPolicyVersionsResponse>;
  /** Throws POLICY_VERSION_NOT_FOUND, and what `put` throws. */
  rollback(context: RequestContext, request: RollbackPolicyRequest): Promise<Policy>;
}

export interface PolicyVersionsDeps {
  repository: PolicyRepository;
  policies: Pick<Policies, "load" | "adopt" | "withDraft" | "problems">;
  files: Pick<PolicyFiles, "held" | "problems">;
  reader: PolicyReader;
  audit: Audit;
  runtime: Runtime;
}

/** What is to become a version. */
interface Change {
  readonly text: string;
  readonly comment: string;
  readonly etag: string;
  /** How the audit log calls it. */
  readonly action: "policy.put" | "policy.rollback";
}

export function createPolicyVersions(deps: PolicyVersionsDeps): PolicyVersions {
  const { repository, policies, files, reader, audit, runtime } = deps;

  async function change(context: RequestContext, { text, comment, etag, action }: Change): Promise<Policy> {
    const { workspaceId } = context;
    refuse(lengthViolations("policy.comment", comment, MAX_COMMENT_LENGTH));
    const document = await readDraft(reader, context, text, "policy.document");
    const draft = await policies.withDraft(document);
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const version = await repository.latest(workspaceId);
      if (etag !== "" && revisionIn(etag) !== String(version)) throw changedMeanwhile();
      const current = version > 0 ? await repository.get(workspaceId, version) : undefined;
      // Repeated as it is, by a pipeline that knows no better, it is no change.
      if (current?.document === text) return view(workspaceId, current);
      const next: StoredPolicy = {
        version: version + 1,
        document: text,
        digest: createHash("sha256").update(text).digest("hex"),
        ruleCount: document.rules.length,
        budgetCount: document.budgets.length,
        author: context.principal.id,
        comment,
        createdAt: runtime.now(),
      };
      const record = audit.recording(context, {
        action,
        targetType: "policy",
        targetId: workspaceId,
        detail: { version: next.version, digest: next.digest },
      });
      if (await repository.add(workspaceId, next, record)) {
        await policies.adopt(workspaceId, next.version, draft);
        return view(workspaceId, next);
      }
    }
    throw changedMeanwhile();
  }

  /** What this server cannot read is told, and refuses nothing here. */
  async function looked(workspaceId: string): Promise<void> {
    try {
      await policies.load(workspaceId);
    } catch (error) {
      if (!(error instanceof SignalboxError && error.reason === "POLICY_UNREADABLE")) throw error;
    }
  }

  async function find(workspaceId: string, version: number): Promise<StoredPolicy> {
    const found = version > 0 ? await repository.get(workspaceId, version) : undefined;
    if (!found) throw versionNotFound(version);
    return found;
  }

  const view = (workspaceId: string, policy: (PolicyVersion & { document?: string }) | undefined): Policy =>
    create(PolicySchema, {
      ...(policy ? versionView(policy) : { etag: etagOf(0) }),
      document: policy?.document ?? "",
      problems: policies.problems(workspaceId).map(problemView),
      files: files.held.map(({ name, digest, loadedAt }) =>
        create(PolicyFileSchema, { name, digest, loadTime: timestampFromDate(loadedAt) }),
      ),
      fileProblems: files.problems.map(problemView),
    });

  return {
    async get({ workspaceId }, { version }) {
      if (version < 0) throw versionNotFound(version);
      await looked(workspaceId);
      if (version > 0) return view(workspaceId, await find(workspaceId, version));
      const latest = await repository.latest(workspaceId);
      return view(workspaceId, latest > 0 ? await find(workspaceId, latest) : undefined);
    },

    async put(context, { policy }) {
      if (!policy) throw invalidArgument([{ field: "policy", description: "is required" }]);
      const { document, comment, etag } = policy;
      return change(context, { text: document, comment, etag, action: "policy.put" });
    },

    async validate(context, { document }) {
      const read = await reader.draft(document, context);
      if (!("document" in read)) {
        return create(ValidatePolicyResponseSchema, {
          problems: read.problems.map(problemView),
          problemCount: read.count,
        });
      }
      const { rules, budgets } = read.document;
      return create(ValidatePolicyResponseSchema, { ruleCount: rules.length, budgetCount: budgets.length });
    },

    async list({ workspaceId }, request) {
      const limit = pageLimit(request.pageSize, DEFAULT_PAGE);
      const before = pageTokenAs(request.pageToken, "ListPolicyVersions", versionIn);
      const found = await repository.list(workspaceId, before, limit + 1);
      const page = found.slice(0, limit);
      return create(ListPolicyVersionsResponseSchema, {
        versions: page.map(versionView),
        nextPageToken: found.length > limit ? pageToken(String(page.at(-1)!.version)) : "",
      });
    },

    async rollback(context, { version, etag, comment }) {
      const text = version === 0 ? "" : (await find(context.workspaceId, version)).document;
      const said = comment || `Rollback to version ${version}`;
      return change(context, { text, etag, comment: said, action: "policy.rollback" });
    },
  };
}

function versionIn(text: string): number | undefined {
  const version = /^\d{1,10}$/.test(text) ? Number(text) : 0;
  return version >= 1 && version <= MAX_VERSION ? version : undefined;
}

/**
 * Reads what may become a policy, or only be tried.
 *
 * @throws SignalboxError INVALID_ARGUMENT with each problem by line and column, as far as an answer can carry them; QUEUE_FULL.
 */
export async function readDraft(
  reader: PolicyReader,
  context: RequestContext,
  text: string,
  field: string,
): Promise<PolicyDocument> {
  const read = await reader.draft(text, context);
  if ("document" in read) return read.document;
  const told = read.problems.map(({ line, column, path, description }) => {
    const place = line === 0 ? "" : `line ${line}, column ${column}: `;
    return { field, description: `${place}${path === "" ? "" : `${path}: `}${description}` };
  });
  if (read.count > told.length) told.push({ field, description: `and ${read.count - told.length} more problems` });
  refuse(told);
  throw invalidArgument([{ field, description: "is no policy" }]);
}

const versionView = (policy: PolicyVersion): Policy =>
  create(PolicySchema, {
    version: policy.version,
    comment: policy.comment,
    etag: etagOf(policy.version),
    author: policy.author,
    createTime: timestampFromDate(policy.createdAt),
    ruleCount: policy.ruleCount,
    budgetCount: policy.budgetCount,
    digest: policy.digest,
  });

const problemView = ({ file, line, column, path, description }: PolicyProblem) => ({
  $typeName: "signalbox.v1.PolicyProblem" as const,
  file,
  line,
  column,
  path,
  description,
});

const changedMeanwhile = () => etagMismatch("The policy was");

const versionNotFound = (version: number) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "POLICY_VERSION_NOT_FOUND",
    message: `There is no version ${version} of the policy. "signalbox policy versions" lists those that there are.`,
    metadata: { version: String(version) },
  });
