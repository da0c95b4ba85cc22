/** What a rollout names, and is not there: a server takes it, because it may come later. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Rollout } from "../../gen/signalbox/v1/rollout_pb.ts";
import type { SignalboxClient } from "../sdk/client.ts";
import { printable } from "./printable.ts";

/** A line for each agent that is not registered, and each capability that nobody offers. Empty where it cannot be found out. */
export async function missingTargets({ registry }: SignalboxClient, rollout: Rollout): Promise<string> {
  const { canaryTarget, fallbackChain, mirror, capabilityId } = rollout;
  const targets = [canaryTarget?.target, ...fallbackChain.map(({ target }) => target)];
  const named = (kind: "agentId" | "capabilityId") =>
    targets.flatMap((target) => (target?.case === kind ? target.value : []));
  const agents = new Set([...named("agentId"), ...(mirror?.agentId ? [mirror.agentId] : [])]);
  const capabilities = new Set([...(capabilityId === "" ? [] : [capabilityId]), ...named("capabilityId")]);
  const lines = await Promise.all([
    ...[...agents].map(async (agentId) => {
      const isThere = await found(registry.getAgent({ agentId }));
      return isThere ? "" : `No agent is registered as ${printable(agentId)}: the rollout names it in vain so far.\n`;
    }),
    ...[...capabilities].map(async (id) => {
      const list = registry.listCapabilities({ capabilityId: id, pageSize: 1 });
      const isThere = await found(list.then(({ capabilities }) => capabilities.length > 0));
      return isThere ? "" : `Nobody offers the capability ${printable(id)}: the rollout names it in vain so far.\n`;
    }),
  ]);
  return lines.join("");
}

/** Whether it is there, or the caller may not know. */
const found = (asked: Promise<unknown>): Promise<boolean> =>
  asked.then(
    (answer) => answer !== false,
    (error: unknown) => ConnectError.from(error).code !== Code.NotFound,
  );
