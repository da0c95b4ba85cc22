/**
 * Encrypts anew, when a server starts, what is encrypted with another key than new secrets are: after that the old key is of no use.
 * Any number of servers may do it at once: each puts its own in the place of what it has read, and of nothing else.
 */
import type { Logger } from "pino";
import { SignalboxError } from "../../domain/errors.ts";
import {
  SEALED_COLUMNS,
  type SealedColumn,
  type SealedSecret,
  type SealedSecrets,
} from "../../store/sealed-secrets.ts";
import { boundTo, type SecretBox } from "./secret-box.ts";

/** Secrets that are held in memory at once. */
const BATCH = 200;

export interface ResealDeps {
  secrets: SealedSecrets;
  box: SecretBox;
  log: Logger;
}

export interface Resealed {
  /** How many are encrypted with the first key now. */
  readonly resealed: number;
  /** How many no key opens. */
  readonly unreadable: number;
}

export async function resealSecrets({ secrets, box, log }: ResealDeps): Promise<Resealed> {
  let resealed = 0;
  let unreadable = 0;

  async function renew(of: SealedColumn, secret: SealedSecret): Promise<void> {
    const about = boundTo(of.table, secret.workspaceId, secret.id);
    let opened: Buffer;
    try {
      opened = box.open(secret.sealed, about);
    } catch (error) {
      if (!(error instanceof SignalboxError)) throw error;
      unreadable += 1;
      return;
    }
    const isReplaced = await secrets.replace(of, secret, box.seal(opened, about));
    opened.fill(0);
    if (isReplaced) resealed += 1;
  }

  for (const of of SEALED_COLUMNS) {
    for (let last: SealedSecret | undefined; ; ) {
      const page = await secrets.page(of, last, BATCH);
      for (const secret of page) if (box.isOld(secret.sealed)) await renew(of, secret);
      last = page.at(-1);
      if (page.length < BATCH) break;
    }
  }
  if (resealed > 0) log.info({ secrets: resealed }, "secrets were encrypted anew with the first key of secrets.key");
  if (unreadable > 0) {
    log.warn(
      { secrets: unreadable },
      "there are secrets that no key of secrets.key opens: give it their key, or set them again",
    );
  }
  return { resealed, unreadable };
}
