/** The facts that a policy is asked about: what is known of a request, of an agent that may take it, and what is kept of them. */
import { type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { timestampMs, ValueSchema } from "@bufbuild/protobuf/wkt";
import type { Message, Part } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type RouteDecision, RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import type { TaskParent } from "../domain/budget/hold.ts";
import { signatureWord } from "../domain/card-signature.ts";
import type { Principal } from "../domain/identity/principal.ts";
import { costMicros, decimalOf } from "../domain/money.ts";
import type { Fact, Facts } from "../domain/policy/facts.ts";
import type { Priority } from "../domain/task-log.ts";
import type { Possible } from "./routing/offers.ts";

/** What a request says, before an agent was looked for. */
export interface AskedFor {
  readonly principal: Principal;
  readonly workspaceId: string;
  readonly message: Message;
  readonly acceptedModes: readonly string[];
  readonly priority: Priority | undefined;
  readonly parent: TaskParent | undefined;
  readonly now: Date;
}

export function requestFacts({
  principal,
  workspaceId,
  message,
  acceptedModes,
  priority,
  parent,
  now,
}: AskedFor): Facts {
  return {
    principal_id: principal.id,
    principal_roles: [...principal.roles],
    principal_scopes: [...principal.scopes],
    principal_authentication: principal.authentication,
    principal_actors: principal.actors,
    workspace_id: workspaceId,
    task_priority: priority ?? "NORMAL",
    context_id: message.contextId || undefined,
    ...messageFacts(message),
    accepted_modes: acceptedModes,
    delegation_depth: parent?.depth ?? 0,
    parent_agent_id: parent?.agentId,
    now: now.getTime(),
  };
}

const messageFacts = ({ parts }: Message) => ({
  message_bytes: bytesOf(parts),
  message_parts: parts.length,
  input_modes: modesOf(parts),
});

/** What said where to look for an agent, and the capability that was asked for there; undefined where none was. */
export interface LookedFor {
  readonly source: RouteSource;
  readonly capabilityId: string | undefined;
}

/** The same facts, and those of an agent that may take the task: for what was asked for, if it offers nothing that is in question. */
export function candidateFacts(
  asked: Facts,
  { agent, capability }: Possible,
  { source, capabilityId }: LookedFor,
  reputation: number | undefined,
): Facts {
  return {
    ...asked,
    agent_id: agent.agentId,
    capability_id: capability?.capabilityId ?? capabilityId,
    capability_access: capability?.access,
    cost: capability?.costMicros ?? 0,
    reputation_score: reputation,
    card_signature: signatureWord(agent.cardSignature),
    route_source: sourceName(source),
    labels: capability?.labels ?? NO_LABELS,
  };
}

const SOURCE_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(RouteSource).flatMap(([name, source]) => (source === 0 ? [] : [[source, name]])),
);

/** Undefined where nothing said where to look. */
const sourceName = (source: RouteSource): string | undefined => SOURCE_NAMES.get(source);

const NO_LABELS: Readonly<Record<string, string>> = {};

/** The size of parts in bytes: of texts and addresses in UTF-8, of data as JSON, of files as they are. */
export function bytesOf(parts: readonly Part[]): number {
  let bytes = 0;
  for (const { content } of parts) {
    switch (content.case) {
      case "text":
      case "url":
        bytes += Buffer.byteLength(content.value);
        break;
      case "raw":
        bytes += content.value.length;
        break;
      case "data":
        bytes += Buffer.byteLength(JSON.stringify(toJson(ValueSchema, content.value)));
    }
  }
  return bytes;
}

/** The media types of parts, each once: bare and in lower case. Where a part names none, what its kind usually has. */
export function modesOf(parts: readonly Part[]): string[] {
  const modes = new Set<string>();
  for (const { mediaType, content } of parts) {
    modes.add(mediaType === "" ? USUAL_MODES[content.case ?? "raw"] : mediaType.split(";", 1)[0]!.trim().toLowerCase());
  }
  return [...modes];
}

const USUAL_MODES = {
  text: "text/plain",
  data: "application/json",
  raw: "application/octet-stream",
  url: "application/octet-stream",
} as const;

