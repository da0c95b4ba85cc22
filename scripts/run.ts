/** Runs the tools that the checks need. */
import { spawnSync } from "node:child_process";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The root folder of the repository. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url));

/**
 * Runs a command in the root folder, its output passed on. Installed tools are found first, also from a shell that
 * knows nothing of them. Returns the exit code: 127, with a message, when the command cannot be started.
 */
export function run(command: string, ...args: string[]): number {
  const path = `${join(ROOT, "node_modules", ".bin")}${delimiter}${process.env.PATH ?? ""}`;
  const env = { ...process.env, PATH: path };
  const { status, error } = spawnSync(command, args, { cwd: ROOT, env, stdio: ["ignore", "inherit", "inherit"] });
  if (error) {
    console.error(`${command} could not be started: ${error.message}`);
    return 127;
  }
  // No status: a signal ended it.
  return status ?? 1;
}
