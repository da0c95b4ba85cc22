/** A server of several workers, as tests see it: its processes, its page of metrics, and calls that each have a connection of their own. */
import http from "node:http";
import { text } from "node:stream/consumers";
import type { ServerProcess } from "./server-process.ts";

/** Processes of all workers that were started so far, by the number of the worker. */
export function workerPids({ logged }: ServerProcess): Map<number, number> {
  const started = logged.lines.filter(({ msg }) => msg === "a worker is started");
  return new Map(started.map(({ worker, pid }) => [Number(worker), Number(pid)]));
}

/** Resolves when so many workers have begun to serve since the server was started. */
export async function untilServed({ logged }: ServerProcess, workers: number): Promise<void> {
  while (logged.lines.filter(({ msg }) => msg === "serving").length < workers) await logged.next();
}

/** The value of one line of the page of metrics, such as `signalbox_workers{state="wanted"}`; undefined where there is none. */
export const sampleOf = (page: string, name: string): number | undefined => {
  const line = page.split("\n").find((each) => each.startsWith(`${name} `));
  return line === undefined ? undefined : Number(line.slice(name.length + 1));
};

/** By the label `worker`. */
export function samplesByWorker(page: string, name: string): Map<number, number> {
  const lines = page.matchAll(new RegExp(`^${name}\\{worker="(\\d+)"\\} (\\S+)$`, "gm"));
  return new Map([...lines].map(([, worker, value]) => [Number(worker), Number(value)]));
}

/** The sum of all samples of a name, whatever their labels. */
export function sumOf(page: string, name: string): number {
  const lines = page.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, "gm"));
  return [...lines].reduce((sum, [, value]) => sum + Number(value), 0);
}

/** GET over a connection of its own. */
export async function getAlone(options: http.RequestOptions): Promise<string> {
  const response = await new Promise<http.IncomingMessage>((resolve, reject) =>
    http.get({ ...options, agent: false }, resolve).on("error", reject),
  );
  return text(response);
}

export async function metricsPage({ httpUrl }: ServerProcess): Promise<string> {
  const { hostname, port } = new URL(httpUrl);
  return getAlone({ host: hostname, port, path: "/metrics" });
}

/** Whether a process lives. */
export function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
