/** What a server says of policies that it has not looked at before. */
import { expect, it } from "vitest";
import { noPolicyFiles } from "../../src/services/background/policy-files.ts";
import { createPolicies } from "../../src/services/policies.ts";
import { createPolicyReader } from "../../src/services/policy-reader.ts";
import { createPolicyVersions } from "../../src/services/policy-versions.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createPolicyRepository } from "../../src/store/policy-repository.ts";
import { noAudit } from "../fixtures/no-audit.ts";
import { describeEachBackend } from "../store/backends.ts";
import { logLines } from "../store/log-lines.ts";

describeEachBackend("a server that has just started", (context) => {
  it("says what it cannot read of a policy, without having been asked for anything else", async () => {
    const repository = createPolicyRepository(context.db);
    const runtime = systemRuntime();
    const reader = createPolicyReader(runtime);
    const { log } = logLines();
    const parts = { repository, reader, runtime, files: noPolicyFiles };
    const policies = createPolicies({ ...parts, log, standard: "ALLOW", onReload() {} });
    const versions = createPolicyVersions({ ...parts, policies, audit: noAudit });
    const newer = {
      version: 1,
      document: "version: 1\nrules:\n  - effect: LATER\n",
      digest: "d",
      ruleCount: 1,
      budgetCount: 0,
      author: "ann",
      comment: "",
      createdAt: runtime.now(),
    };
    await repository.add("default", newer);
    const asked = { workspaceId: "default" } as RequestContext;
    const found = await versions.get(asked, { $typeName: "signalbox.v1.GetPolicyRequest", version: 0 });
    expect(found).toMatchObject({ version: 1, problems: [{ line: 3, path: "rules[0].effect" }] });
  });
});
