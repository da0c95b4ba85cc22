/** Runs the steps of one case over one binding. */
import { randomUUID } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import type { JsonValue } from "@bufbuild/protobuf";
import { expect } from "vitest";
import { type Binding, type Client, RpcError } from "./bindings/binding.ts";
import { type CallStep, type ExpectedError, methodOf, type Step } from "./case-file.ts";
import { bindingCode } from "./error-codes.ts";
import { mismatches, normalize, substitute, valueAt } from "./match.ts";

/** What came of one step. */
interface Outcome {
  items: JsonValue[];
  error?: RpcError;
}

/** Takes the steps one after the other and checks each. Returns what must be equal in all bindings. */
export async function runCase(
  steps: readonly Step[],
  { codes }: Binding,
  client: Client,
  signal: AbortSignal,
): Promise<JsonValue> {
  const variables = new Map<string, JsonValue>([
    ["context", randomUUID()],
    ["agent", `agent-${randomUUID()}`],
  ]);
  const streams = new Map<string, AsyncGenerator<JsonValue, void>>();
  const outcomes: Outcome[] = [];
  try {
    for (const [index, written] of steps.entries()) {
      await nextMillisecond();
      const step = substitute(written, variables);
      const where = `step ${index + 1}`;
      if ("rest" in step) {
        const outcome = await read(streams.get(step.rest)!);
        expect(faults({ items: step.items }, outcome, codes), `${where}, the rest of ${step.rest}`).toEqual([]);
        outcomes.push(outcome);
        continue;
      }
      const answers = client.call({ method: methodOf(step), request: step.request, headers: step.headers, signal });
      if (step.as !== undefined) streams.set(step.as, answers);
      const outcome = await read(answers, step.as === undefined ? undefined : step.items?.length);
      expect(faults(step, outcome, codes), `${where}, ${step.rpc}`).toEqual([]);
      const captured = step.items ? outcome.items : outcome.items[0]!;
      for (const [name, path] of Object.entries(step.capture)) variables.set(name, valueAt(captured, path));
      outcomes.push(outcome);
    }
  } finally {
    for (const stream of streams.values()) await stream.return();
  }
  return comparable(outcomes);
}

/** Lists sort by the millisecond of a status: statuses of different steps must not share one. */
async function nextMillisecond(): Promise<void> {
  const now = Date.now();
  while (Date.now() === now) await setImmediate();
}

/** Reads `count` items, or to the end. */
async function read(answers: AsyncGenerator<JsonValue, void>, count = Number.POSITIVE_INFINITY): Promise<Outcome> {
  const items: JsonValue[] = [];
  try {
    while (items.length < count) {
      const { done, value } = await answers.next();
      if (done) break;
      items.push(value);
    }
    return { items };
  } catch (error) {
    if (error instanceof RpcError) return { items, error };
    throw error;
  }
}

/** What is wrong with an outcome. */
function faults(
  { result, items, error }: Pick<CallStep, "result" | "items" | "error">,
  outcome: Outcome,
  codes: Binding["codes"],
): string[] {
  const wanted = items ?? (result ? [result] : []);
  if (!error && outcome.error) return [`unexpected error ${outcome.error.code}: ${outcome.error.message}`];
  const wrongItems = mismatches(wanted, outcome.items, "items");
  return error ? [...wrongItems, ...errorFaults(error, outcome.error, codes)] : wrongItems;
}

function errorFaults(expected: ExpectedError, error: RpcError | undefined, codes: Binding["codes"]): string[] {
  if (!error) return [`expected ${expected.reason}, got no error`];
  const { code, message, details } = error;
  const detail = (name: string) => details.filter((d) => d["@type"] === `type.googleapis.com/google.rpc.${name}`);
  const { reason, domain, metadata, fields, retry } = expected;
  const violations = detail("BadRequest").flatMap((d) => d.fieldViolations as { field?: string }[]);
  const wanted = {
    code: bindingCode(codes, expected),
    message: "<text>",
    info: [{ reason, domain, metadata }],
    fields,
    retry: retry ? [{ retryDelay: "<text>" }] : [],
  };
  const got = {
    code,
    message,
    info: detail("ErrorInfo").map((info) => ({ metadata: {}, ...info })),
    fields: violations.map(({ field = "" }) => field),
    retry: detail("RetryInfo"),
  };
  return mismatches(wanted, got, "error");
}

/** Codes are left out: each binding has its own, which bindingCode knows. */
function comparable(outcomes: readonly Outcome[]): JsonValue {
  return normalize(
    outcomes.map(({ items, error }) => ({
      items,
      ...(error && { error: { message: error.message, details: [...error.details] } }),
    })),
  );
}
