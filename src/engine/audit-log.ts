/** The audit log behind its chains: what folds and signs it, reads it again, and answers about it. */
import { type AuditLogService, createAuditLogService } from "../services/audit/audit-log.ts";
import { createAuditCheck } from "../services/audit/checking.ts";
import { createAuditFaults } from "../services/audit/faults.ts";
import { openAuditSigner } from "../services/audit/signer.ts";
import { startPolicyFilesRecord } from "../services/audit-policy-files.ts";
import { startAuditSequencer } from "../services/background/audit-sequencer.ts";
import { startAuditVerifier } from "../services/background/audit-verifier.ts";
import type { PolicyFiles } from "../services/background/policy-files.ts";
import { createAuditKeyRepository } from "../store/audit-key-repository.ts";
import { createAuditLogReads } from "../store/audit-log-reads.ts";
import { type AuditLag, createAuditLogRepository } from "../store/audit-log-repository.ts";
import { readAuditKeys } from "./audit-key.ts";
import { type Ground, OWN_WORKSPACE } from "./ground.ts";
import type { EngineBase } from "./options.ts";

/** How the audit logs of all workspaces are. */
export interface AuditGauge {
  /** How far they are behind their chains. */
  lag: AuditLag;
  /** Entries that this process has read again. */
  verified: number;
  /** What is known to be wrong, and of which workspaces. */
  faults: number;
  faultyWorkspaces: string[];
}

export interface AuditParts {
  readonly auditLog: AuditLogService;
  /** Rejects when the database does not answer. */
  auditGauge(): Promise<AuditGauge>;
}

export async function buildAuditLog(base: EngineBase, replicas: () => number): Promise<AuditParts> {
  const { db, config, log, runtime, closing } = base;
  const keys = createAuditKeyRepository(db);
  const reads = createAuditLogReads(db);
  const repository = createAuditLogRepository(db);
  const faults = createAuditFaults(log);
  const given = readAuditKeys(config, (await keys.keys()).length === 0, log);
  const { origin, signer } = await openAuditSigner({ keys, given, origin: config.audit.origin, runtime, log });
  const check = createAuditCheck({ reads, keys, origin, own: signer?.publicKey });
  if (signer) {
    const sequencer = startAuditSequencer({ repository, signer, faults, runtime, log });
    closing.push(() => sequencer.stop());
  }
  const rate = config.audit.verifyRate;
  const verifier =
    rate > 0
      ? startAuditVerifier({ workspaces: reads.workspaces, check, faults, runtime, log, rate, replicas })
      : undefined;
  closing.push(() => verifier?.stop());
  return {
    auditLog: createAuditLogService({ reads, keys, check, origin }),
    async auditGauge() {
      return {
        lag: await repository.lag(),
        verified: verifier?.verified ?? 0,
        faults: faults.count,
        faultyWorkspaces: faults.workspaces(),
      };
    },
  };
}

/** Has the policy files of this server recorded, as they are and whenever the function that it returns is called. */
export function recordPolicyFiles(
  { runtime, log, closing }: EngineBase,
  { trail, replica }: Ground,
  files: PolicyFiles,
) {
  const record = startPolicyFilesRecord({
    files,
    trail,
    runtime,
    log,
    replicaId: replica.id,
    workspaceId: OWN_WORKSPACE,
  });
  closing.push(() => record.stop());
  return record.look;
}
