/**
 * Fails when the protos break those of the base commit, on the wire or in generated code.
 *
 *     node scripts/check-breaking.ts [BASE]
 *
 * BASE is a commit; without one it is where this branch left origin/main or, on origin/main itself, the commit before.
 * The base is unpacked beside a link to node_modules, where buf.yaml looks for google/api: buf's own git input has none.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT, run } from "./run.ts";

const base = process.argv[2] ?? baseCommit();
if (base) process.exitCode = compareWith(base);
else console.log("There is no base commit: nothing to compare with.");

function baseCommit(): string | undefined {
  const head = git("rev-parse", "--verify", "--quiet", "HEAD");
  const fork = git("merge-base", "HEAD", "origin/main");
  return fork && fork !== head ? fork : git("rev-parse", "--verify", "--quiet", "HEAD~1");
}

function compareWith(commit: string): number {
  const scratch = mkdtempSync(join(tmpdir(), "signalbox-base-"));
  try {
    const archive = join(scratch, "base.tar");
    if (git("archive", "--output", archive, commit, "proto", "buf.yaml") === undefined) {
      console.error(`${commit} is no commit of this repository, or has no protos.`);
      return 1;
    }
    const unpacked = spawnSync("tar", ["-xf", archive, "-C", scratch], { stdio: ["ignore", "inherit", "inherit"] });
    if (unpacked.status !== 0) return 1;
    symlinkSync(join(ROOT, "node_modules"), join(scratch, "node_modules"));
    return run("buf", "breaking", "proto", "--exclude-imports", "--against", join(scratch, "proto"));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** What git prints; undefined when it fails. */
function git(...args: string[]): string | undefined {
  const { status, stdout } = spawnSync("git", args, { cwd: ROOT, encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}
