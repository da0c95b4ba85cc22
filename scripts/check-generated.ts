/**
 * Fails when gen/ is not what the protos give: generates into a scratch folder and names the files that differ.
 * Generated code is committed, so that a clone runs without generating; this keeps it honest.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { ROOT, run } from "./run.ts";

const scratch = mkdtempSync(join(tmpdir(), "signalbox-gen-"));
try {
  process.exitCode = run("buf", "generate", "--output", scratch) || report(differences("gen", scratch));
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

function differences(folder: string, generatedRoot: string): string[] {
  const committed = filesUnder(join(ROOT, folder));
  const generated = filesUnder(join(generatedRoot, folder));
  const found: string[] = [];
  for (const [path, text] of generated) {
    if (!committed.has(path)) found.push(`${folder}/${path}: missing`);
    else if (committed.get(path) !== text) found.push(`${folder}/${path}: out of date`);
  }
  for (const path of committed.keys()) {
    if (!generated.has(path)) found.push(`${folder}/${path}: no proto makes it`);
  }
  return found.sort();
}

function filesUnder(folder: string): Map<string, string> {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    entries.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return [relative(folder, path), readFileSync(path, "utf8")];
    }),
  );
}

function report(found: readonly string[]): number {
  if (found.length === 0) return 0;
  console.error([...found, 'Run "npm run generate" and commit the result.'].join("\n"));
  return 1;
}
