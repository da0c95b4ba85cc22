/** Workspaces over the wire and on the command line. */
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { beforeAll, expect, test } from "vitest";
import { RegistryService } from "../../gen/signalbox/v1/registry_pb.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { failureOf } from "../fault/said.ts";
import { echoAgent } from "./echo-agent.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
let client: SignalboxClient;

beforeAll(async () => {
  app = await startTestApp({ agents: { echo: echoAgent("echo") } });
  client = createSignalboxClient({ baseUrl: app.httpUrl });
  return () => app.stop();
});

async function command(...args: string[]) {
  const { code, out, err } = await runCommand(app.httpUrl, args);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return out;
}

test("workspaces are made, listed, suspended and resumed on the command line", async () => {
  expect(await command("workspaces", "create", "acme", "--name", "Acme")).toMatch(/^Workspace +acme\nName +Acme\n/);
  expect(await command("workspaces", "list")).toMatch(
    /WORKSPACE +STATE +AGE +NAME\nacme +ACTIVE +\d+s +Acme\ndefault +ACTIVE/,
  );
  expect(await command("workspaces", "suspend", "acme", "--reason", "unpaid")).toMatch(
    /Suspended .*\nBecause +unpaid\n/,
  );
  expect(JSON.parse(await command("workspaces", "get", "acme", "--json"))).toMatchObject({
    workspaceId: "acme",
    suspendReason: "unpaid",
  });
  expect(await command("workspaces", "resume", "acme")).not.toContain("Suspended");
  const own = JSON.parse(await command("workspaces", "get", "--json"));
  expect(own.workspaceId).toBe("default");
  const refused = await runCommand(app.httpUrl, ["workspaces", "create", "acme"]);
  expect(refused).toMatchObject({ code: 1, err: expect.stringContaining("WORKSPACE_EXISTS (ALREADY_EXISTS)") });
});

test("quotas are set as a whole and shown", async () => {
  await command("workspaces", "create", "quoted");
  const set = await command("quotas", "set", "quoted", "--tasks-per-second", "5", "--stored-bytes", "2000000000000");
  expect(set).toMatch(/new tasks a second +5\n/);
  const { quotas } = JSON.parse(await command("quotas", "get", "quoted", "--json"));
  expect(quotas).toEqual({ tasksPerSecond: 5, storedBytes: "2000000000000", etag: '"1"' });
  const stale = await runCommand(app.httpUrl, ["quotas", "set", "quoted", "--streams", "1", "--etag", '"0"']);
  expect(stale).toMatchObject({ code: 1, err: expect.stringContaining("ETAG_MISMATCH") });
  expect((await runCommand(app.httpUrl, ["quotas", "set", "quoted", "--streams", "many"])).code).toBe(2);
});

test("members are put, listed and removed, of another workspace too", async () => {
  await command("workspaces", "create", "staffed");
  const anna = "jwt/login.example/anna";
  await command("members", "put", anna, "--of", "staffed", "--role", "caller", "agent", "--scope", "audit.admin");
  expect(await command("members", "list", "--of", "staffed")).toMatch(
    /jwt\/login\.example\/anna +caller,agent +audit\.admin +- +yes +\d+s +anonymous/,
  );
  expect(await command("members", "list")).toContain("There are no members");
  expect(await command("members", "remove", anna, "--of", "staffed")).toContain("no member any more");
  const gone = await runCommand(app.httpUrl, ["members", "remove", anna, "--of", "staffed"]);
  expect(gone.err).toContain("MEMBER_NOT_FOUND");
});

test("grants are offered, listed and revoked", async () => {
  const offered = JSON.parse(
    await command("grants", "offer", "echo", "elsewhere", "--expires", "2999-01-01T00:00:00Z", "--json"),
  );
  expect(offered).toMatchObject({ consumerWorkspaceId: "elsewhere", state: "GRANT_STATE_PENDING" });
  expect(await command("grants", "list", "--state", "pending")).toContain(offered.grantId);
  const refused = await runCommand(app.httpUrl, ["grants", "accept", offered.grantId]);
  expect(refused.err).toContain("GRANT_NOT_FOUND");
  expect(await command("grants", "revoke", offered.grantId)).toMatch(/State +revoked/);
  expect(await command("grants", "list", "--state", "pending")).toContain("Nothing is lent");
  expect((await runCommand(app.httpUrl, ["grants", "list", "--state", "odd"])).code).toBe(2);
});

test("over REST, as the annotations say", async () => {
  const made = await fetch(`${app.httpUrl}/v1/workspaces`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ workspaceId: "rested", displayName: "R" }),
  });
  expect([made.status, await made.json()]).toEqual([200, expect.objectContaining({ workspaceId: "rested" })]);
  const suspended = await fetch(`${app.httpUrl}/v1/workspaces/rested:suspend`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ reason: "r" }),
  });
  expect(await suspended.json()).toMatchObject({ suspendReason: "r" });
  const missing = await fetch(`${app.httpUrl}/v1/workspaces/nope/quotas`);
  expect(missing.status).toBe(404);
});

test("nobody anonymous gets into another workspace by naming it", async () => {
  await client.workspaces.createWorkspace({ workspace: { workspaceId: "closed" } });
  const transport = createConnectTransport({
    baseUrl: app.httpUrl,
    httpVersion: "1.1",
    interceptors: [
      (next) => (request) => {
        request.header.set("signalbox-workspace", "closed");
        return next(request);
      },
    ],
  });
  const registry = createClient(RegistryService, transport);
  expect(await failureOf(registry.listAgents({}))).toMatchObject({ reason: "WORKSPACE_NOT_FOUND" });
});
