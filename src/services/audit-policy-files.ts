/** What the audit log says of the policy files of this server, which belong to no workspace: which hold, and which were refused. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { routerActor } from "../domain/audit/actor.ts";
import type { AuditEvent } from "../domain/audit/entry.ts";
import { clip } from "../domain/errors.ts";
import type { AuditTrail } from "../store/audit-trail.ts";
import type { PolicyFiles } from "./background/policy-files.ts";
import { backoffMs, type Runtime } from "./runtime.ts";

/** Files that an entry names; of others it says how many there are. */
const MOST_FILES = 16;

export interface PolicyFilesRecordDeps {
  files: Pick<PolicyFiles, "held" | "problems">;
  trail: Pick<AuditTrail, "write">;
  runtime: Pick<Runtime, "now" | "random" | "wait">;
  log: Logger;
  replicaId: () => string;
  /** Whose log has it. */
  workspaceId: string;
}

export interface PolicyFilesRecord {
  /** The files may have changed: records how they are, if it is not how they were. */
  look(): void;
  /** Waits for what is being recorded, and tries once more where the database was away. */
  stop(): Promise<void>;
}

/** Records the files that hold at the start. */
export function startPolicyFilesRecord(deps: PolicyFilesRecordDeps): PolicyFilesRecord {
  const { files, trail, runtime, log, replicaId, workspaceId } = deps;
  const life = new AbortController();
  let known = stateOf({ held: [], problems: [] }).key;
  let writing = Promise.resolve();

  function look(): void {
    const { key, result, detail } = stateOf(files);
    if (key === known) return;
    known = key;
    const [at, id] = [runtime.now(), replicaId()];
    const of = { actor: routerActor(id), action: "policy.load", targetType: "policy-files", targetId: id };
    writing = writing.then(() => write({ workspaceId, at, ...of, result, detail }));
  }

  /** One after the other, each until it is written: nothing else tells of a change that the database has missed. */
  async function write(event: AuditEvent): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const isLast = life.signal.aborted;
      try {
        return await trail.write([event]);
      } catch (err) {
        log.warn({ err }, `a change of the policy files is not recorded${isLast ? "" : " yet"}`);
        if (isLast) return;
        await runtime.wait(backoffMs(attempt, 100, 5_000, runtime.random), life.signal).catch(() => {});
      }
    }
  }

  look();
  return {
    look,
    async stop() {
      life.abort();
      await writing;
    },
  };
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
