/** What the audit log says of the policy files of this server, which belong to no workspace: which hold, and which were refused. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { routerActor } from "../domain/audit/actor.ts";
import { clip } from "../domain/errors.ts";
import type { AuditTrail } from "../store/audit-trail.ts";
import type { PolicyFiles } from "./background/policy-files.ts";
import type { Runtime } from "./runtime.ts";

/** Files that an entry names; of others it says how many there are. */
const MOST_FILES = 16;

export interface PolicyFilesRecordDeps {
  files: Pick<PolicyFiles, "held" | "problems">;
  trail: Pick<AuditTrail, "write">;
  runtime: Pick<Runtime, "now">;
  log: Logger;
  replicaId: () => string;
  /** Whose log has it. */
  workspaceId: string;
}

export interface PolicyFilesRecord {
  /** The files may have changed: records how they are, if it is not how they were. */
  look(): void;
  /** Waits for what is being recorded. */
  stop(): Promise<void>;
}

/** Records the files that hold at the start. */
export function startPolicyFilesRecord(deps: PolicyFilesRecordDeps): PolicyFilesRecord {
  const { files, trail, runtime, log, replicaId, workspaceId } = deps;
  let known = stateOf({ held: [], problems: [] }).key;
  let writing = Promise.resolve();

  function look(): void {
    const { key, result, detail } = stateOf(files);
    if (key === known) return;
    known = key;
    const [at, id] = [runtime.now(), replicaId()];
    const of = { actor: routerActor(id), action: "policy.load", targetType: "policy-files", targetId: id };
    writing = writing
      .then(() => trail.write([{ workspaceId, at, ...of, result, detail }]))
      .catch((err: unknown) => log.warn({ err }, "a change of the policy files is not recorded"));
  }

  look();
  return { look, stop: () => writing };
}

function stateOf({ held, problems }: Pick<PolicyFiles, "held" | "problems">) {
  const named = held.slice(0, MOST_FILES).map(({ name, digest }) => ({ name: clip(name, 64), digest }));
  const [problem] = problems;
  const detail: JsonObject = {
    files: named,
    ...(held.length > MOST_FILES && { fileCount: held.length }),
    ...(problem && { problem: clip(`${problem.file}: ${problem.path}`), problemCount: problems.length }),
  };
  const result = problem ? "POLICY_FILES_INVALID" : "OK";
  const key = JSON.stringify([result, detail, held.map(({ name, digest }) => [name, digest])]);
  return { key, result, detail };
}
