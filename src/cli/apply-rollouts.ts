/** Rollouts of a file for `signalbox apply`. */
import { clone, create, equals } from "@bufbuild/protobuf";
import {
  AlertThresholdsSchema,
  CompatibilityMode,
  FallbackCondition,
  type Rollout,
  RolloutSchema,
  RouteMode,
} from "../../gen/signalbox/v1/rollout_pb.ts";
import type { ConfigProblem } from "../config/config-error.ts";
import { isDnsLabel } from "../domain/identifiers.ts";
import { DEFAULT_ROLLOUT } from "../domain/rollout.ts";
import type { SignalboxClient } from "../sdk/client.ts";
import type { ApplyItem, Outcome } from "./apply-item.ts";
import { type Described, decode } from "./described.ts";

/** A rollout: that of a capability, or without `capabilityId` that of the workspace. What it leaves out has its default. */
export function rolloutItem(described: Described, problems: ConfigProblem[]): ApplyItem | undefined {
  const wanted = decode(RolloutSchema, described, problems);
  if (!wanted) return undefined;
  const { capabilityId } = wanted;
  if (capabilityId !== "" && !isDnsLabel(capabilityId)) {
    problems.push({
      where: described.where(["capabilityId"]),
      message: "capabilityId: must be a DNS label, or left out.",
    });
  }
  for (const name of ["etag", "updateTime", "update_time"].filter((each) => each in described.fields)) {
    problems.push({ where: described.where([name]), message: `${name}: is the server's to say; leave it out.` });
  }
  return {
    name: `rollout/${capabilityId || "workspace"}`,
    where: described.where(),
    apply: (client, dryRun) => applyRollout(client, wanted, dryRun),
  };
}

async function applyRollout({ rollouts }: SignalboxClient, wanted: Rollout, dryRun: boolean): Promise<Outcome> {
  const { capabilityId } = wanted;
  const current = await rollouts.getRollout({ capabilityId });
  const isNew = current.etag === "";
  if (!isNew && equals(RolloutSchema, withDefaults(current), withDefaults(wanted))) return "unchanged";
  if (!dryRun) await rollouts.updateRollout({ rollout: { ...wanted, etag: current.etag } });
  return isNew ? "created" : "configured";
}

/** The same rollout, with everything said that it leaves to its default, and nothing that the server alone says. */
function withDefaults(rollout: Rollout): Rollout {
  const whole = clone(RolloutSchema, rollout);
  const { errorRate, p95Ms, retryRate, circuitOpenRate } = DEFAULT_ROLLOUT.alertThresholds;
  const said = whole.alertThresholds;
  whole.etag = "";
  delete whole.updateTime;
  whole.compatibilityMode ||= CompatibilityMode.NONE;
  whole.routeModeDefault ||= RouteMode.AUTO;
  whole.alertThresholds = create(AlertThresholdsSchema, {
    errorRate: said?.errorRate || errorRate,
    p95Ms: said?.p95Ms || BigInt(p95Ms),
    retryRate: said?.retryRate || retryRate,
    circuitOpenRate: said?.circuitOpenRate || circuitOpenRate,
  });
  if (whole.canaryTarget?.target.case === undefined) delete whole.canaryTarget;
  if (whole.mirror?.agentId === "" && whole.mirror.percent === 0) delete whole.mirror;
  if (whole.hedging && !whole.hedging.enabled) delete whole.hedging;
  if (whole.hedging) {
    whole.hedging.quantile ||= 0.95;
    whole.hedging.minDelayMs ||= 50n;
  }
  for (const step of whole.fallbackChain) {
    if (step.conditions.length === 0) step.conditions = [...ANY_CONDITION];
    step.conditions.sort((a, b) => a - b);
  }
  return whole;
}

const ANY_CONDITION = Object.values(FallbackCondition).filter((each) => each !== FallbackCondition.UNSPECIFIED);