/**
 * What is kept of the facts with a decision, so that it can be decided once more: those that are not in the decision
 * already, and are not as they nearly always are. Every task pays for it, also where there is no policy.
 */
export function keptFacts(
  facts: Facts,
  { agent, capability }: Possible,
  { source, capabilityId: asked = "" }: LookedFor,
  decision: RouteDecision,
): JsonObject {
  const kept: Record<string, JsonValue> = {};
  for (let i = 0; i < KEPT.length; i++) {
    const name = KEPT[i]!;
    const value = facts[name] as JsonValue | undefined;
    if (value !== undefined && !isUsual(value, USUAL[name])) kept[name] = value;
  }
  if (source !== decision.source) kept.route_source = sourceName(source) ?? "";
  if (agent.cardSignature) kept.card_signature = signatureWord(agent.cardSignature);
  const capabilityId = capability?.capabilityId ?? asked;
  if (capabilityId !== decision.capabilityId) kept.capability_id = capabilityId;
  if (!capability) {
    if (capabilityId !== "") kept.capability_access = UNKNOWN;
    return kept;
  }
  if (capability.access !== USUAL.capability_access) kept.capability_access = capability.access;
  if (!decision.candidates.some(({ agentId }) => agentId === agent.agentId)) {
    kept.cost = decimalOf(capability.costMicros);
  }
  for (const _ in capability.labels) {
    kept.labels = { ...capability.labels };
    break;
  }
  return kept;
}

/** Of an agent that does not offer what it has a task for, it is not known whether that changes something. */
const UNKNOWN = "";

const KEPT = [
  "principal_id",
  "principal_roles",
  "principal_scopes",
  "principal_authentication",
  "principal_actors",
  "task_priority",
  "context_id",
  "message_bytes",
  "message_parts",
  "input_modes",
  "accepted_modes",
  "delegation_depth",
  "parent_agent_id",
] as const;

/** What a fact is that was not kept. */
const USUAL = {
  principal_id: undefined,
  principal_roles: [],
  principal_scopes: ["*"],
  principal_authentication: "anonymous",
  principal_actors: [],
  task_priority: "NORMAL",
  context_id: undefined,
  message_bytes: undefined,
  message_parts: 1,
  input_modes: ["text/plain"],
  accepted_modes: [],
  delegation_depth: 0,
  parent_agent_id: undefined,
  capability_access: "WRITE",
} as const satisfies Facts;

function isUsual(value: JsonValue, usual: Fact): boolean {
  if (!Array.isArray(value) || !Array.isArray(usual)) return value === usual;
  return value.length === usual.length && value.every((item, i) => item === usual[i]);
}

/** The facts of a request as they were kept with its decision; undefined where none were. */
export function keptRequestFacts(workspaceId: string, { policyFacts, time }: RouteDecision): Facts | undefined {
  if (!policyFacts) return undefined;
  const { capability_access: _, ...usual } = USUAL;
  const kept = Object.entries(policyFacts).filter(([name]) => Object.hasOwn(usual, name));
  const now = time ? timestampMs(time) : 0;
  return { ...usual, ...(Object.fromEntries(kept) as Facts), workspace_id: workspaceId, now };
}

/** The facts of the agent that was chosen as well, as they were when it was; undefined where none were kept. */
export function keptCandidateFacts(workspaceId: string, decision: RouteDecision): Facts | undefined {
  const asked = keptRequestFacts(workspaceId, decision);
  if (!asked) return undefined;
  const { agentId, candidates, source } = decision;
  const candidate = candidates.find((one) => one.agentId === agentId);
  const kept = decision.policyFacts as Record<string, Fact> & Pick<Facts, "labels">;
  const { capability_id: capabilityId = decision.capabilityId, capability_access: access, cost = "0" } = kept;
  return {
    ...asked,
    agent_id: agentId,
    capability_id: capabilityId || undefined,
    capability_access: capabilityId === "" || access === UNKNOWN ? undefined : (access ?? USUAL.capability_access),
    cost: costMicros(candidate?.cost ?? String(cost)) ?? 0,
    reputation_score: candidate?.reputation,
    card_signature: kept.card_signature ?? "NONE",
    route_source: (kept.route_source ?? sourceName(source)) || undefined,
    labels: kept.labels ?? NO_LABELS,
  };
}
