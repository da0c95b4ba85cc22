/** Keys in files: as they are named, or in the data folder, where they are made. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

const NO_SUCH_FILE: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR", "ENAMETOOLONG", "ERR_INVALID_ARG_VALUE"]);

/** What a file of keys holds; undefined when there is no such file. `unreadable` makes the error where it cannot be read. */
export function readKeyFile(path: string, unreadable: (why: string) => Error): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // No file has such a name: it may be a key, and is not shown.
    if (code === undefined || NO_SUCH_FILE.has(code)) return undefined;
    throw unreadable(`${path} cannot be read (${code}).`);
  }
}

/**
 * Writes a new file that its owner alone can read, and its folder where there is none. It is on the disk when this returns: a key that
 * was used and is lost would be worse than one that is there and was not. False when the file is there already. Throws the system's
 * error.
 */
export function makeKeyFile(path: string, text: string): boolean {
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text, { mode: 0o600, flag: "wx", flush: true });
    return true;
  } catch (error) {
    // Another server with the same folder was faster.
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}
