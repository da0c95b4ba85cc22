/** Agents of a file for `signalbox apply`. */
import { equals, type JsonObject } from "@bufbuild/protobuf";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  type Agent,
  type RegisterAgentRequest,
  RegisterAgentRequestSchema,
} from "../../gen/signalbox/v1/registry_pb.ts";
import type { ConfigProblem } from "../config/config-error.ts";
import { cardViolations } from "../domain/card-rules.ts";
import { isDnsLabel, RESERVED_IDS } from "../domain/identifiers.ts";
import { missingFields } from "../domain/required-fields.ts";
import type { SignalboxClient } from "../sdk/client.ts";
import { type ApplyItem, found, type Outcome } from "./apply-item.ts";
import { addViolations, type Described, decode } from "./described.ts";

const CARD_PATH = "/.well-known/agent-card.json";

/** An agent: what RegisterAgent takes, and `default: true` for the one that messages without a target go to. */
export function agentItem(
  described: Described,
  problems: ConfigProblem[],
): (ApplyItem & { isDefault: boolean }) | undefined {
  const { default: isDefault = false, ...fields } = described.fields as JsonObject & { default?: unknown };
  if (typeof isDefault !== "boolean") {
    problems.push({ where: described.where(["default"]), message: "default: must be true or false." });
  }
  const wanted = decode(RegisterAgentRequestSchema, { ...described, fields: fields as JsonObject }, problems);
  if (!wanted) return undefined;
  const { agentId, source } = wanted;
  if (!isDnsLabel(agentId) || RESERVED_IDS.has(agentId)) {
    const message =
      "agentId: is required, a DNS label: a-z, 0-9, - inside, 63 characters at most, and no reserved word.";
    problems.push({ where: described.where(["agentId"]), message });
  }
  if (source.case === undefined) {
    problems.push({ where: described.where(), message: "An agent needs one of baseUrl, cardUrl and card." });
  } else if (source.case === "card") {
    const violations = [...missingFields(AgentCardSchema, source.value), ...cardViolations(source.value)];
    addViolations(described, violations, problems, ["card"]);
  } else if (!/^https?:\/\//i.test(source.value) || !URL.canParse(source.value)) {
    problems.push({ where: described.where([source.case]), message: `${source.case}: must be an http or https URL.` });
  }
  return {
    name: `agent/${agentId}`,
    where: described.where(),
    isDefault: isDefault === true,
    apply: (client, dryRun) => applyAgent(client, wanted, isDefault === true, dryRun),
  };
}

async function applyAgent(
  { registry }: SignalboxClient,
  wanted: RegisterAgentRequest,
  isDefault: boolean,
  dryRun: boolean,
): Promise<Outcome> {
  const { agentId } = wanted;
  const current = await found(registry.getAgent({ agentId }));
  if (!current) {
    if (dryRun) return "created";
    const { isDefault: already } = await registry.registerAgent(wanted);
    if (isDefault && !already) await registry.setDefaultAgent({ agentId });
    return "created";
  }
  const paths = changedFields(current, wanted);
  const becomesDefault = isDefault && !current.isDefault;
  if (paths.length === 0 && !becomesDefault) return "unchanged";
  if (dryRun) return "configured";
  if (paths.length > 0) {
    const { source, safeToRepeat } = wanted;
    const agent = {
      agentId,
      etag: current.etag,
      safeToRepeat,
      ...(source.case === "card" ? { card: source.value } : { cardUrl: cardUrlOf(wanted) }),
    };
    await registry.updateAgent({ agent, updateMask: { paths } });
  }
  if (becomesDefault) await registry.setDefaultAgent({ agentId });
  return "configured";
}

/** What of an agent is not as the file says. A card that its agent serves is the agent's own business. */
function changedFields(current: Agent, wanted: RegisterAgentRequest): string[] {
  const { source } = wanted;
  const paths: string[] = [];
  if (source.case === "card") {
    const isSame = current.cardUrl === "" && current.card && equals(AgentCardSchema, current.card, source.value);
    if (!isSame) paths.push("card");
  } else if (current.cardUrl !== cardUrlOf(wanted)) {
    paths.push("card_url");
  }
  if (current.safeToRepeat !== wanted.safeToRepeat) paths.push("safe_to_repeat");
  return paths;
}

function cardUrlOf({ source }: RegisterAgentRequest): string {
  if (source.case === "baseUrl") return source.value.replace(/\/+$/, "") + CARD_PATH;
  return source.case === "cardUrl" ? source.value : "";
}
