/** `signalbox serve` as a process of its own, which a test can kill. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";
import { COMMAND } from "../../scripts/bundle.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { type LogLines, logLines } from "../store/log-lines.ts";

export interface ServerProcess {
  readonly httpUrl: string;
  readonly grpcAddress: string;
  readonly client: SignalboxClient;
  /** What it writes to standard error. */
  readonly logged: LogLines;
  signal(name: NodeJS.Signals): void;
  /** How it ended. Resolves when its output has ended too. */
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Processes that a test left behind, as one that ran out of time, end with the tests of its file. */
const alive = new Set<ChildProcess>();
const endAll = () => {
  for (const child of alive) child.kill("SIGKILL");
};
afterAll(endAll);
process.on("exit", endAll);

/**
 * Starts a server on free ports. `flags` are settings by name, as `{"data.dir": "/tmp/x"}`, and `more` are variables of its
 * environment.
 */
export async function startServer(
  flags: Readonly<Record<string, string>>,
  more: Readonly<Record<string, string>> = {},
): Promise<ServerProcess> {
  const launched = launch(flags, more);
  const serving = await Promise.race([
    launched.logged.until("serving"),
    launched.exit.then(({ code }) => {
      throw new Error(`the server ended with ${code}: ${JSON.stringify(launched.logged.lines)}`);
    }),
  ]);
  const httpUrl = String(serving.http);
  // What breaks is what tests want to see.
  const client = createSignalboxClient({ baseUrl: httpUrl, reconnects: 0 });
  return { ...launched, httpUrl, grpcAddress: String(serving.grpc), client };
}

/** Flags of V8 with which the tests run, and their servers too. */
const isOfEngine = (flag: string): boolean => flag === "--liftoff-only";

/** The same without waiting until it serves. */
export function launch(flags: Readonly<Record<string, string>>, more: Readonly<Record<string, string>> = {}) {
  // Agents fail here on purpose, and get tasks all the same.
  const settings = { "http.port": "0", "grpc.port": "0", "reputation.enforce": "false", ...flags };
  const args = Object.entries(settings).map(([name, value]) => `--${name.replaceAll(".", "-")}=${value}`);
  const environment = Object.entries(process.env).filter(([name]) => !name.startsWith("SIGNALBOX_"));
  const child = spawn(process.execPath, [...process.execArgv.filter(isOfEngine), COMMAND, "serve", ...args], {
    cwd: ROOT,
    env: { ...Object.fromEntries(environment), ...more },
    stdio: ["ignore", "ignore", "pipe"],
  });
  alive.add(child);
  const logged = logLines();
  createInterface(child.stderr).on("line", logged.write);
  const exit = once(child, "close").then(([code, signal]) => {
    alive.delete(child);
    return { code: code as number | null, signal: signal as NodeJS.Signals | null };
  });
  return { logged, exit, signal: (name: NodeJS.Signals) => void child.kill(name) };
}
