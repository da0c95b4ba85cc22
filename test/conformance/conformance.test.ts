/**
 * One suite of cases through every binding, on one server. Each case must give in each binding what it says it gives, and
 * in all of them the same: equal results, and errors with equal messages and details under each binding's own code.
 */
import { fileURLToPath } from "node:url";
import type { JsonValue } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { BACKENDS } from "../store/backends.ts";
import { BINDINGS } from "./bindings/all-bindings.ts";
import type { Binding, Client } from "./bindings/binding.ts";
import { type ConformanceCase, methodOf, readCaseFiles } from "./case-file.ts";
import { runCase } from "./run-case.ts";
import { act, strictCard } from "./scripted-agent.ts";

describe.each(BACKENDS)("on %s", (backend) => {
  let app: TestApp;
  const clients = new Map<Binding, Client>();

  beforeAll(async () => {
    const flags = {
      "card.extended": fileURLToPath(new URL("extended-card.json", import.meta.url)),
      "push.attempts": "1",
      // It would change from one binding to the next, by what they all did and by the time between.
      "reputation.enabled": "false",
      "limits.running-tasks": "4",
      "limits.queued-tasks": "0",
      // Agents fail here as often as cases want them to.
      "circuit.failures": "0",
      "outlier.max-ejected-percent": "0",
    };
    app = await startTestApp({ backend, flags, agents: { actor: act } });
    await app.register("strict", { card: strictCard });
    const { status } = await fetch(`${app.httpUrl}/v1/agents/actor:setDefault`, { method: "POST" });
    expect(status).toBe(200);
    for (const binding of BINDINGS) clients.set(binding, binding.connect(app));
  });

  afterAll(async () => {
    for (const client of clients.values()) client.close();
    await app?.stop();
  });

  describe.each(readCaseFiles())("$name", ({ cases }) => {
    describe.each(cases)("$name", (conformanceCase) => {
      /** What the first binding made of the case. */
      let first: { name: string; outcomes: JsonValue } | undefined;

      test.for(bindingsOf(conformanceCase))("$name", async (binding, { signal }) => {
        const outcomes = await runCase(conformanceCase.steps, binding, clients.get(binding)!, signal);
        first ??= { name: binding.name, outcomes };
        expect(outcomes, `not the same as over ${first.name}`).toEqual(first.outcomes);
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
