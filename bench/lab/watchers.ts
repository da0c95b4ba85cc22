/** Watchers of tasks in a process of their own, off the servers' core. */
import { ANY_CORE } from "./cores.ts";
import { inTime } from "./in-time.ts";
import { startServer } from "./server-process.ts";

/** Longest wait for what is to come, in milliseconds. */
const PATIENCE_MS = 60_000;

/** SubscribeToTask over gRPC, many times. */
export interface Watching {
  /** `host:port` of an HTTP/2 listener. */
  authority: string;
  /** The streams take turns with them. */
  taskIds: readonly string[];
  streams: number;
  connections: number;
  /** Further headers. */
  headers?: Readonly<Record<string, string>>;
  /** Whether it is to be known how old each chunk was when it came. */
  isTimed?: boolean;
}

/** What the process is asked. */
export type WatchersQuestion =
  | { what: "open"; watching: Watching }
  | { what: "each" | "all"; chunks: number }
  | { what: "times" | "close" };

export interface Watchers extends AsyncDisposable {
  /** Opens streams; each has shown its task when this resolves. */
  open(watching: Watching): Promise<void>;
  /** Resolves when each stream has had so many chunks since it was opened. */
  each(chunks: number): Promise<void>;
  /** Resolves when all streams together have had so many chunks, with how many of them have had any. */
  all(chunks: number): Promise<number>;
  /** How old the chunks were when they came, since this was asked last, in milliseconds. */
  timesMs(): Promise<number[]>;
  /** Closes all streams, with their connections. */
  close(): Promise<void>;
  cpuMs(): Promise<number>;
}

/** All throw when a stream ends by itself, and when nothing comes for a minute. */
export async function startWatchers(signal: AbortSignal): Promise<Watchers> {
  const child = await startServer<object>("watchers", { cores: ANY_CORE, signal });
  const ask = <T>(question: WatchersQuestion): Promise<T> =>
    inTime(`watchers, ${question.what}`, child.ask<T>(question), PATIENCE_MS, signal);
  return {
    open: (watching) => ask({ what: "open", watching }),
    each: (chunks) => ask({ what: "each", chunks }),
    all: (chunks) => ask({ what: "all", chunks }),
    timesMs: () => ask({ what: "times" }),
    close: () => ask({ what: "close" }),
    cpuMs: child.cpuMs,
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}
