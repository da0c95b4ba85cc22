/** What may be said of a rollout, and what follows from what was said. Pure. */
import { create } from "@bufbuild/protobuf";
import {
  AlertThresholdsSchema,
  type CanaryTarget,
  CompatibilityMode as GivenCompatibilityMode,
  FallbackCondition as GivenCondition,
  type FallbackStep as GivenFallbackStep,
  type Rollout as GivenRollout,
  RouteMode as GivenRouteMode,
  HedgingSchema,
  RolloutSchema,
} from "../../gen/signalbox/v1/rollout_pb.ts";
import type { FieldViolation } from "./errors.ts";
import { isDnsLabel } from "./identifiers.ts";
import {
  DEFAULT_ROLLOUT,
  type FallbackCondition,
  type FallbackStep,
  type FallbackTarget,
  type Rollout,
} from "./rollout.ts";

/** What UpdateRollout said: the message as it came. What it leaves empty has its default. */
export type { GivenRollout };

/** Steps of a fallback chain at most. */
export const MAX_FALLBACKS = 8;
/** Longest value of the label `version`, as of any label. */
const MAX_VERSION_LENGTH = 63;
/** A year: nothing that takes longer is measured in milliseconds. */
const MAX_LATENCY_MS = 31_536_000_000n;
const MIN_QUANTILE = 0.5;
const MAX_QUANTILE = 0.999;
const MAX_MIN_DELAY_MS = 600_000n;
const DEFAULT_QUANTILE = 0.95;
const DEFAULT_MIN_DELAY_MS = 50;

/** Fields that a mask may name: all that say how traffic is steered. */
const CHANGEABLE = [
  "canaryEnabled",
  "canaryPercent",
  "canaryTarget",
  "rollbackToLocal",
  "compatibilityMode",
  "dualEventWrite",
  "routeModeDefault",
  "fallbackChain",
  "alertThresholds",
  "mirror",
  "hedging",
] as const;

const BY_PATH: ReadonlyMap<string, (typeof CHANGEABLE)[number]> = new Map(
  CHANGEABLE.map((field) => [field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), field]),
);

/** Paths of an update mask that name nothing that can be changed. */
export const unknownPaths = (paths: readonly string[]): string[] =>
  paths.filter((path) => path !== "*" && !BY_PATH.has(path));

/** What was given, with what the paths name taken from the change; without paths, or with `*`, everything. */
export function changed(given: GivenRollout, change: GivenRollout, paths: readonly string[]): GivenRollout {
  const fields =
    paths.length === 0 || paths.includes("*") ? CHANGEABLE : paths.flatMap((path) => BY_PATH.get(path) ?? []);
  const taken = Object.fromEntries(fields.map((field) => [field, change[field]]));
  return { ...create(RolloutSchema), ...given, ...taken };
}

/** The violations of an id that names a capability, or, where it is empty, the workspace. */
export function rolloutIdViolations(field: string, capabilityId: string): FieldViolation[] {
  return capabilityId === "" || isDnsLabel(capabilityId) ? [] : [{ field, description: ID_RULE }];
}

const ID_RULE = "must be an id: a DNS label, at most 63 of a-z, 0-9 and - inside";

