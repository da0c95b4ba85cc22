/** Capabilities of a file for `signalbox apply`. */
import { isDeepStrictEqual } from "node:util";
import { Access, type Capability, CapabilitySchema } from "../../gen/signalbox/v1/registry_pb.ts";
import type { ConfigProblem } from "../config/config-error.ts";
import { capabilitiesOf } from "../domain/capability.ts";
import { capabilityViolations } from "../domain/capability-rules.ts";
import { isDnsLabel } from "../domain/identifiers.ts";
import type { SignalboxClient } from "../sdk/client.ts";
import { type ApplyItem, found, type Outcome } from "./apply-item.ts";
import { addViolations, type Described, decode } from "./described.ts";

/** What a file says of a capability; undefined when it cannot be read. What is wrong with it goes to `problems`. */
export function capabilityOf(described: Described, problems: ConfigProblem[]): Capability | undefined {
  const capability = decode(CapabilitySchema, described, problems);
  if (capability) addViolations(described, capabilityViolations(capability, ""), problems);
  return capability;
}

/** A capability: what AddCapability takes, with the `agentId` that offers it. */
export function capabilityItem(
  described: Described,
  problems: ConfigProblem[],
): (ApplyItem & { agentId: string }) | undefined {
  const wanted = capabilityOf(described, problems);
  if (!wanted) return undefined;
  const { agentId, capabilityId } = wanted;
  if (!isDnsLabel(agentId)) {
    problems.push({ where: described.where(["agentId"]), message: "agentId: is required: the agent that offers it." });
  }
  if (wanted.skillId !== "") {
    problems.push({ where: described.where(["skillId"]), message: "skillId: is the card's to say; leave it out." });
  }
  return {
    name: `capability/${agentId}/${capabilityId}`,
    where: described.where(),
    agentId,
    apply: (client, dryRun) => applyCapability(client, wanted, dryRun),
  };
}

async function applyCapability({ registry }: SignalboxClient, wanted: Capability, dryRun: boolean): Promise<Outcome> {
  const { agentId, capabilityId } = wanted;
  const agent = await found(registry.getAgent({ agentId }));
  // It is created by this very file.
  if (!agent?.card && dryRun) return "created";
  const { capabilities } = await registry.listCapabilities({ agentId, capabilityId });
  const [current] = capabilities;
  if (current && agent?.card) {
    // The server shows what was said and what the card says as one. What was said now would make the same of the card, or not.
    const made = (said: Capability) =>
      capabilitiesOf(agentId, agent.card!, [said]).find((each) => each.capabilityId === capabilityId);
    if (isDeepStrictEqual(made(wanted), made(saidOf(current)))) return "unchanged";
  }
  if (!dryRun) await registry.addCapability({ agentId, capability: wanted });
  return current ? "configured" : "created";
}

/** Without what is shown because nobody has said it. */
const saidOf = ({ serviceLevel, ...current }: Capability): Capability => ({
  ...current,
  ...(current.serviceLevelDeclared && serviceLevel && { serviceLevel }),
  ...(!current.accessDeclared && { access: Access.UNSPECIFIED }),
});
