/** The simple face over HTTP, as curl has it: one line of JSON there, one line of JSON back. */
import { beforeAll, describe, expect, test } from "vitest";
import { act } from "../conformance/scripted-agent.ts";
import { createPuppet, type Puppet } from "../fault/puppet.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
let puppet: Puppet;

beforeAll(async () => {
  puppet = createPuppet();
  app = await startTestApp({ agents: { actor: act, puppet: puppet.handler } });
  return () => app.stop();
});

// biome-ignore lint/suspicious/noExplicitAny: tests look into JSON as it comes
async function call(method: string, path: string, body?: unknown): Promise<{ status: number; json: any }> {
  const response = await fetch(app.httpUrl + path, {
    method,
    ...(body !== undefined && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
  });
  return { status: response.status, json: await response.json() };
}

test("a task is given with a line of JSON, and waited for", async () => {
  const { status, json } = await call("POST", "/v1/tasks", { capabilityId: "actor", text: "complete", wait: true });
  expect({ status, json }).toMatchObject({ status: 200, json: { state: "ENGINE_STATE_COMPLETED" } });
  console.log(JSON.stringify(json, null, 1));
});
