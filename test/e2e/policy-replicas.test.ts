/** Two servers on one PostgreSQL: they take over a policy at different moments, and each decision says by which it was made. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConnectError } from "@connectrpc/connect";
import { expect, onTestFinished, test } from "vitest";
import { sendRequest } from "../../src/sdk/client.ts";
import { startTwoReplicas } from "./two-replicas.ts";

const denying = (agentId: string) => `version: 1\nrules: [{effect: DENY, when: {agent_id: ${agentId}}}]\n`;

test("a change holds here at once and there soon; of two who change at once one is told", async () => {
  const folder = mkdtempSync(join(tmpdir(), "signalbox-policy-"));
  writeFileSync(join(folder, "a.yaml"), denying("nobody"));
  const replicas = await startTwoReplicas({ flagsOfA: { "policy.path": folder } });
  onTestFinished(async () => {
    await replicas.close();
    rmSync(folder, { recursive: true });
  });
  const { a, b } = replicas;
  const request = sendRequest("hello", { agent: "puppet" });
  const decision = async ({ client }: typeof a) => client.routes.previewRoute({ request });
  const put = ({ client }: typeof a, document: string, etag = "") =>
    client.policies.putPolicy({ policy: { document, etag } });

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
