/**
 * Reads the audit logs again and again, at the rate that the operator allows, and alarms when something is wrong with one. Each replica
 * does its share of the rate, and begins at a workspace of its own.
 */
import type { Logger } from "pino";
import type { AuditCheck } from "../audit/checking.ts";
import type { AuditFaults } from "../audit/faults.ts";
import { isTransient } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";

/** Between two rounds over all workspaces, in milliseconds: small logs need not be read all the time. */
const ROUND_MS = 60_000;
/** Before the first round, in milliseconds: a server that starts has other work. */
const FIRST_MS = 2_000;

export interface AuditVerifierDeps {
  workspaces(): Promise<string[]>;
  check: AuditCheck;
  faults: AuditFaults;
  runtime: Runtime;
  log: Logger;
  /** Entries a second, over all replicas. */
  rate: number;
  /** Replicas that live. */
  replicas: () => number;
}

export interface AuditVerifier {
  /** Entries that were read again since the start, over all rounds. */
  readonly verified: number;
  stop(): Promise<void>;
}

export function startAuditVerifier(deps: AuditVerifierDeps): AuditVerifier {
  const { workspaces, check, faults, runtime, log, rate, replicas } = deps;
  const stop = new AbortController();
  const { signal } = stop;
  let verified = 0;

  async function verify(workspaceId: string): Promise<void> {
    const reading = faults.reading(workspaceId);
    let before = 0;
    for await (const step of check(workspaceId, 0)) {
      verified += step.verified - before;
      before = step.verified;
      for (const fault of step.faults) reading.report(fault);
      await runtime.wait((1000 * step.cost * replicas()) / rate, signal);
    }
    reading.end();
  }

  /** One log that cannot be read keeps no other from being verified. */
  async function tryToVerify(workspaceId: string): Promise<void> {
    try {
      await verify(workspaceId);
    } catch (err) {
      if (signal.aborted || isTransient(err)) throw err;
      log.error({ err, workspaceId }, "the audit log could not be read; trying again in the next round");
    }
  }

  /** A log that is gone as a whole is missed, too. */
  const known = new Set<string>();

  async function round(): Promise<void> {
    for (const workspaceId of await workspaces()) known.add(workspaceId);
    const all = [...known];
    const first = Math.floor(all.length * runtime.random());
    for (const workspaceId of [...all.slice(first), ...all.slice(0, first)]) await tryToVerify(workspaceId);
  }

  async function keepVerifying(): Promise<void> {
    await runtime.wait(FIRST_MS * (0.5 + runtime.random()), signal);
    while (!signal.aborted) {
      try {
        await round();
      } catch (err) {
        if (signal.aborted) return;
        if (!isTransient(err)) log.error({ err }, "the audit logs could not be verified; trying again");
      }
      await runtime.wait(ROUND_MS * (0.5 + runtime.random()), signal);
    }
  }

  const verifying = keepVerifying().catch((err: unknown) => {
    if (!signal.aborted) log.error({ err }, "the audit log is not verified any more");
  });
  return {
    get verified() {
      return verified;
    },
    async stop() {
      stop.abort();
      await verifying;
    },
  };
}
