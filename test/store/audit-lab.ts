/** Audit logs in a database, for tests: writing to chains, folding them, and looking past all guards. */
import { isSignedBy, originOf, publicBytes, signCheckpoint, verifierKey } from "../../src/domain/audit/checkpoint.ts";
import { createAuditKeyRepository } from "../../src/store/audit-key-repository.ts";
import { type CheckpointSigner, createAuditLogRepository } from "../../src/store/audit-log-repository.ts";
import { createAuditTrail } from "../../src/store/audit-trail.ts";
import type { Database } from "../../src/store/database.ts";
import { keyOf, ORIGIN } from "../fixtures/audit-log.ts";
import { raw } from "./tables.ts";

export const signerOf = (name = "first"): CheckpointSigner => ({
  publicKey: publicBytes(keyOf(name)),
  origin: ORIGIN,
  believes: (note) => isSignedBy(note, verifierKey(note.origin, publicBytes(keyOf(name)))),
  sign: (workspaceId, size, root) =>
    signCheckpoint({ origin: originOf(ORIGIN, workspaceId), size, root }, [keyOf(name)]),
});

/** Empties all logs, and makes the key the one in use. */
export async function resetAudit(db: Database): Promise<void> {
  await raw(
    db,
    `truncate audit_entries, audit_chains, audit_logs, audit_log_chains, audit_spans, audit_tiles, audit_checkpoints,
       audit_keys, audit_origin`,
  );
  await raw(db, "insert into workspaces (workspace_id) values ('other') on conflict do nothing");
  const keys = createAuditKeyRepository(db);
  await keys.add({ number: 1, publicKey: signerOf().publicKey, signedByPrevious: undefined, createdAt: new Date() });
}

let written = 0;

/** Adds so many entries to the chain of a replica. */
export async function write(
  db: Database,
  replicaId: string,
  count: number,
  { workspaceId = "default", taskId }: { workspaceId?: string; taskId?: string } = {},
): Promise<void> {
  const events = Array.from({ length: count }, () => {
    written += 1;
    return {
      workspaceId,
      at: new Date(Date.UTC(2026, 0, 1) + written),
      actor: written % 2 === 0 ? "even" : "odd",
      action: "test.write",
      targetType: "thing",
      targetId: `thing-${written}`,
      taskId,
      result: "OK",
      detail: { number: written, text: 'a "quoted" ä' },
    };
  });
  await createAuditTrail({ db, enabled: true, replicaId: () => replicaId }).write(events, "x");
}

/** Folds until nothing is left. */
export async function foldAll(db: Database, workspaceId = "default", most = 4_096): Promise<void> {
  const repository = createAuditLogRepository(db);
  while ((await repository.fold(workspaceId, signerOf(), most)).status === "FOLDED");
}

/** Runs a text in spite of all triggers. */
export async function tamper(
  db: Database,
  table: string,
  text: string,
  values: readonly unknown[] = [],
): Promise<void> {
  await raw(db, `alter table ${table} disable trigger audit_keep`);
  await raw(db, text, values);
  await raw(db, `alter table ${table} enable trigger audit_keep`);
}
