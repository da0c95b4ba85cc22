/**
 * A data directory belongs to one process at a time: two PGlites on one directory would lose rows without a word. The
 * lock is SQLite's lock on a file, which the operating system drops with the process, however it ends.
 */
import { accessSync, constants, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { SignalboxError } from "../domain/errors.ts";

export interface DirectoryLock {
  release(): void;
}

/**
 * Makes the directory where it is missing, readable to its owner only, and locks it.
 *
 * @throws SignalboxError DATA_DIRECTORY_LOCKED when another process, or this one, has it; DATA_DIRECTORY_UNUSABLE when it
 * cannot be made or written.
 */
export function lockDirectory(path: string): DirectoryLock {
  const directory = resolve(path);
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw unusable(directory, error);
  }

  const pidFile = join(directory, "lock.pid");
  let lock: DatabaseSync;
  try {
    lock = new DatabaseSync(join(directory, "lock.db"));
  } catch (error) {
    throw unusable(directory, error);
  }
  try {
    lock.exec("pragma locking_mode = exclusive; begin exclusive");
    // The lock says that somebody has the directory, this file who; it means nothing without the lock.
    writeFileSync(pidFile, `${process.pid}\n`);
  } catch (error) {
    lock.close();
    throw isBusy(error) ? locked(directory, pidFile) : unusable(directory, error);
  }
  return { release: () => lock.close() };
}

const SQLITE_BUSY = 5;

function isBusy(error: unknown): boolean {
  return error instanceof Error && (error as { errcode?: number }).errcode === SQLITE_BUSY;
}

function locked(directory: string, pidFile: string): SignalboxError {
  let holder = "another process";
  try {
    holder = `process ${Number.parseInt(readFileSync(pidFile, "utf8"), 10) || "unknown"}`;
  } catch {
    // It has the lock but did not come to tell its name yet.
  }
  return new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "DATA_DIRECTORY_LOCKED",
    message:
      `The data directory ${directory} is in use by ${holder}. Stop that process, or give this one ` +
      `a directory of its own with --data-dir (SIGNALBOX_DATA_DIR).`,
  });
}

function unusable(directory: string, cause: unknown): SignalboxError {
  return new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "DATA_DIRECTORY_UNUSABLE",
    message:
      `The data directory ${directory} cannot be used: ${cause instanceof Error ? cause.message : String(cause)}. ` +
      `Make it writable for this user, or choose another with --data-dir (SIGNALBOX_DATA_DIR).`,
    cause,
  });
}
