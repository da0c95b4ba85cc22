/** Programs that are not ours, as the tests of interoperability call them. */
import { execFile } from "node:child_process";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

/** The root of the repository. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** The `buf` that npm installed. */
export const BUF = `${ROOT}node_modules/.bin/buf`;

const TIMEOUT_MS = 25_000;

export interface Outcome {
  /** Exit status; of a program that a signal ended, 128 and the signal's number. */
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end, in the root of the repository, whatever it ends with. Rejects when it cannot be run. */
export function runProgram(file: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const options = { cwd: ROOT, env: { ...process.env, ...env }, timeout: TIMEOUT_MS };
    execFile(file, args, options, (error, stdout, stderr) => {
      // A number is an exit status; a text is the name of what kept the program from running.
      if (typeof error?.code === "string") reject(error);
      else resolve({ code: error ? (error.code ?? 128 + signalNumber(error.signal)) : 0, stdout, stderr });
    });
  });
}

const signalNumber = (signal: string | null | undefined): number =>
  constants.signals[(signal ?? "SIGKILL") as NodeJS.Signals];

/** Those of the programs that this machine has not. */
export async function missingPrograms(...names: string[]): Promise<string[]> {
  const search = 'for name; do command -v "$name" > /dev/null || echo "$name"; done';
  const { stdout } = await runProgram("sh", ["-c", search, "sh", ...names]);
  return stdout.split("\n").filter((name) => name !== "");
}
