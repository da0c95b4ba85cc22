/** Servers under test: a process each, so that none disturbs another, and all on the same core. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Cores } from "./cores.ts";

const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 15_000;

export interface ServerAddress {
  /** `host:port` of its HTTP/2 listener. */
  authority: string;
}

export interface ServerProcess<Address extends ServerAddress> extends AsyncDisposable {
  readonly address: Address;
}

/** Starts `bench/servers/<name>.ts` and waits until it listens. It ends with this process, however that ends. */
export async function startServer<Address extends ServerAddress = ServerAddress>(
  name: string,
  options: { cores: Cores; args?: readonly string[]; signal: AbortSignal },
): Promise<ServerProcess<Address>> {
  const file = fileURLToPath(new URL(`../servers/${name}.ts`, import.meta.url));
  const [program = "", ...args] = options.cores.onServerCore([process.execPath, file, ...(options.args ?? [])]);
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  // Not "close": that does not come when the channel was closed from here.
  const ended = once(child, "exit");

  async function stop(): Promise<void> {
    if (child.connected) child.disconnect();
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(timer);
  }

  try {
    const signal = AbortSignal.any([options.signal, AbortSignal.timeout(START_TIMEOUT_MS)]);
    const early = ended.then(([code]) => {
      throw new Error(`the server ${name} ended before it listened, with code ${code}`);
    });
    const [address] = await Promise.race([once(child, "message", { signal }), early]);
    early.catch(() => {});
    return { address, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
