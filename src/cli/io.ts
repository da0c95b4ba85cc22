/** What a command reads and writes. Given from outside, so that a test can be the terminal. */
import cluster from "node:cluster";
import type { ConfigSources } from "../config/load.ts";

/** Exit codes: done, failed, wrong use. */
export type ExitCode = 0 | 1 | 2;

export interface Io {
  /** Takes results. */
  out(text: string): void;
  /** Takes logs and errors. */
  err(text: string): void;
  /** Aborts when the user wants the command to stop. */
  readonly stop: AbortSignal;
  /** All of standard input; that of the process, unless given. */
  stdin?(): Buffer;
  /** The environment of the process, unless given. */
  readonly env?: NonNullable<ConfigSources["env"]>;
  /** The working folder, unless given. */
  readonly cwd?: string;
}

/**
 * The terminal of this process. The first SIGINT or SIGTERM asks the command to stop, the second ends it at once. A worker of `serve`
 * leaves the second one to the process that started it: a signal of the terminal reaches both.
 */
export function processIo(): Io {
  const stop = new AbortController();
  const onSignal = () => {
    if (stop.signal.aborted && !cluster.isWorker) process.exit(1);
    stop.abort();
  };
  // Likewise, it is for that process to replace its workers.
  if (cluster.isWorker) process.on("SIGUSR2", () => {});
  process.on("SIGINT", onSignal);
  process.on("SIGTERM", onSignal);
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // Who reads the results has seen enough, as `head` does.
    if (error.code === "EPIPE") process.exit(0);
    throw error;
  });
  return {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    stop: stop.signal,
  };
}