/** What is wrong with a rollout by itself, with paths below `rollout`. Whether chains are cyclic, `chainCycle` tells. */
export function rolloutViolations(given: GivenRollout): FieldViolation[] {
  const { canaryTarget: target, mirror, hedging, alertThresholds } = given;
  const found: FieldViolation[] = [];
  const check = (isRight: boolean, field: string, description: string) => {
    if (!isRight) found.push({ field: `rollout.${field}`, description });
  };
  check(isPercent(given.canaryPercent), "canaryPercent", PERCENT_RULE);
  check(!given.canaryEnabled || !!target?.target.case, "canaryTarget", "is required: name an agent or a version");
  checkCanaryTarget(target, check);
  const { compatibilityMode: mode, dualEventWrite } = given;
  check(isOf(GivenCompatibilityMode, mode), "compatibilityMode", "must be COMPATIBILITY_MODE_NONE or _A2A_0_3");
  check(
    !dualEventWrite || mode > GivenCompatibilityMode.NONE,
    "dualEventWrite",
    "needs a compatibilityMode other than COMPATIBILITY_MODE_NONE: whose keys to write",
  );
  check(isOf(GivenRouteMode, given.routeModeDefault), "routeModeDefault", "must be ROUTE_MODE_AUTO, _LOCAL or _REMOTE");
  checkChain(given, check);
  if (alertThresholds) {
    const { errorRate, p95Ms, retryRate, circuitOpenRate } = alertThresholds;
    for (const [name, rate] of Object.entries({ errorRate, retryRate, circuitOpenRate }))
      check(rate >= 0 && rate <= 1, `alertThresholds.${name}`, "must be a share from 0 to 1; 0 is the default");
    check(
      p95Ms >= 0n && p95Ms <= MAX_LATENCY_MS,
      "alertThresholds.p95Ms",
      `must be from 0 to ${MAX_LATENCY_MS} milliseconds; 0 is the default`,
    );
  }
  if (mirror) {
    check(isDnsLabel(mirror.agentId), "mirror.agentId", mirror.agentId === "" ? "is required" : ID_RULE);
    check(isPercent(mirror.percent), "mirror.percent", PERCENT_RULE);
  }
  if (hedging) {
    const { quantile, minDelayMs } = hedging;
    check(
      quantile === 0 || (quantile >= MIN_QUANTILE && quantile <= MAX_QUANTILE),
      "hedging.quantile",
      `must be from ${MIN_QUANTILE} to ${MAX_QUANTILE}; leave it out for ${DEFAULT_QUANTILE}`,
    );
    check(
      minDelayMs >= 0n && minDelayMs <= MAX_MIN_DELAY_MS,
      "hedging.minDelayMs",
      `must be from 1 to ${MAX_MIN_DELAY_MS}; leave it out for ${DEFAULT_MIN_DELAY_MS}`,
    );
  }
  return found;
}

type Check = (isRight: boolean, field: string, description: string) => void;

const isOf = (names: Readonly<Record<string, number>>, value: number): boolean => Object.values(names).includes(value);

const PERCENT_RULE = "must be from 0 to 100";
const isPercent = (value: number): boolean => value >= 0 && value <= 100;

function checkCanaryTarget(target: CanaryTarget | undefined, check: Check): void {
  if (target?.target.case === "agentId") check(isDnsLabel(target.target.value), "canaryTarget.agentId", ID_RULE);
  if (target?.target.case === "version") {
    const { length } = target.target.value;
    check(
      length > 0 && length <= MAX_VERSION_LENGTH,
      "canaryTarget.version",
      `must be the value of a label: 1 to ${MAX_VERSION_LENGTH} characters`,
    );
  }
}

function checkChain({ capabilityId, fallbackChain: chain }: GivenRollout, check: Check): void {
  check(chain.length <= MAX_FALLBACKS, "fallbackChain", `at most ${MAX_FALLBACKS} steps`);
  if (chain.length > MAX_FALLBACKS) return;
  const seen = new Set<string>();
  chain.forEach(({ target, conditions }, i) => {
    const at = `fallbackChain[${i}]`;
    check(target.case !== undefined, at, "needs an agentId or a capabilityId");
    check(
      conditions.every((condition) => condition !== GivenCondition.UNSPECIFIED && isOf(GivenCondition, condition)),
      `${at}.conditions`,
      `must be of ${Object.keys(CONDITIONS)
        .map((name) => `FALLBACK_CONDITION_${name}`)
        .join(", ")}`,
    );
    if (target.case === undefined) return;
    const key = `${target.case} ${target.value}`;
    check(isDnsLabel(target.value), `${at}.${target.case}`, ID_RULE);
    check(!seen.has(key), `${at}.${target.case}`, "is in the chain already: name everybody once");
    seen.add(key);
    const isItself = target.case === "capabilityId" && capabilityId !== "" && target.value === capabilityId;
    check(!isItself, `${at}.${target.case}`, "is the capability itself: name another one");
  });
}

/**
 * The capabilities through which a chain of fallbacks comes back to where it began, the first of them again at the end;
 * undefined when there is no such way. `chains` holds the capabilities that each one falls back to.
 */
export function chainCycle(chains: ReadonlyMap<string, readonly string[]>, from: string): string[] | undefined {
  const seen = new Set<string>();
  // Each with the way that led there: a chain that is refused is shown whole.
  const ways: string[][] = [[from]];
  for (let way = ways.pop(); way; way = ways.pop()) {
    for (const next of chains.get(way.at(-1)!) ?? []) {
      if (next === from) return [...way, next];
      if (seen.has(next)) continue;
      seen.add(next);
      ways.push([...way, next]);
    }
  }
  return undefined;
}

