/** How much a workspace may use, and what is said to whoever wants more. Pure. */
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { QuotasSchema } from "../../../gen/signalbox/v1/workspace_pb.ts";
import { SignalboxError } from "../errors.ts";

/** As signalbox.v1.Quotas. What is undefined has no limit. */
export interface QuotaLimits {
  readonly tasksPerSecond: number | undefined;
  readonly tasksInFlight: number | undefined;
  readonly storedBytes: number | undefined;
  readonly streams: number | undefined;
  readonly principalCallsPerSecond: number | undefined;
}

/** Names of limits, as clients and metrics have them. */
export type LimitName =
  | "tasks_per_second"
  | "tasks_in_flight"
  | "stored_bytes"
  | "streams"
  | "principal_calls_per_second"
  | "failed_authentications_per_second";

export const LIMIT_NAMES = [
  "tasks_per_second",
  "tasks_in_flight",
  "stored_bytes",
  "streams",
  "principal_calls_per_second",
  "failed_authentications_per_second",
] as const satisfies readonly LimitName[];

export const NO_QUOTAS: QuotaLimits = {
  tasksPerSecond: undefined,
  tasksInFlight: undefined,
  storedBytes: undefined,
  streams: undefined,
  principalCallsPerSecond: undefined,
};

/** Quotas as they are stored: the ProtoJSON of signalbox.v1.Quotas. Throws for what is none. */
export function readQuotas(stored: unknown): QuotaLimits {
  if (stored === null || stored === undefined) return NO_QUOTAS;
  const quotas = fromJson(QuotasSchema, stored as JsonValue, { ignoreUnknownFields: true });
  return {
    tasksPerSecond: quotas.tasksPerSecond,
    tasksInFlight: quotas.tasksInFlight,
    storedBytes: quotas.storedBytes === undefined ? undefined : Number(quotas.storedBytes),
    streams: quotas.streams,
    principalCallsPerSecond: quotas.principalCallsPerSecond,
  };
}

/** What comes too fast. */
type RateName = "tasks_per_second" | "principal_calls_per_second" | "failed_authentications_per_second";

const RATES: Record<RateName, (max: number) => string> = {
  tasks_per_second: (max) => `This workspace may begin ${times(max, "task")} a second, over all servers`,
  principal_calls_per_second: (max) => `You may make ${times(max, "call")} a second, over all servers`,
  failed_authentications_per_second: (max) =>
    `More than ${times(max, "call")} from your address were not authenticated within a second`,
};

/** Too much within a second. `retryAfterMs`: until the second is over. */
export function rateLimited(limit: RateName, max: number, retryAfterMs: number): SignalboxError {
  const ms = Math.max(1, Math.ceil(retryAfterMs));
  return new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "RATE_LIMITED",
    message: `${RATES[limit](max)}. Nothing was done; try again in ${ms} ms.`,
    metadata: { limit, max: String(max) },
    retryAfterMs: ms,
  });
}

type QuotaName = "tasks_in_flight" | "stored_bytes" | "streams";

const QUOTAS: Record<QuotaName, { what: (max: number) => string; remedy: string }> = {
  tasks_in_flight: {
    what: (max) => `${times(max, "task")} in flight`,
    remedy: "Nothing was stored; let some end, and",
  },
  stored_bytes: {
    what: (max) => `${max} bytes of stored tasks`,
    remedy: "Nothing was stored; remove tasks that have ended, and",
  },
  streams: { what: (max) => `${times(max, "stream")} open at once, over all servers`, remedy: "Close some, and" },
};

/** More than there may be at once. `used`: how much there is, where that is known. */
export function quotaExceeded(
  limit: QuotaName,
  max: number,
  used: number | undefined,
  retryAfterMs: number,
): SignalboxError {
  const { what, remedy } = QUOTAS[limit];
  const has = used === undefined ? "" : `, and has ${used}`;
  return new SignalboxError({
    code: "RESOURCE_EXHAUSTED",
    reason: "QUOTA_EXCEEDED",
    message: `This workspace may have ${what(max)}${has}. ${remedy} try again in ${Math.ceil(retryAfterMs / 1_000)} s.`,
    metadata: { limit, max: String(max), ...(used !== undefined && { used: String(used) }) },
    retryAfterMs,
  });
}

const times = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`;
