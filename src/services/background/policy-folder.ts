/** The policy files of this server as they stand on its disk: one file, or all of a folder. */
import { createHash } from "node:crypto";
import { type FSWatcher, watch } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, extname, join } from "node:path";

/** Files that are read at most, and the size of one, in bytes: what is longer is refused before it is read. */
const MOST_FILES = 100;
const MAX_FILE_BYTES = 4 * 1024 * 1024;
/** How often the files are read before it is given up, because one of them has changed each time. */
const MOST_TRIES = 5;
const EXTENSIONS: readonly string[] = [".yaml", ".yml", ".json"];

/** The text of a file, as it was at one moment. */
export interface FileText {
  /** Without its folder. */
  readonly name: string;
  readonly text: string;
  /** SHA-256 of its bytes, in hexadecimal. */
  readonly digest: string;
}

/** The files cannot be used, and why: a sentence for the operator. */
export class UnreadableFiles extends Error {
  /** The file or folder in question. */
  readonly file: string;

  constructor(file: string, message: string) {
    super(message);
    this.name = "UnreadableFiles";
    this.file = file;
  }
}

export interface PolicyFolder {
  /**
   * All files in the order of their names, of one moment; undefined when they look as they did at the last call, which takes
   * no reading. `always` reads them all the same.
   *
   * @throws UnreadableFiles
   */
  read(always: boolean): Promise<readonly FileText[] | undefined>;
  /**
   * Calls `onChange` when something happens to the files, until the returned function is called. Some file systems tell
   * nothing, and what lies behind a link to elsewhere is not watched: then `onError` may be told why.
   */
  watch(onChange: () => void, onError: (error: unknown) => void): () => void;
}

export function policyFolder(path: string): PolicyFolder {
  let seen: string | undefined;

  async function names(): Promise<readonly string[]> {
    if (!(await stat(path)).isDirectory()) return [path];
    const found = (await readdir(path)).filter((name) => !name.startsWith(".") && EXTENSIONS.includes(extname(name)));
    if (found.length === 0)
      throw new UnreadableFiles(path, "holds no policy file: put one whose name ends in .yaml there");
    if (found.length > MOST_FILES) throw new UnreadableFiles(path, `holds more than ${MOST_FILES} files; join some`);
    return found.sort().map((name) => join(path, name));
  }

  /** Changes when any of the files does. Links are followed: what a volume of Kubernetes swaps is the link. */
  async function look(): Promise<{ files: readonly string[]; signature: string }> {
    const files: string[] = [];
    const marks: string[] = [];
    for (const file of await names()) {
      const found = await stat(file, { bigint: true });
      if (found.isDirectory()) continue;
      if (found.size > MAX_FILE_BYTES) {
        throw new UnreadableFiles(basename(file), `is larger than ${MAX_FILE_BYTES / 1024 / 1024} MiB; split it`);
      }
      files.push(file);
      marks.push(`${file} ${found.dev} ${found.ino} ${found.size} ${found.mtimeNs} ${found.ctimeNs}`);
    }
    return { files, signature: marks.join("\n") };
  }

  return {
    async read(always) {
      try {
        let before = await look();
        if (!always && before.signature === seen) return undefined;
        for (let tries = 1; ; tries++) {
          const texts = await Promise.all(before.files.map(textOf));
          const after = await look();
          // Written meanwhile: half a file may be a whole document that says something else.
          if (after.signature === before.signature) {
            seen = after.signature;
            return texts;
          }
          if (tries === MOST_TRIES)
            throw new UnreadableFiles(path, "keeps changing while it is read; replace it by renaming");
          before = after;
        }
      } catch (error) {
        seen = undefined;
        throw error instanceof UnreadableFiles ? error : new UnreadableFiles(path, whyOf(error));
      }
    },

    watch(onChange, onError) {
      const watchers: FSWatcher[] = [];
      const listen = (place: string, concerns: (name: string | null) => boolean) => {
        try {
          const watcher = watch(place, { persistent: false }, (_, name) => {
            if (concerns(name)) onChange();
          });
          watcher.on("error", onError);
          watchers.push(watcher);
        } catch (error) {
          onError(error);
        }
      };
      listen(path, () => true);
      // Editors and volumes replace a file under its name, which only its folder hears of; volumes of Kubernetes by a link
      // whose name begins with two dots.
      listen(dirname(path), (name) => name === null || name === basename(path) || name.startsWith(".."));
      return () => {
        for (const watcher of watchers) watcher.close();
      };
    },
  };
}

async function textOf(path: string): Promise<FileText> {
  const bytes = await readFile(path);
  const digest = createHash("sha256").update(bytes).digest("hex");
  try {
    return { name: basename(path), text: new TextDecoder("utf-8", { fatal: true }).decode(bytes), digest };
  } catch {
    throw new UnreadableFiles(basename(path), "is not UTF-8; save it as that");
  }
}

function whyOf(error: unknown): string {
  const { code = String(error) } = error as NodeJS.ErrnoException;
  return code === "ENOENT" ? "does not exist" : `cannot be read (${code})`;
}
