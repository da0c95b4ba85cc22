/** A NATS server for one run, where the machine has the program. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { inTime } from "./in-time.ts";

const START_TIMEOUT_MS = 20_000;
/** Where Debian puts it, which is not on everybody's path. */
const DEBIAN = "/usr/sbin/nats-server";
const PROGRAM = existsSync(DEBIAN) ? DEBIAN : "nats-server";

export interface NatsServer extends AsyncDisposable {
  /** `nats://127.0.0.1:port`. */
  readonly url: string;
  /** `nats-server: v2.9.10`. */
  readonly version: string;
}

/** Undefined where there is none to start. */
export async function startNats(signal: AbortSignal): Promise<NatsServer | undefined> {
  let version: string;
  try {
    version = execFileSync(PROGRAM, ["--version"], { encoding: "utf8" }).trim();
  } catch {
    return undefined;
  }
  const folder = await mkdtemp(join(tmpdir(), "signalbox-bench-"));
  const args = ["--addr", "127.0.0.1", "--port", "-1", "--jetstream", "--store_dir", folder];
  const child = spawn(PROGRAM, args, { stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  const end = () => void child.kill("SIGKILL");
  process.once("exit", end);
  async function stop(): Promise<void> {
    end();
    await ended;
    process.off("exit", end);
    await rm(folder, { recursive: true, force: true });
  }
  try {
    const url = await inTime("nats-server", listening(child.stderr), START_TIMEOUT_MS, signal);
    return { url, version, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Its address, from its log, once it is ready. */
function listening(log: NodeJS.ReadableStream): Promise<string> {
  return new Promise((resolve, reject) => {
    let url = "";
    const said: string[] = [];
    const lines = createInterface(log);
    lines.on("line", (line) => {
      const [, port] = /Listening for client connections on [\d.]+:(\d+)/.exec(line) ?? [];
      if (port !== undefined) url = `nats://127.0.0.1:${port}`;
      if (said.push(line) > 100) said.shift();
      if (url !== "" && line.includes("Server is ready")) resolve(url);
    });
    lines.on("close", () => reject(new Error(`nats-server ended:\n${said.join("\n")}`)));
  });
}
