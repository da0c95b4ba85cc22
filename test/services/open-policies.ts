/** A replica's policies, without a database. */
import type { HeldFile } from "../../src/services/background/policy-files.ts";
import { createPolicies, type PoliciesDeps } from "../../src/services/policies.ts";
import { createPolicyReader } from "../../src/services/policy-reader.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import type { StoredPolicy } from "../../src/store/policy-repository.ts";
import { logLines } from "../store/log-lines.ts";

/** A replica's policies over versions that the test holds, and a clock that it moves. */
export function openPolicies(documents: string[]) {
  const state = { nowMs: 0, reads: 0, fails: false };
  const runtime = { ...systemRuntime(), elapsedMs: () => state.nowMs };
  const { log, lines } = logLines();
  const reloads: string[] = [];
  const files: { held: readonly HeldFile[] } = { held: [] };
  const deps: PoliciesDeps = {
    repository: {
      async latest() {
        if (state.fails) throw new Error("away");
        return documents.length;
      },
      async get(_, version) {
        state.reads += 1;
        return { version, document: documents[version - 1]! } as StoredPolicy;
      },
    },
    files,
    reader: createPolicyReader(runtime),
    runtime,
    log,
    standard: "ALLOW",
    onReload: (result) => reloads.push(result),
  };
  const policies = createPolicies(deps);
  const effectFor = (agentId: string) =>
    policies.of("default").compiled.decide("CANDIDATE", { agent_id: agentId }).effect;
  return { policies, runtime, state, lines, reloads, files, effectFor };
}
