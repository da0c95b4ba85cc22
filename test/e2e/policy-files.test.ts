/** The policy files of a running server: they hold beside the policies of workspaces, and every decision names them. */
import { createHash } from "node:crypto";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConnectError } from "@connectrpc/connect";
import { expect, onTestFinished, test } from "vitest";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { createSignalboxClient, sendRequest } from "../../src/sdk/client.ts";
import { logLines } from "../store/log-lines.ts";
import { echoAgent } from "./echo-agent.ts";
import { startTestApp } from "./running-app.ts";

const allowing = (...agents: string[]) => `version: 1\nrules:\n  - {effect: ALLOW, when: {agent_id: [${agents}]}}\n`;
const digestOf = (text: string) => createHash("sha256").update(text).digest("hex");

test("files hold in all workspaces, and are taken over while the server runs", async () => {
  const folder = mkdtempSync(join(tmpdir(), "signalbox-policy-"));
  const path = join(folder, "policy.yaml");
  const replace = (text: string) => {
    writeFileSync(`${path}.new~`, text);
    renameSync(`${path}.new~`, path);
  };
  replace(allowing("ann"));
  const logged = logLines();
  const app = await startTestApp({
    flags: { "policy.path": path, "policy.default": "DENY" },
    agents: { ann: echoAgent("ann"), ben: echoAgent("ben") },
    log: logged.log,
  });
  onTestFinished(async () => {
    await app.stop();
    rmSync(folder, { recursive: true });
  });
  const client = createSignalboxClient({ baseUrl: app.httpUrl });
  const preview = (agent: string) => client.routes.previewRoute({ request: sendRequest("hello", { agent }) });
  const routed = async () => (await Promise.all(["ann", "ben"].map(preview))).map(({ agentId }) => agentId);
  const metric = async (line: string) =>
    expect(await (await fetch(`${app.httpUrl}/metrics`)).text()).toContain(`\n${line}\n`);

  expect(await routed()).toEqual(["ann", ""]);
  const refused = await client.send("hello", { agent: "ben" }).catch((error: unknown) => ConnectError.from(error));
  expect((refused as ConnectError).findDetails(ErrorInfoSchema)[0]).toMatchObject({
    reason: "POLICY_DENIED",
    metadata: { policyVersion: "0" },
  });
  await metric("signalbox_policy_files_valid 1");

  replace(allowing("ann", "ben"));
  await logged.until("policy files are in force");
  expect(await routed()).toEqual(["ann", "ben"]);

  // The workspace's own acts together with them.
  const { version } = await client.policies.putPolicy({
    policy: { document: "version: 1\nrules:\n  - {effect: DENY, when: {agent_id: ann}, description: not Ann}\n" },
  });
  expect(await routed()).toEqual(["", "ben"]);
  expect((await preview("ben")).policy).toMatchObject({
    policyVersion: version,
    fileDigests: [digestOf(allowing("ann", "ben"))],
    rules: [{ file: "policy.yaml", path: "rules[0]", line: 3 }],
  });

  replace(`${allowing("ann")}  - effect: PERMIT\n`);
  await logged.until("a policy file is refused; what held before holds on");
  const { files, fileProblems } = await client.policies.getPolicy({});
  expect(files).toMatchObject([{ name: "policy.yaml", digest: digestOf(allowing("ann", "ben")) }]);
  expect(fileProblems).toMatchObject([{ file: "policy.yaml", line: 4, path: "rules[1].effect" }]);
  expect(await routed()).toEqual(["", "ben"]);
  await metric("signalbox_policy_files_valid 0");
  await metric('signalbox_policy_reloads_total{result="refused"} 1');
});
