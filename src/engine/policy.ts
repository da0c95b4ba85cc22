/** What decides what may be done: the server's policy files, the policies of workspaces, and what is asked of both. */
import { noPolicyFiles, type PolicyFiles, startPolicyFiles } from "../services/background/policy-files.ts";
import { createPolicies, type Policies } from "../services/policies.ts";
import { createPolicy, type Policy } from "../services/policy.ts";
import { createPolicyReader, type PolicyReader } from "../services/policy-reader.ts";
import { trustAll } from "../services/trust.ts";
import { createPolicyRepository, type PolicyRepository } from "../store/policy-repository.ts";
import type { EngineBase } from "./options.ts";

export interface PolicyParts {
  readonly policies: Policies;
  readonly policy: Policy;
  readonly files: PolicyFiles;
  readonly reader: PolicyReader;
  readonly repository: PolicyRepository;
}

/** Throws POLICY_FILES_INVALID when the server's files cannot be used. */
export async function buildPolicy({ db, config, log, runtime, closing, ...base }: EngineBase): Promise<PolicyParts> {
  const { path, pollMs, default: standard } = config.policy;
  const reader = createPolicyReader(runtime);
  closing.push(() => reader.close());
  const onReload = base.onPolicyReload;
  const files =
    path === undefined ? noPolicyFiles : await startPolicyFiles({ path, pollMs, reader, runtime, log, onReload });
  closing.push(() => files.stop());
  const repository = createPolicyRepository(db);
  const policies = createPolicies({ repository, files, reader, runtime, log, standard, onReload });
  const policy = createPolicy({ policies, trust: trustAll, runtime, onVerdict: base.onPolicyVerdict });
  return { policies, policy, files, reader, repository };
}
