/**
 * Two servers on one PostgreSQL, one of them with policy files of its own: they take over a policy at different moments, and each
 * decision says by what it was made.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConnectError } from "@connectrpc/connect";
import { beforeAll, expect, test } from "vitest";
import { sendRequest } from "../../src/sdk/client.ts";
import { type Replica, startTwoReplicas, type TwoReplicas } from "./two-replicas.ts";

const denying = (agentId: string) => `version: 1\nrules: [{effect: DENY, when: {agent_id: ${agentId}}}]\n`;
const digestOf = (text: string) => createHash("sha256").update(text).digest("hex");

const folder = mkdtempSync(join(tmpdir(), "signalbox-policy-"));
const path = join(folder, "policy.yaml");
/** As editors and deployments do it: another file under the same name. */
function replace(text: string): void {
  writeFileSync(`${path}.new~`, text);
  renameSync(`${path}.new~`, path);
}

let a: Replica;
let b: Replica;

beforeAll(async () => {
  replace(denying("nobody"));
  const replicas: TwoReplicas = await startTwoReplicas({ flagsOfA: { "policy.path": path } });
  ({ a, b } = replicas);
  return async () => {
    await replicas.close();
    rmSync(folder, { recursive: true });
  };
});

const request = sendRequest("hello", { agent: "puppet" });
const decision = ({ client }: Replica) => client.routes.previewRoute({ request });
const put = ({ client }: Replica, document: string, etag = "") =>
  client.policies.putPolicy({ policy: { document, etag } });

test("a change holds here at once and there soon; of two who change at once one is told", async () => {
  // B has a policy of its own, and A's files are A's alone.
  const first = await put(b, denying("nobody"));
  expect((await decision(b)).policy).toMatchObject({ policyVersion: 1, fileDigests: [] });
  expect((await decision(a)).policy?.fileDigests).toHaveLength(1);

  const second = await put(a, denying("puppet"), first.etag);
  const changedAt = performance.now();
  expect((await decision(a)).agentId).toBe("");
  let asked: number;
  let seen: Awaited<ReturnType<typeof decision>>;
  do {
    asked = performance.now();
    seen = await decision(b);
    // Until then B goes by the first version, whole, and says so.
    if (seen.agentId === "puppet") expect(seen.policy?.policyVersion).toBe(first.version);
  } while (seen.agentId === "puppet" && asked - changedAt < 1000);
  // Whatever was asked a second after the change must have seen it.
  expect((await decision(b)).cuts).toMatchObject([{ reason: "POLICY" }]);

  const both = await Promise.allSettled([put(a, denying("ann"), second.etag), put(b, denying("ben"), second.etag)]);
  const [late] = both.flatMap((one) => (one.status === "rejected" ? [ConnectError.from(one.reason)] : []));
  expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  expect(late?.rawMessage).toContain("changed by someone else meanwhile");
  const versions = await Promise.all([a, b].map(({ client }) => client.policies.getPolicy({})));
  expect(versions.map(({ version }) => version)).toEqual([3, 3]);
  expect(versions[0]?.document).toBe(versions[1]?.document);
});

test("files are taken over while the server runs, and with mistakes keep what held before", async () => {
  await put(b, "");
  replace(denying("puppet"));
  await a.logged.until("policy files are in force");
  expect((await decision(a)).cuts).toMatchObject([{ reason: "POLICY" }]);
  const { files } = await a.client.policies.getPolicy({});
  expect(files).toMatchObject([{ name: "policy.yaml", digest: digestOf(denying("puppet")), loadTime: {} }]);
  const refused = await a.client.send("hello", { agent: "puppet" }).catch((error: unknown) => ConnectError.from(error));
  expect(refused).toMatchObject({ rawMessage: expect.stringContaining("Refused by policy.yaml rules[0].") });
  // They are A's alone.
  expect((await decision(b)).agentId).toBe("puppet");

  replace("version: 1\nrules:\n  - effect: PERMIT\n");
  const told = await a.logged.until("a policy file is refused; what held before holds on");
  expect(told).toMatchObject({ file: "policy.yaml", line: 3, rule: "rules[0].effect", problem: expect.any(String) });
  const { fileProblems } = await a.client.policies.getPolicy({});
  expect(fileProblems).toMatchObject([{ file: "policy.yaml", line: 3, path: "rules[0].effect" }]);
  expect((await decision(a)).cuts).toMatchObject([{ reason: "POLICY" }]);
});
