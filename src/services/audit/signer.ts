/**
 * Which key signs the checkpoints. The public halves are in the database, numbered, each signed by the one before it; the one with
 * the greatest number is in use. A replica whose own key is another does not sign, and leaves it to those that have the right one.
 */
import type { KeyObject } from "node:crypto";
import type { Logger } from "pino";
import {
  isSignedBy,
  originOf,
  publicBytes,
  signCheckpoint,
  signSuccessor,
  verifierKey,
} from "../../domain/audit/checkpoint.ts";
import { SignalboxError } from "../../domain/errors.ts";
import type { AuditKeyRepository } from "../../store/audit-key-repository.ts";
import type { CheckpointSigner } from "../../store/audit-log-repository.ts";
import type { Runtime } from "../runtime.ts";

/** The private keys that this replica has. */
export interface GivenKeys {
  key: KeyObject | undefined;
  /** The key before it: it signs beside the new one, and makes it its successor. */
  previous: KeyObject | undefined;
  /** Whether the operator named the key; one that was only made here does not take the place of another. */
  isNamed: boolean;
}

export interface AuditSignerDeps {
  keys: AuditKeyRepository;
  given: GivenKeys;
  /** What the logs are to be called, if they have no name yet. */
  origin: string | undefined;
  runtime: Pick<Runtime, "now" | "newId">;
  log: Logger;
}

export interface AuditSigner {
  /** What the logs of this database are called. */
  readonly origin: string;
  /** Undefined when this replica has no key that may sign. */
  readonly signer: CheckpointSigner | undefined;
}

/**
 * Registers the key of this replica where that is due.
 *
 * @throws SignalboxError AUDIT_ORIGIN_CHANGED when the logs of this database are called otherwise.
 */
export async function openAuditSigner({ keys, given, origin, runtime, log }: AuditSignerDeps): Promise<AuditSigner> {
  const named = await keys.origin(origin ?? `signalbox-${runtime.newId().slice(-12)}`);
  if (origin !== undefined && origin !== named) throw originChanged(named, origin);
  const { key, previous, isNamed } = given;
  if (!key) {
    log.warn("this replica has no key for the audit log: it signs no checkpoints, and leaves that to others");
    return { origin: named, signer: undefined };
  }
  const publicKey = publicBytes(key);
  const earlier = await register();

  /** The keys that were in use before this one, by now. */
  async function register(): Promise<Uint8Array[]> {
    const known = await keys.keys();
    const last = known.at(-1);
    const publicKeys = known.map((one) => one.publicKey);
    const at = publicKeys.findIndex((one) => Buffer.compare(one, publicKey) === 0);
    if (at >= 0) {
      if (at < known.length - 1) log.warn("the key of the audit log has a successor: this replica does not sign");
      return publicKeys.slice(0, at);
    }
    const isSuccessor = last && previous && Buffer.compare(publicBytes(previous), last.publicKey) === 0;
    if (last && !isSuccessor && !isNamed) {
      log.warn("the audit log is signed with a key that this replica has not: it leaves that to others");
      return [];
    }
    if (last && !isSuccessor) {
      log.error(
        "the key of the audit log is replaced without the signature of the one before it: who verifies must be told of it",
      );
    }
    const record = {
      number: (last?.number ?? 0) + 1,
      publicKey,
      signedByPrevious: isSuccessor ? signSuccessor(named, publicKey, previous) : undefined,
      createdAt: runtime.now(),
    };
    // Another replica was faster, perhaps with this very key.
    if (!(await keys.add(record))) return register();
    log.info({ number: record.number }, "the audit log has a new key");
    return publicKeys;
  }

  const isChanging = previous && Buffer.compare(publicBytes(previous), publicKey) !== 0;
  const signers = isChanging ? [key, previous] : [key];
  const believed = [publicKey, ...earlier];
  return {
    origin: named,
    signer: {
      publicKey,
      origin: named,
      believes: (note) => believed.some((one) => isSignedBy(note, verifierKey(note.origin, one))),
      sign: (workspaceId, size, root) => signCheckpoint({ origin: originOf(named, workspaceId), size, root }, signers),
    },
  };
}

const originChanged = (named: string, given: string) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "AUDIT_ORIGIN_CHANGED",
    message: `The audit logs of this database are called ${named}, and what was signed under that name stays so. Set audit.origin to it instead of ${given}, or leave it out.`,
  });
