/** What the router proves itself with to agents, as those see and set it who run them. Secrets go in and never come out. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { AgentCredential, SetAgentCredentialRequest } from "../../../gen/signalbox/v1/registry_pb.ts";
import { clip, SignalboxError } from "../../domain/errors.ts";
import { isDnsLabel } from "../../domain/identifiers.ts";
import { type GivenKind, hostOf, KIND_NAMES } from "../../domain/identity/agent-credential.ts";
import { refuse } from "../../domain/refusal.ts";
import type { AgentCredentialRepository, CredentialRecord } from "../../store/agent-credential-repository.ts";
import type { AgentRecord, AgentRepository } from "../../store/agent-repository.ts";
import type { AgentDirectory } from "../agent-directory.ts";
import type { Audit } from "../audit.ts";
import { agentNotFound, notOwn } from "../registry-views.ts";
import type { RequestContext } from "../request-context.ts";
import type { Runtime } from "../runtime.ts";
import { credentialViolations, DEFAULT_KEY_HEADER } from "./credential-rules.ts";
import type { CredentialChecks } from "./credential-source.ts";
import type { KnownCredentials } from "./known-credentials.ts";
import { sealCredential, shownBody } from "./sealed-credential.ts";
import type { SecretBox } from "./secret-box.ts";

export interface AgentCredentials {
  /**
   * Replaces what the agent had.
   *
   * @throws SignalboxError AGENT_NOT_FOUND; AGENT_IS_LENT; INVALID_ARGUMENT; CREDENTIAL_NEEDS_TLS; SECRETS_KEY_MISSING.
   */
  set(context: RequestContext, request: SetAgentCredentialRequest): Promise<AgentCredential>;
  /** Everything but its secret. Throws AGENT_NOT_FOUND, AGENT_IS_LENT, CREDENTIAL_NOT_FOUND. */
  get(context: RequestContext, agentId: string): Promise<AgentCredential>;
  /** Throws as `get`. */
  remove(context: RequestContext, agentId: string): Promise<void>;
}

export interface AgentCredentialsDeps {
  repository: AgentCredentialRepository;
  agents: Pick<AgentRepository, "get">;
  directory: Pick<AgentDirectory, "agents">;
  box: SecretBox;
  checks: CredentialChecks;
  known: Pick<KnownCredentials, "changed">;
  audit: Audit;
  runtime: Pick<Runtime, "now">;
}

export function createAgentCredentials(deps: AgentCredentialsDeps): AgentCredentials {
  const { repository, agents, directory, box, checks, known, audit, runtime } = deps;

  async function existing({ workspaceId }: RequestContext, agentId: string): Promise<AgentRecord> {
    const agent = isDnsLabel(agentId) ? await agents.get(workspaceId, agentId) : undefined;
    if (!agent) throw await notOwn(directory, workspaceId, agentId);
    return agent;
  }

  /** Of what kind it is or was is all that the audit log learns. */
  const recording = (context: RequestContext, action: "set" | "delete", agentId: string, kind: string) =>
    audit.recording(context, {
      action: `credential.${action}`,
      targetType: "agent",
      targetId: agentId,
      ...(kind !== "" && { detail: { kind } }),
    });

  async function stored(context: RequestContext, agentId: string): Promise<CredentialRecord> {
    await existing(context, agentId);
    const found = await repository.get(context.workspaceId, agentId);
    if (!found) throw credentialNotFound(agentId);
    return found;
  }

  return {
    async set(context, { agentId, credential }) {
      const kind = given(credential);
      refuse(credentialViolations(kind, AT, runtime.now()));
      const { card, cardUrl } = await existing(context, agentId);
      checks.check(kind, card, AT);
      const hosts = [...card.supportedInterfaces.map(({ url }) => url), cardUrl ?? ""].flatMap(
        (url) => hostOf(url) ?? [],
      );
      const { workspaceId, principal } = context;
      const sealed = sealCredential(box, { workspaceId, agentId }, { kind, hosts: new Set(hosts) });
      const record = { agentId, ...sealed, updatedAt: runtime.now(), updatedBy: principal.id };
      const revision = await repository.put(
        workspaceId,
        record,
        recording(context, "set", agentId, KIND_NAMES[kind.case]),
      );
      if (revision === undefined) throw agentNotFound(agentId);
      known.changed(workspaceId);
      return view({ ...record, revision });
    },

    get: async (context, agentId) => view(await stored(context, agentId)),

    async remove(context, agentId) {
      const { kind } = shownBody((await stored(context, agentId)).body);
      const name = kind.case === undefined ? "" : KIND_NAMES[kind.case];
      const removed = await repository.remove(
        context.workspaceId,
        agentId,
        recording(context, "delete", agentId, name),
      );
      if (!removed) throw credentialNotFound(agentId);
      known.changed(context.workspaceId);
    },
  };
}

const AT = "credential";

/** The kind that was given, with what is left out of it. */
function given(credential: AgentCredential | undefined): GivenKind {
  const kind = credential?.kind;
  if (kind?.case === undefined) {
    const names = "bearer, apiKey, hmac, oauth2, oidc and mutualTls";
    refuse([{ field: AT, description: `give one of ${names}` }]);
    throw new Error("a credential of no kind was let through");
  }
  if (kind.case === "apiKey" && kind.value.header === "") {
    return { case: "apiKey", value: { ...kind.value, header: DEFAULT_KEY_HEADER } };
  }
  return kind;
}

const view = ({ agentId, body, updatedAt, updatedBy }: CredentialRecord): AgentCredential => ({
  ...shownBody(body),
  agentId,
  updateTime: timestampFromDate(updatedAt),
  updatedBy,
});

const credentialNotFound = (agentId: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "CREDENTIAL_NOT_FOUND",
    message: `Agent "${clip(agentId)}" has no credential. SetAgentCredential gives it one.`,
    metadata: { agentId: clip(agentId) },
  });
