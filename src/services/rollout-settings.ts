/** Reading and changing how traffic is steered. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Rollout, RolloutSchema, type UpdateRolloutRequest } from "../../gen/signalbox/v1/rollout_pb.ts";
import { clip, invalidArgument, SignalboxError } from "../domain/errors.ts";
import { refuse } from "../domain/refusal.ts";
import {
  chainCycle,
  changed,
  fallbackCapabilities,
  rolloutIdViolations,
  rolloutViolations,
  unknownPaths,
  withDefaults,
} from "../domain/rollout-rules.ts";
import type { RolloutRecord, RolloutRepository } from "../store/rollout-repository.ts";
import type { Audit } from "./audit.ts";
import { etagMismatch, etagOf, revisionIn } from "./etag.ts";
import type { RequestContext } from "./request-context.ts";
import type { Rollouts } from "./rollouts.ts";
import type { Runtime } from "./runtime.ts";

/** Rollouts of a workspace at most: each server holds all of them. */
const MOST_ROLLOUTS = 1000;
/** Names of what was changed that the audit log keeps. */
const MOST_FIELDS = 32;

export interface RolloutSettings {
  get(context: RequestContext, capabilityId: string): Promise<Rollout>;
  /** What changed is seen by the next request here, and by other replicas within a second. */
  update(context: RequestContext, request: UpdateRolloutRequest): Promise<Rollout>;
  /** Throws NOT_FOUND with reason ROLLOUT_NOT_FOUND. What changed is seen as with an update. */
  remove(context: RequestContext, capabilityId: string): Promise<void>;
  list(context: RequestContext): Promise<Rollout[]>;
}

export interface RolloutSettingsDeps {
  repository: RolloutRepository;
  rollouts: Pick<Rollouts, "changed">;
  audit: Audit;
  runtime: Runtime;
}

export function createRolloutSettings({ repository, rollouts, audit, runtime }: RolloutSettingsDeps): RolloutSettings {
  return {
    async get({ workspaceId }, capabilityId) {
      refuse(rolloutIdViolations("capabilityId", capabilityId));
      const stored = await repository.get(workspaceId, capabilityId);
      return stored ? view(stored) : withDefaults(create(RolloutSchema, { capabilityId }));
    },

    async update(context, { rollout, updateMask }) {
      const { workspaceId } = context;
      if (!rollout) throw invalidArgument([{ field: "rollout", description: "is required" }]);
      const { capabilityId, etag } = rollout;
      const paths = updateMask?.paths ?? ["*"];
      refuse([
        ...(paths.length === 0
          ? [{ field: "rollout", description: "holds no change: give what is to change, or the mask * to replace all" }]
          : []),
        ...rolloutIdViolations("rollout.capabilityId", capabilityId),
        ...unknownPaths(paths).map((path) => ({
          field: "updateMask",
          description: `"${clip(path)}" cannot be changed: name whole fields of Rollout`,
        })),
      ]);
      const change = (current: RolloutRecord | undefined, all: readonly RolloutRecord[]): Rollout => {
        if (etag !== "" && revisionIn(etag) !== String(current?.revision)) {
          throw etagMismatch(`The rollout of ${whose(capabilityId)} was`, { capabilityId });
        }
        if (!current && all.length >= MOST_ROLLOUTS) throw tooManyRollouts();
        const next = changed(current?.given ?? create(RolloutSchema, { capabilityId }), rollout, paths);
        refuse(rolloutViolations(next));
        refuseCycle(next, all);
        return next;
      };
      // Where it says nothing of one capability, it is the workspace's own, and its id is empty.
      const deed = { action: "rollout.put", targetType: "rollout", targetId: capabilityId };
      const record = audit.recording(context, { ...deed, detail: { fields: paths.slice(0, MOST_FIELDS) } });
      const stored = await repository.update(workspaceId, capabilityId, change, runtime.now(), record);
      rollouts.changed(workspaceId);
      return view(stored);
    },

    async remove(context, capabilityId) {
      const { workspaceId } = context;
      refuse(rolloutIdViolations("capabilityId", capabilityId));
      const deed = { action: "rollout.remove", targetType: "rollout", targetId: capabilityId };
      if (!(await repository.remove(workspaceId, capabilityId, audit.recording(context, deed))))
        throw rolloutNotFound(capabilityId);
      rollouts.changed(workspaceId);
    },

    list: async ({ workspaceId }) => (await repository.list(workspaceId)).map(view),
  };
}

/** A chain that comes back to itself over the chains of others is refused, though only one level is followed. */
function refuseCycle(next: Rollout, all: readonly RolloutRecord[]): void {
  if (next.capabilityId === "") return;
  const chains = new Map(all.map(({ capabilityId, given }) => [capabilityId, fallbackCapabilities(given)]));
  chains.set(next.capabilityId, fallbackCapabilities(next));
  const cycle = chainCycle(chains, next.capabilityId);
  if (!cycle) return;
  const description = `comes back to itself: ${cycle.join(" -> ")}; leave one of these steps out`;
  throw invalidArgument([{ field: "rollout.fallbackChain", description }]);
}

function view(record: RolloutRecord): Rollout {
  const updateTime = timestampFromDate(record.updatedAt);
  return { ...withDefaults(record.given), etag: etagOf(record.revision), updateTime };
}

const whose = (capabilityId: string): string =>
  capabilityId === "" ? "the workspace" : `capability "${clip(capabilityId)}"`;

const rolloutNotFound = (capabilityId: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "ROLLOUT_NOT_FOUND",
    message: `There is no rollout of ${whose(capabilityId)}: nothing was ever said of it.`,
    metadata: { capabilityId },
  });

const tooManyRollouts = () =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "TOO_MANY_ROLLOUTS",
    message: `This workspace has ${MOST_ROLLOUTS} rollouts already. Steer the other capabilities by the workspace's own.`,
  });
