/** How each workspace routes: what was said of it, checked and with its defaults, held for a moment as its agents are. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type RoutingSettings,
  RoutingSettingsSchema,
  type UpdateRoutingSettingsRequest,
  WhenNothingFits,
} from "../../../gen/signalbox/v1/routing_pb.ts";
import { clip, type FieldViolation, invalidArgument } from "../../domain/errors.ts";
import { refuse } from "../../domain/refusal.ts";
import { DEFAULT_WEIGHTS } from "../../domain/routing/strategies.ts";
import { STRATEGY_RULE, type StrategyName, strategyNamed, type Weights } from "../../domain/routing/strategy.ts";
import { weightViolations } from "../../domain/routing/weights.ts";
import type { RoutingSettingsRepository, StoredRoutingSettings } from "../../store/routing-settings-repository.ts";
import type { Audit } from "../audit.ts";
import { etagMismatch, etagOf, revisionIn } from "../etag.ts";
import { holdBriefly } from "../held-briefly.ts";
import type { RequestContext } from "../request-context.ts";
import type { Runtime } from "../runtime.ts";

/** How often an update without an etag is made anew because somebody else was faster. */
const MOST_TRIES = 5;
const CHANGEABLE: readonly string[] = ["strategy", "weights", "when_nothing_fits"];

/** How a workspace routes. */
export interface WorkspaceRouting {
  /** What chooses where a message does not say; undefined: the server's setting. */
  readonly strategy: StrategyName | undefined;
  readonly weights: Weights;
  /** Whether a message that no agent can take becomes a task that is REJECTED. Otherwise it is refused. */
  readonly rejects: boolean;
  /** 0 as long as nobody has said anything. */
  readonly revision: number;
}

export interface WorkspaceSettings {
  /** As of a second ago at most. */
  of(workspaceId: string): Promise<WorkspaceRouting>;
  get(context: RequestContext): Promise<RoutingSettings>;
  /** Throws INVALID_ARGUMENT by field, or ABORTED with reason ETAG_MISMATCH. */
  update(context: RequestContext, request: UpdateRoutingSettingsRequest): Promise<RoutingSettings>;
}

const NOTHING_SAID: WorkspaceRouting = {
  strategy: undefined,
  weights: DEFAULT_WEIGHTS,
  rejects: false,
  revision: 0,
};

export function createWorkspaceSettings(
  repository: RoutingSettingsRepository,
  runtime: Runtime,
  audit: Audit,
): WorkspaceSettings {
  const held = holdBriefly(runtime, async (workspaceId) => routingOf(await repository.get(workspaceId)));

  return {
    of: held.get,

    get: async ({ workspaceId }) => viewOf(await repository.get(workspaceId)),

    async update(context, { routingSettings: given, updateMask }) {
      const { workspaceId } = context;
      if (!given) throw invalidArgument([{ field: "routingSettings", description: "is required" }]);
      const paths = updateMask?.paths ?? ["*"];
      refuse(violationsOf(given, paths));
      const names = (path: string) => paths.includes(path) || paths.includes("*");
      for (let tries = 0; tries < MOST_TRIES; tries++) {
        const stored = await repository.get(workspaceId);
        const revision = stored?.revision ?? 0;
        if (given.etag !== "" && revisionIn(given.etag) !== String(revision)) throw changedMeanwhile();
        const base = stored?.said ?? EMPTY;
        const weights = names("weights") ? given.weights : base.weights;
        const said = create(RoutingSettingsSchema, {
          strategy: names("strategy") ? (strategyNamed(given.strategy) ?? "") : base.strategy,
          ...(weights && { weights }),
          whenNothingFits: names("when_nothing_fits") ? given.whenNothingFits : base.whenNothingFits,
        });
        const updatedAt = runtime.now();
        const deed = { action: "routing-settings.put", targetType: "routing-settings", targetId: workspaceId };
        const record = audit.recording(context, { ...deed, detail: { fields: [...new Set(paths)] } });
        if (await repository.put(workspaceId, said, revision, updatedAt, record)) {
          held.forget(workspaceId);
          return viewOf({ said, revision: revision + 1, updatedAt });
        }
      }
      throw changedMeanwhile();
    },
  };
}

const changedMeanwhile = () => etagMismatch("The routing settings were");

const EMPTY = create(RoutingSettingsSchema);
const KNOWN: readonly number[] = Object.values(WhenNothingFits);

/** What is wrong with settings, as far as `paths` name it. */
function violationsOf(given: RoutingSettings, paths: readonly string[]): FieldViolation[] {
  const names = (path: string) => paths.includes(path) || paths.includes("*");
  const unknown = paths.filter((path) => path !== "*" && !CHANGEABLE.includes(path));
  const { strategy, weights, whenNothingFits } = given;
  return [
    ...unknown.map((path) => ({ field: "updateMask", description: `"${clip(path)}" cannot be changed` })),
    ...(names("strategy") && strategy !== "" && !strategyNamed(strategy)
      ? [{ field: "routingSettings.strategy", description: `${STRATEGY_RULE}, or empty` }]
      : []),
    ...(names("weights") && weights ? weightViolations(weights, "routingSettings.weights") : []),
    ...(names("when_nothing_fits") && !KNOWN.includes(whenNothingFits)
      ? [{ field: "routingSettings.whenNothingFits", description: "must be REFUSE or REJECT" }]
      : []),
  ];
}

/** A strategy that only a newer version knows counts as none. */
function routingOf(stored: StoredRoutingSettings | undefined): WorkspaceRouting {
  if (!stored) return NOTHING_SAID;
  const { said, revision } = stored;
  return {
    strategy: strategyNamed(said.strategy),
    weights: said.weights ?? DEFAULT_WEIGHTS,
    rejects: said.whenNothingFits === WhenNothingFits.REJECT,
    revision,
  };
}

/** The settings as clients see them, with the defaults of what was not said. */
function viewOf(stored: StoredRoutingSettings | undefined): RoutingSettings {
  const { strategy, weights, rejects, revision } = routingOf(stored);
  return create(RoutingSettingsSchema, {
    strategy: strategy ?? "",
    weights: { ...weights },
    whenNothingFits: rejects ? WhenNothingFits.REJECT : WhenNothingFits.REFUSE,
    revision,
    etag: etagOf(revision),
    ...(stored && { updateTime: timestampFromDate(stored.updatedAt) }),
  });
}
