/** How much a workspace may be allowed to use. Pure. */
import type { Quotas } from "../../../gen/signalbox/v1/workspace_pb.ts";
import type { FieldViolation } from "../errors.ts";

const MAX_BYTES = BigInt(Number.MAX_SAFE_INTEGER);

const RANGES = [
  ["tasksPerSecond", 1n, 1_000_000n],
  ["tasksInFlight", 1n, 10_000_000n],
  ["storedBytes", 1_048_576n, MAX_BYTES],
  ["streams", 1n, 1_000_000n],
  ["principalCallsPerSecond", 1n, 1_000_000n],
] as const;

/** Each number that is out of its range; one that is left out has no limit. */
export function quotaViolations(quotas: Quotas, at: string): FieldViolation[] {
  return RANGES.flatMap(([name, least, most]) => {
    const said = quotas[name];
    if (said === undefined || (BigInt(said) >= least && BigInt(said) <= most)) return [];
    return [{ field: `${at}.${name}`, description: `must be from ${least} to ${most}; leave it out for no limit` }];
  });
}
