/** What is under test: a process each, so that none disturbs another, and all on the same core. */
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

export interface ServerProcess<Address extends object> extends AsyncDisposable {
  readonly address: Address;
  /** Asks the process something, in the terms of its file. Throws what it throws, and when it ends instead of answering. */
  ask<Answer>(question: unknown): Promise<Answer>;
  /** Time that it has spent on the processor since it started, in milliseconds. */
  cpuMs(): Promise<number>;
  /** Memory that it has of the machine (its resident set), in bytes. */
  residentBytes(): Promise<number>;
}

/** What goes to a process, and what comes back: one answer to each question. */
export interface Question {
  id: number;
  question: unknown;
}
export type Answer = { id: number; answer: unknown } | { id: number; error: string };

/** Every process of the bench answers these by itself. */
export const CPU_QUESTION = "cpu";
export const MEMORY_QUESTION = "memory";

/** Starts `bench/servers/<name>.ts` and waits until it is ready. It ends with this process, however that ends. */
export async function startServer<Address extends object = ServerAddress>(
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
      throw new Error(`${name} ended before it was ready, with code ${code}`);
    });
    const [address] = await Promise.race([once(child, "message", { signal }), early]);
    early.catch(() => {});

    const open = new Map<number, PromiseWithResolvers<unknown>>();
    let asked = 0;
    child.on("message", (message: Answer) => {
      const waiting = open.get(message.id);
      open.delete(message.id);
      if ("error" in message) waiting?.reject(new Error(`${name}: ${message.error}`));
      else waiting?.resolve(message.answer);
    });
    child.once("exit", (code) => {
      for (const waiting of open.values()) waiting.reject(new Error(`${name} ended with code ${code}`));
    });
    async function ask<T>(question: unknown): Promise<T> {
      options.signal.throwIfAborted();
      const waiting = Promise.withResolvers<unknown>();
      open.set(++asked, waiting);
      child.send({ id: asked, question } satisfies Question, (error) => error && waiting.reject(error));
      return (await waiting.promise) as T;
    }
    return {
      address,
      ask,
      cpuMs: () => ask(CPU_QUESTION),
      residentBytes: () => ask(MEMORY_QUESTION),
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
