/** What an agent says that a task has cost, in the metadata of its last status, of the task, or of its reply. Pure. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { cachedFrom } from "./cached-result.ts";
import { clip } from "./errors.ts";
import { costMicros } from "./money.ts";
import type { NewUpdate } from "./task-log.ts";
import { isTerminal } from "./task-state.ts";

export const COST_EXTENSION = "urn:signalbox:a2a:cost:v1";

/** What was said: an amount in millionths, or something that is none, clipped. Undefined: nothing. */
export type SaidCost = { readonly micros: number } | { readonly rubbish: string };

/**
 * What rows that end a task say of its cost: a status itself, else its message, else a reply, else the task's metadata, which are
 * `metadata` unless a row brings others. Of what the result cache gave again, nothing was paid: 0.
 */
export function costSaid(updates: readonly NewUpdate[], metadata: JsonObject | undefined): SaidCost | undefined {
  let own: JsonValue | undefined;
  let known = metadata;
  for (const { kind, body } of updates) {
    const { payload } = body;
    if (payload.case === "statusUpdate") {
      const { status, metadata: ofStatus } = payload.value;
      // What was said before the end is no cost, whether it is written together with the end or not.
      if (!status || !isTerminal(status.state)) continue;
      own = ofStatus?.[COST_EXTENSION] ?? status.message?.metadata?.[COST_EXTENSION] ?? own;
    } else if (kind === "reply" && payload.case === "message") {
      if (cachedFrom(payload.value.metadata) !== "") return { micros: 0 };
      own = payload.value.metadata?.[COST_EXTENSION] ?? own;
    } else if (payload.case === "task") known = payload.value.metadata ?? known;
  }
  if (cachedFrom(known) !== "") return { micros: 0 };
  const said = own ?? known?.[COST_EXTENSION];
  if (said === undefined) return undefined;
  const micros = amountIn(said);
  return micros === undefined ? { rubbish: clip(JSON.stringify(said)) } : { micros };
}

/** `{"cost": "0.25"}`, or a number, which is rounded: 0.1 and 0.2 are 0.30000000000000004 for those who reckon with floats. */
function amountIn(said: JsonValue): number | undefined {
  if (typeof said !== "object" || said === null || Array.isArray(said)) return undefined;
  const { cost } = said;
  if (typeof cost === "number") return costMicros(cost.toFixed(6));
  return typeof cost === "string" && cost !== "" ? costMicros(cost) : undefined;
}
