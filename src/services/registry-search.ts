/** Finding agents by what they can do. */
import { create } from "@bufbuild/protobuf";
import {
  FoundAgentSchema,
  type SearchAgentsRequest,
  type SearchAgentsResponse,
  SearchAgentsResponseSchema,
} from "../../gen/signalbox/v1/registry_pb.ts";
import type { Capability } from "../domain/capability.ts";
import { MAX_LABELS, MAX_TAG_LENGTH, MAX_TAGS } from "../domain/capability-rules.ts";
import type { FieldViolation } from "../domain/errors.ts";
import { lengthViolations, listViolations } from "../domain/message-rules.ts";
import { refuse } from "../domain/refusal.ts";
import { MAX_QUERY_LENGTH } from "../domain/routing/text-match.ts";
import type { AgentDirectory, WorkspaceAgents } from "./agent-directory.ts";
import type { AgentHealthService } from "./agent-health.ts";
import type { AgentConnector } from "./agent-port.ts";
import { pageLimit } from "./paging.ts";
import { agentView, type Standings } from "./registry-views.ts";
import type { RequestContext } from "./request-context.ts";

const DEFAULT_PAGE = 20;
/** A key and a value of a label, and what is between them. */
const MAX_LABEL_LENGTH = 127;

export interface RegistrySearch {
  searchAgents(context: RequestContext, request: SearchAgentsRequest): Promise<SearchAgentsResponse>;
}

interface Found {
  agentId: string;
  capabilityIds: string[];
  score: number;
}

export function createRegistrySearch(
  directory: AgentDirectory,
  connector: AgentConnector,
  health: Pick<AgentHealthService, "ofAll">,
  reputation: Standings,
): RegistrySearch {
  return {
    async searchAgents({ workspaceId }, request) {
      refuse([
        ...lengthViolations("text", request.text, MAX_QUERY_LENGTH),
        ...listViolations("tags", request.tags, MAX_TAGS, (field, tag) => lengthViolations(field, tag, MAX_TAG_LENGTH)),
        ...listViolations("labels", request.labels, MAX_LABELS, labelViolations),
      ]);
      const limit = pageLimit(request.pageSize, DEFAULT_PAGE);
      const agents = await directory.agents(workspaceId);
      const found = find(agents, request).slice(0, limit);
      const ids = found.map(({ agentId }) => agentId);
      const healths = await health.ofAll(workspaceId, ids);
      await reputation.load(workspaceId);
      return create(SearchAgentsResponseSchema, {
        agents: found.map(({ agentId, capabilityIds, score }) =>
          create(FoundAgentSchema, {
            agent: agentView(
              agents.byId.get(agentId)!,
              agents.defaultAgent?.agentId,
              connector,
              healths.get(agentId),
              reputation.standing(workspaceId, agentId, undefined),
            ),
            capabilityIds,
            score,
          }),
        ),
      });
    },
  };
}

/** All that fit, the best first. */
function find({ byId, capabilities, search }: WorkspaceAgents, request: SearchAgentsRequest): Found[] {
  const text = request.text.trim();
  const isNarrowed = request.capabilityId !== "" || request.tags.length > 0 || request.labels.length > 0;
  const fits = fitsOf(request);
  const scores = new Map<string, Map<string, number>>();
  const ownScores = text === "" ? new Map<string, number>() : search.agents(text);
  for (const { agentId, capabilityId, score } of text === "" ? [] : search.matches(text, Number.POSITIVE_INFINITY)) {
    if (!scores.has(agentId)) scores.set(agentId, new Map());
    scores.get(agentId)!.set(capabilityId, score);
  }
  const candidates = text === "" ? byId.keys() : new Set([...scores.keys(), ...ownScores.keys()]);
  const found = [...candidates].flatMap((agentId): Found[] => {
    const own = ownScores.get(agentId) ?? 0;
    const scoreOf = ({ capabilityId }: Capability) => scores.get(agentId)?.get(capabilityId) ?? 0;
    // Words that are the agent's own fit all that it can do.
    const fitting = capabilities
      .get(agentId)!
      .filter((capability) => fits(capability) && (text === "" || own > 0 || scoreOf(capability) > 0))
      .sort((a, b) => scoreOf(b) - scoreOf(a) || (a.capabilityId < b.capabilityId ? -1 : 1));
    const [best] = fitting;
    if (!best && isNarrowed) return [];
    const capabilityIds = fitting.map(({ capabilityId }) => capabilityId);
    return [{ agentId, capabilityIds, score: own + (best ? scoreOf(best) : 0) }];
  });
  return found.sort((a, b) => b.score - a.score || (a.agentId < b.agentId ? -1 : 1));
}

/** Whether a capability has the id, all tags and all labels that are asked for. Tags are compared without regard to case. */
function fitsOf({ capabilityId, tags, labels }: SearchAgentsRequest): (capability: Capability) => boolean {
  const wantedTags = tags.map((tag) => tag.toLowerCase());
  const wantedLabels = labels.map((label): [string, string] => {
    const at = label.indexOf("=");
    return [label.slice(0, at), label.slice(at + 1)];
  });
  return (capability) => {
    if (capabilityId !== "" && capability.capabilityId !== capabilityId) return false;
    const has = new Set(wantedTags.length === 0 ? [] : capability.tags.map((tag) => tag.toLowerCase()));
    return (
      wantedTags.every((tag) => has.has(tag)) &&
      wantedLabels.every(([key, value]) => Object.hasOwn(capability.labels, key) && capability.labels[key] === value)
    );
  };
}

function labelViolations(field: string, label: string): readonly FieldViolation[] {
  if (label.indexOf("=") < 1) return [{ field, description: "must be key=value" }];
  return lengthViolations(field, label, MAX_LABEL_LENGTH);
}
