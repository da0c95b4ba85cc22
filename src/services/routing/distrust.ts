/** Which agents are not trusted with what they offer. */
import { accessNeeded, type Trust } from "../trust.ts";
import type { Ask } from "./offers.ts";

/** As it is known now: whoever asks has it loaded. */
export const distrustIn =
  (trust: Pick<Trust, "refusal">, workspaceId: string): NonNullable<Ask["distrust"]> =>
  ({ agent: { agentId }, capability }) => {
    const access = accessNeeded(capability);
    return trust.refusal({ workspaceId, agentId, capabilityId: capability?.capabilityId, access, as: "candidate" });
  };
