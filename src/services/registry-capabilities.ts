/** The registry's capabilities: what agents were given beside their cards, and what all of them offer. */
import { hash } from "node:crypto";
import { clone, create, toBinary } from "@bufbuild/protobuf";
import {
  type AddCapabilityRequest,
  type Capability,
  CapabilitySchema,
  type ListCapabilitiesRequest,
  type ListCapabilitiesResponse,
  ListCapabilitiesResponseSchema,
  type RemoveCapabilityRequest,
} from "../../gen/signalbox/v1/registry_pb.ts";
import { capabilitiesOf } from "../domain/capability.ts";
import { capabilityViolations } from "../domain/capability-rules.ts";
import { MAX_SKILLS } from "../domain/card-rules.ts";
import { clip, invalidArgument, SignalboxError } from "../domain/errors.ts";
import { isDnsLabel } from "../domain/identifiers.ts";
import { refuse } from "../domain/refusal.ts";
import type { AgentRepository } from "../store/agent-repository.ts";
import type { CapabilityRepository } from "../store/capability-repository.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { Audit } from "./audit.ts";
import { pageLimit, pageToken, readPageToken } from "./paging.ts";
import { agentNotFound, capabilityView, notOwn, type Standings } from "./registry-views.ts";
import type { RequestContext } from "./request-context.ts";
import type { Runtime } from "./runtime.ts";

const DEFAULT_PAGE = 50;
/** Most capabilities that an agent may be given: as many as a card may have skills. */
const MAX_GIVEN = MAX_SKILLS;

export interface RegistryCapabilities {
  /** The capability as clients see it from now on: with what the agent's card says of it. */
  addCapability(context: RequestContext, request: AddCapabilityRequest): Promise<Capability>;
  removeCapability(context: RequestContext, request: RemoveCapabilityRequest): Promise<void>;
  listCapabilities(context: RequestContext, request: ListCapabilitiesRequest): Promise<ListCapabilitiesResponse>;
}

interface RegistryCapabilitiesDeps {
  agents: AgentRepository;
  capabilities: CapabilityRepository;
  directory: AgentDirectory;
  reputation: Standings;
  audit: Audit;
  runtime: Runtime;
}

export function createRegistryCapabilities({
  agents,
  capabilities,
  directory,
  reputation,
  audit,
  runtime,
}: RegistryCapabilitiesDeps): RegistryCapabilities {
  return {
    async addCapability(context, { agentId, capability }) {
      const { workspaceId } = context;
      if (!capability) throw invalidArgument([{ field: "capability", description: "is required" }]);
      refuse(capabilityViolations(capability, "capability"));
      if (!isDnsLabel(agentId)) throw agentNotFound(agentId);
      // What only we say is not stored: it may be another tomorrow.
      const given = clone(CapabilitySchema, {
        ...capability,
        agentId: "",
        skillId: "",
        standing: undefined,
        accessDeclared: false,
        serviceLevelDeclared: false,
      });
      const { capabilityId } = given;
      const digest = hash("sha256", toBinary(CapabilitySchema, given), "hex");
      const deed = { action: "capability.put", targetType: "capability", targetId: capabilityId };
      const record = audit.recording(context, { ...deed, detail: { agent: agentId, digest } });
      const options = { most: MAX_GIVEN, now: runtime.now(), record };
      const outcome = await capabilities.put(workspaceId, agentId, given, options);
      if (outcome === "full") throw tooManyCapabilities(agentId);
      const agent = outcome === "stored" ? await agents.get(workspaceId, agentId) : undefined;
      if (!agent) throw await notOwn(directory, workspaceId, agentId);
      directory.changed(workspaceId);
      const [merged] = capabilitiesOf(agentId, agent.card, [given]).filter(
        ({ capabilityId }) => capabilityId === given.capabilityId,
      );
      return capabilityView(merged!);
    },

    async removeCapability(context, { agentId, capabilityId }) {
      const { workspaceId } = context;
      const deed = { action: "capability.remove", targetType: "capability", targetId: capabilityId };
      const record = audit.recording(context, { ...deed, detail: { agent: agentId } });
      const removed =
        isDnsLabel(agentId) &&
        isDnsLabel(capabilityId) &&
        (await capabilities.remove(workspaceId, agentId, capabilityId, runtime.now(), record));
      if (removed) {
        directory.changed(workspaceId);
        return;
      }
      if (!isDnsLabel(agentId) || !(await agents.get(workspaceId, agentId)))
        throw await notOwn(directory, workspaceId, agentId);
      throw capabilityNotFound(agentId, capabilityId);
    },

    async listCapabilities({ workspaceId }, request) {
      const limit = pageLimit(request.pageSize, DEFAULT_PAGE);
      const [afterCapability = "", afterAgent = ""] = readPageToken(request.pageToken, 2, "ListCapabilities") ?? [];
      const { byCapability } = await directory.agents(workspaceId);
      const found = [...byCapability]
        .filter(([capabilityId]) => request.capabilityId === "" || capabilityId === request.capabilityId)
        .filter(([capabilityId]) => capabilityId >= afterCapability)
        .flatMap(([, offers]) => offers.map(({ capability }) => capability))
        .filter(({ agentId }) => request.agentId === "" || agentId === request.agentId)
        .filter(({ capabilityId, agentId }) => capabilityId > afterCapability || agentId > afterAgent);
      const page = found.slice(0, limit);
      const last = page.at(-1);
      await reputation.load(workspaceId);
      return create(ListCapabilitiesResponseSchema, {
        capabilities: page.map((one) =>
          capabilityView(one, reputation.standing(workspaceId, one.agentId, one.capabilityId)),
        ),
        nextPageToken: found.length > limit && last ? pageToken(last.capabilityId, last.agentId) : "",
      });
    },
  };
}

const capabilityNotFound = (agentId: string, capabilityId: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "CAPABILITY_NOT_FOUND",
    message: `Agent "${agentId}" was given no capability "${clip(capabilityId)}". What its card says can be changed in the card only.`,
    metadata: { agentId, capabilityId: clip(capabilityId) },
  });

const tooManyCapabilities = (agentId: string) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "TOO_MANY_CAPABILITIES",
    message: `Agent "${agentId}" was given ${MAX_GIVEN} capabilities already. Remove one first.`,
    metadata: { agentId },
  });
