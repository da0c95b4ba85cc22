/**
 * Folds what the chains of a workspace have grown by into its log, and signs how far it is: about twice a second while something
 * happens, and not at all while nothing does. Every replica looks; who finds another at it goes on to the next workspace.
 */
import type { Logger } from "pino";
import { entryFault } from "../../domain/audit/fault.ts";
import type { AuditLogRepository, CheckpointSigner } from "../../store/audit-log-repository.ts";
import type { AuditFaults } from "../audit/faults.ts";
import { isTransient } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";

/** The mean pause between two looks, in milliseconds. Replicas do not keep step. */
const EVERY_MS = 500;
/** Between two folds while there is more, in milliseconds: the database is others' too. */
const REST_MS = 5;
/** Entries that one fold takes at most: hashing them takes a few milliseconds. */
const BATCH = 4_096;
/** How often chains that have ended are looked for, in milliseconds. */
const SEAL_EVERY_MS = 60_000;
/** How long a replica that has not the key in use waits before it looks again, in milliseconds. */
const OTHER_KEY_MS = 30_000;

export interface AuditLogDeps {
  repository: AuditLogRepository;
  signer: CheckpointSigner;
  faults: Pick<AuditFaults, "report">;
  runtime: Runtime;
  log: Logger;
}

export interface AuditSequencer {
  /** Ends it, and waits for the fold that is under way. */
  stop(): Promise<void>;
}

export function startAuditLog({ repository, signer, faults, runtime, log }: AuditLogDeps): AuditSequencer {
  const stop = new AbortController();
  const { signal } = stop;
  let sealAtMs = runtime.elapsedMs() + SEAL_EVERY_MS * runtime.random();

  /** Folds all of a workspace. False: another key is in use. */
  async function foldAll(workspaceId: string): Promise<boolean> {
    while (!signal.aborted) {
      const outcome = await repository.fold(workspaceId, signer, BATCH);
      for (const { chainId, number, index } of outcome.gaps) {
        faults.report(workspaceId, entryFault("REMOVED", index, chainId, number, "is missing, and was in no log yet."));
      }
      if (outcome.status !== "FOLDED") return outcome.status !== "OTHER_KEY";
      if (!outcome.more) return true;
      await runtime.wait(REST_MS, signal);
    }
    return true;
  }

  async function look(): Promise<number> {
    for (const workspaceId of await repository.grown()) {
      if (signal.aborted) break;
      if (!(await foldAll(workspaceId))) return OTHER_KEY_MS;
    }
    if (runtime.elapsedMs() >= sealAtMs) {
      await repository.seal();
      sealAtMs = runtime.elapsedMs() + SEAL_EVERY_MS * (0.5 + runtime.random());
    }
    return EVERY_MS;
  }

  async function keepFolding(): Promise<void> {
    while (!signal.aborted) {
      let pauseMs = EVERY_MS;
      try {
        pauseMs = await look();
      } catch (err) {
        if (signal.aborted) return;
        if (!isTransient(err)) log.error({ err }, "the audit log could not be folded; trying again");
      }
      await runtime.wait(pauseMs * (0.6 + 0.8 * runtime.random()), signal).catch(() => {});
    }
  }

  const folding = keepFolding();
  return {
    async stop() {
      stop.abort();
      await folding;
    },
  };
}