/** The capabilities that a chain names. */
export const fallbackCapabilities = ({ fallbackChain }: Pick<GivenRollout, "fallbackChain">): string[] =>
  fallbackChain.flatMap(({ target }) => (target.case === "capabilityId" ? [target.value] : []));

const CONDITIONS: Readonly<Record<FallbackCondition, GivenCondition>> = {
  NO_CANDIDATE: GivenCondition.NO_CANDIDATE,
  UNAVAILABLE: GivenCondition.UNAVAILABLE,
  FULL: GivenCondition.FULL,
  FAILED: GivenCondition.FAILED,
};

const CONDITION_NAMES = Object.keys(CONDITIONS) as FallbackCondition[];

/** What was said, as the domain sees it: checked before, and with the defaults filled in. */
export function rolloutOf(given: GivenRollout): Rollout {
  const { mirror, hedging, canaryTarget } = given;
  const target = canaryTarget?.target;
  const thresholds = thresholdsOf(given);
  return {
    canary:
      given.canaryEnabled && target?.case
        ? {
            percent: given.canaryPercent,
            target: target.case === "agentId" ? { agentId: target.value } : { version: target.value },
          }
        : undefined,
    rollbackToLocal: given.rollbackToLocal,
    compatibilityMode: given.compatibilityMode === GivenCompatibilityMode.A2A_0_3 ? "A2A_0_3" : "NONE",
    dualEventWrite: given.dualEventWrite,
    routeModeDefault:
      given.routeModeDefault === GivenRouteMode.LOCAL
        ? "LOCAL"
        : given.routeModeDefault === GivenRouteMode.REMOTE
          ? "REMOTE"
          : "AUTO",
    fallbackChain: given.fallbackChain.flatMap((step) => stepOf(step) ?? []),
    alertThresholds: { ...thresholds, p95Ms: Number(thresholds.p95Ms) },
    mirror: mirror && mirror.percent > 0 ? { agentId: mirror.agentId, percent: mirror.percent } : undefined,
    hedging: hedging?.enabled
      ? {
          quantile: hedging.quantile || DEFAULT_QUANTILE,
          minDelayMs: Number(hedging.minDelayMs) || DEFAULT_MIN_DELAY_MS,
        }
      : undefined,
  };
}

function stepOf({ target, conditions }: GivenFallbackStep): FallbackStep | undefined {
  if (target.case === undefined) return undefined;
  const named: FallbackTarget = target.case === "agentId" ? { agentId: target.value } : { capabilityId: target.value };
  const leading = CONDITION_NAMES.filter((name) => conditions.includes(CONDITIONS[name]));
  return { ...named, conditions: leading.length > 0 ? leading : CONDITION_NAMES };
}

/** A step and a condition as the contract writes them, for the record of a decision. */
export function givenStep(step: FallbackStep): GivenFallbackStep {
  return {
    $typeName: "signalbox.v1.FallbackStep",
    target:
      "agentId" in step ? { case: "agentId", value: step.agentId } : { case: "capabilityId", value: step.capabilityId },
    conditions: step.conditions.map(givenCondition),
  };
}

export const givenCondition = (condition: FallbackCondition): GivenCondition => CONDITIONS[condition];

/** What was said as clients see it: with the defaults in the place of what was left out. */
export function withDefaults(given: GivenRollout): GivenRollout {
  const { hedging } = given;
  return {
    ...given,
    compatibilityMode: given.compatibilityMode || GivenCompatibilityMode.NONE,
    routeModeDefault: given.routeModeDefault || GivenRouteMode.AUTO,
    alertThresholds: create(AlertThresholdsSchema, thresholdsOf(given)),
    hedging:
      hedging &&
      create(HedgingSchema, {
        enabled: hedging.enabled,
        quantile: hedging.quantile || DEFAULT_QUANTILE,
        minDelayMs: hedging.minDelayMs || BigInt(DEFAULT_MIN_DELAY_MS),
      }),
  };
}

function thresholdsOf({ alertThresholds: said }: GivenRollout) {
  const { errorRate, p95Ms, retryRate, circuitOpenRate } = DEFAULT_ROLLOUT.alertThresholds;
  return {
    errorRate: said?.errorRate || errorRate,
    p95Ms: said?.p95Ms || BigInt(p95Ms),
    retryRate: said?.retryRate || retryRate,
    circuitOpenRate: said?.circuitOpenRate || circuitOpenRate,
  };
}
