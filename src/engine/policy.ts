/** What decides what may be done: the server's policy files, the policies of workspaces, what is asked of both, and how far agents are trusted by them. */
import { DEFAULT_TRUST_RULE } from "../domain/reputation/trust-rule.ts";
import { noPolicyFiles, type PolicyFiles, startPolicyFiles } from "../services/background/policy-files.ts";
import { createKnownStandings, type KnownStandings } from "../services/known-standings.ts";
import { noReputation } from "../services/no-reputation.ts";
import { createPolicies, type Policies } from "../services/policies.ts";
import { createPolicy, type Policy } from "../services/policy.ts";
import { createPolicyReader, type PolicyReader } from "../services/policy-reader.ts";
import type { TrustRules } from "../services/trust.ts";
import { createPolicyRepository, type PolicyRepository } from "../store/policy-repository.ts";
import { createReputationRepository, type ReputationRepository } from "../store/reputation-repository.ts";
import type { EngineBase } from "./options.ts";

export interface PolicyParts {
  readonly policies: Policies;
  readonly policy: Policy;
  readonly files: PolicyFiles;
  readonly reader: PolicyReader;
  readonly repository: PolicyRepository;
  readonly trustRules: TrustRules;
  readonly reputationRepository: ReputationRepository;
  readonly reputation: KnownStandings;
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
  const trustRules: TrustRules = {
    load: policies.load,
    of: (workspaceId) => policies.of(workspaceId).trust ?? DEFAULT_TRUST_RULE,
  };
  const reputationRepository = createReputationRepository(db);
  const { enabled, enforce: enforces } = config.reputation;
  const reputation = enabled
    ? createKnownStandings({ repository: reputationRepository, runtime, rules: trustRules, enforces })
    : noReputation;
  const policy = createPolicy({ policies, trust: reputation, runtime, onVerdict: base.onPolicyVerdict });
  return { policies, policy, files, reader, repository, trustRules, reputationRepository, reputation };
}
