/**
 * Folds what the chains of a workspace have grown by into its log, and signs how far it is: about twice a second while something
 * happens, and not at all while nothing does. Every replica looks; who finds another at it goes on to the next workspace.
 */
import type { Logger } from "pino";
import { logFault, missingFault, TILES_MISSING } from "../../domain/audit/fault.ts";
import type { AuditLogRepository, CheckpointSigner } from "../../store/audit-log-repository.ts";
import type { AuditFaults } from "../audit/faults.ts";
import { isTransient } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";

/** The mean pause between two looks, in milliseconds. Replicas do not keep step. */
const EVERY_MS = 450;
/** Between two folds while there is more, in milliseconds: the database is others' too. */
const REST_MS = 5;
/** Entries that one fold takes at most: hashing them takes a few milliseconds. */
const BATCH = 4_096;
/** Logs that are folded at once: each fold is a few short statements, one after another. */
const AT_ONCE = 2;
/** How long a log that could not be folded waits, in milliseconds. */
const RETRY_MS = 10_000;
/** How often chains that have ended are looked for, in milliseconds. */
const SEAL_EVERY_MS = 60_000;
/** How long a replica that has not the key in use waits before it looks again, in milliseconds. */
const OTHER_KEY_MS = 30_000;

export interface AuditSequencerDeps {
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

export function startAuditSequencer({ repository, signer, faults, runtime, log }: AuditSequencerDeps): AuditSequencer {
  const stop = new AbortController();
  const { signal } = stop;
  let sealAtMs = runtime.elapsedMs() + SEAL_EVERY_MS * runtime.random();

  /** When a log that could not be folded is tried again, on the clock of `elapsedMs`. */
  const retryAtMs = new Map<string, number>();

  /** Folds a batch of a workspace's log. */
  async function foldOne(workspaceId: string): Promise<"MORE" | "DONE" | "OTHER_KEY"> {
    try {
      const outcome = await repository.fold(workspaceId, signer, BATCH);
      for (const { chainId, number, index } of outcome.gaps) {
        faults.report(workspaceId, missingFault(index, chainId, number));
      }
      if (outcome.status === "OTHER_KEY") return "OTHER_KEY";
      if (outcome.status === "DAMAGED") {
        faults.report(workspaceId, outcome.fault);
        retryAtMs.set(workspaceId, runtime.elapsedMs() + RETRY_MS);
      }
      return outcome.status === "FOLDED" && outcome.more ? "MORE" : "DONE";
    } catch (err) {
      if (isTransient(err)) throw err;
      // One log that is damaged keeps no other waiting.
      if (err instanceof RangeError) faults.report(workspaceId, logFault("TREE", 0, TILES_MISSING));
      log.error({ err, workspaceId }, "the audit log could not be folded; trying again");
      retryAtMs.set(workspaceId, runtime.elapsedMs() + RETRY_MS);
      return "DONE";
    }
  }

  /** A batch of each log in turn, so that a long one keeps no other waiting. */
  async function look(): Promise<number> {
    const now = runtime.elapsedMs();
    for (const [workspaceId, atMs] of retryAtMs) if (atMs <= now) retryAtMs.delete(workspaceId);
    let left = (await repository.grown()).filter((workspaceId) => !retryAtMs.has(workspaceId));
    // Replicas begin at different ones.
    const first = Math.floor(left.length * runtime.random());
    left = [...left.slice(first), ...left.slice(0, first)];
    while (left.length > 0 && !signal.aborted) {
      const more: string[] = [];
      const waiting = left.values();
      let isOthers = false;
      const work = async () => {
        for (const workspaceId of waiting) {
          if (signal.aborted || isOthers) return;
          const outcome = await foldOne(workspaceId);
          if (outcome === "MORE") more.push(workspaceId);
          if (outcome === "OTHER_KEY") isOthers = true;
        }
      };
      const ended = await Promise.allSettled(Array.from({ length: Math.min(AT_ONCE, left.length) }, work));
      for (const end of ended) if (end.status === "rejected") throw end.reason;
      if (isOthers) return OTHER_KEY_MS;
      left = more;
      if (left.length > 0) await runtime.wait(REST_MS, signal);
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
