/**
 * One suite of cases through every binding, on one server. Each case must give in each binding what it says it gives, and
 * in all of them the same: equal results, and errors with equal messages and details under each binding's own code.
 */
import { randomUUID } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { type Binding, type Client, RpcError } from "./bindings/binding.ts";
import { connectInBinary, connectInJson, grpcAtHttpPort, grpcWeb } from "./bindings/connect.ts";
import { grpcJs } from "./bindings/grpc-js.ts";
import { httpJson } from "./bindings/http-json.ts";
import { jsonRpc } from "./bindings/json-rpc.ts";
import {
  type CallStep,
  type ConformanceCase,
  type ExpectedError,
  methodOf,
  readCaseFiles,
  type Step,
} from "./case-file.ts";
import { bindingCode, type CodeTable } from "./error-codes.ts";
import { mismatches, normalize, substitute, valueAt } from "./match.ts";
import { agentCards, handlers } from "./scripted-agents.ts";

const BINDINGS = [grpcJs, grpcAtHttpPort, connectInJson, connectInBinary, grpcWeb, httpJson, jsonRpc];

/** What came of one step. */
interface Outcome {
  items: JsonValue[];
  error?: RpcError;
}

describe.each(["pglite", "postgres"] as const)("on %s", (backend) => {
  let app: TestApp;
  const clients = new Map<Binding, Client>();

  beforeAll(async () => {
    const extended = fileURLToPath(new URL("extended-card.json", import.meta.url));
    const settings = { "card.extended": extended, "push.attempts": "1" };
    app = await startTestApp({ backend, settings, inProcess: handlers });
    for (const [agentId, card] of Object.entries(agentCards)) await post("/v1/agents", { agentId, card });
    await post("/v1/agents/actor:setDefault", {});
    for (const binding of BINDINGS) clients.set(binding, binding.connect(app));
  });

  afterAll(async () => {
    for (const client of clients.values()) client.close();
    await app.close();
  });

  async function post(path: string, body: JsonObject): Promise<void> {
    const headers = { "content-type": "application/json" };
    const response = await fetch(app.httpUrl + path, { method: "POST", headers, body: JSON.stringify(body) });
    expect(response.status, await response.text()).toBe(200);
  }

  describe.each(readCaseFiles())("$name", ({ cases }) => {
    describe.each(cases)("$name", (conformanceCase) => {
      /** What the first binding made of the case. */
      let first: { binding: string; outcomes: JsonValue } | undefined;

      test.each(bindingsOf(conformanceCase))("$name", async (binding, { signal }) => {
        const outcomes = comparable(
          await runSteps(conformanceCase.steps, binding.codes, clients.get(binding)!, signal),
        );
        first ??= { binding: binding.name, outcomes };
        expect(outcomes, `not the same as over ${first.binding}`).toEqual(first.outcomes);
      });
    });
  });
});

/** The bindings that have all the RPCs of a case, without those that it excepts. */
function bindingsOf({ name, except, steps }: ConformanceCase): Binding[] {
  const unknown = Object.keys(except).filter((excepted) => !BINDINGS.some((binding) => binding.name === excepted));
  if (unknown.length > 0) throw new Error(`${name}: there is no binding ${unknown.join()}`);
  const services = steps.flatMap((step) => ("rpc" in step ? [methodOf(step).parent] : []));
  return BINDINGS.filter((binding) => !(binding.name in except) && services.every((s) => binding.services.includes(s)));
}

/** Takes the steps one after the other and checks each. */
async function runSteps(steps: readonly Step[], codes: CodeTable, client: Client, signal: AbortSignal) {
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
  return outcomes;
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
  codes: CodeTable,
): string[] {
  const wanted = items ?? (result ? [result] : []);
  if (!error && outcome.error) return [`unexpected error ${outcome.error.code}: ${outcome.error.message}`];
  const wrongItems = mismatches(wanted, outcome.items, "items");
  return error ? [...wrongItems, ...errorFaults(error, outcome.error, codes)] : wrongItems;
}

function errorFaults(expected: ExpectedError, error: RpcError | undefined, codes: CodeTable): string[] {
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

/** What must be equal in all bindings. Their codes have a table for each; see bindingCode. */
function comparable(outcomes: readonly Outcome[]): JsonValue {
  return normalize(
    outcomes.map(({ items, error }) => ({
      items,
      ...(error && { error: { message: error.message, details: [...error.details] } }),
    })),
  );
}
