/**
 * How traffic is steered, held for a moment: every message asks for it, and it seldom changes. What has not changed when it
 * is loaded again is the same object as before.
 */
import { DEFAULT_ROLLOUT, type Rollout } from "../domain/rollout.ts";
import { rolloutOf } from "../domain/rollout-rules.ts";
import type { RolloutRecord, RolloutRepository } from "../store/rollout-repository.ts";
import type { RolloutSource } from "./another-agent.ts";
import { loadBriefly } from "./held-briefly.ts";
import type { Runtime } from "./runtime.ts";

export interface Rollouts {
  /** Sees to it that `of` tells what holds by now. Undefined when it does already: there is nothing to wait for. */
  load(workspaceId: string): Promise<void> | undefined;
  /**
   * What steers a capability, or what has none: its own rollout, else the workspace's, else the default one, which is
   * DEFAULT_ROLLOUT itself. As it was loaded last.
   */
  of(workspaceId: string, capabilityId: string | undefined): Rollout;
  /** Whether a capability has a rollout of its own. As it was loaded last. */
  owns(workspaceId: string, capabilityId: string): boolean;
  /** Forgets what is held, after a change. */
  changed(workspaceId: string): void;
}

/** What was loaded last of a workspace. */
interface Held {
  records: readonly RolloutRecord[];
  own: Rollout;
  byCapability: ReadonlyMap<string, Rollout>;
}

export function createRollouts(repository: Pick<RolloutRepository, "list">, runtime: Runtime): Rollouts {
  const held = new Map<string, Held>();

  const briefly = loadBriefly(runtime, async (workspaceId, keeps) => {
    const records = await repository.list(workspaceId);
    if (keeps() && !isSame(held.get(workspaceId)?.records ?? [], records)) held.set(workspaceId, assembled(records));
  });

  return {
    load: briefly.load,
    of(workspaceId, capabilityId) {
      const found = held.get(workspaceId);
      if (!found) return DEFAULT_ROLLOUT;
      return (capabilityId !== undefined && found.byCapability.get(capabilityId)) || found.own;
    },
    owns: (workspaceId, capabilityId) => held.get(workspaceId)?.byCapability.has(capabilityId) ?? false,
    changed: briefly.changed,
  };
}

/** Rollouts for whoever carries a task: what was loaded may be old, because another replica may have routed it. */
export const asOfNow = (rollouts: Pick<Rollouts, "load" | "of">): RolloutSource => ({
  of(workspaceId, capabilityId) {
    const loading = rollouts.load(workspaceId);
    return loading
      ? loading.then(() => rollouts.of(workspaceId, capabilityId))
      : rollouts.of(workspaceId, capabilityId);
  },
});

const isSame = (before: readonly RolloutRecord[], now: readonly RolloutRecord[]): boolean =>
  before.length === now.length &&
  now.every(({ capabilityId, revision, updatedAt }, i) => {
    const old = before[i]!;
    // One that was forgotten and made anew counts from 1 again.
    const isOfSameTime = updatedAt.getTime() === old.updatedAt.getTime();
    return capabilityId === old.capabilityId && revision === old.revision && isOfSameTime;
  });

function assembled(records: readonly RolloutRecord[]): Held {
  const workspace = records.find(({ capabilityId }) => capabilityId === "");
  const own = workspace ? rolloutOf(workspace.given) : DEFAULT_ROLLOUT;
  const byCapability = new Map<string, Rollout>();
  for (const { capabilityId, given } of records) {
    if (capabilityId === "") continue;
    const rollout = rolloutOf(given);
    // The one thing of a workspace that holds for all of its capabilities.
    byCapability.set(capabilityId, own.rollbackToLocal ? { ...rollout, rollbackToLocal: true } : rollout);
  }
  return { records, own, byCapability };
}
