/** Load on a server over HTTP: the same request over and over, a fixed number at once, for a fixed time. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Load, latencies } from "./latency.ts";
import { CONNECTIONS, connectionsFor, headersOf, type LoadRequest, type LoadShape } from "./load-request.ts";
import { runNodeClient } from "./node-load.ts";

const run = promisify(execFile);

export interface LoadGenerator extends AsyncDisposable {
  /** In words, for people. */
  readonly description: string;
  /** Throws when an answer is not HTTP 200. */
  run(request: LoadRequest, shape: LoadShape, signal: AbortSignal): Promise<Load>;
}

/** h2load where the machine has it; a client in this process where not. */
export async function createLoadGenerator(): Promise<LoadGenerator> {
  const shape = `gRPC over at most ${CONNECTIONS} connections, JSON over one for each call in flight`;
  const version = await run("h2load", ["--version"]).then(
    ({ stdout }) => stdout.trim(),
    () => undefined,
  );
  if (version === undefined) {
    return { description: `Node in the bench, ${shape}`, run: runNodeClient, async [Symbol.asyncDispose]() {} };
  }
  const folder = await mkdtemp(join(tmpdir(), "signalbox-bench-"));
  return {
    description: `${version}, ${shape}`,
    run: (request, loadShape, signal) => runH2load(folder, request, loadShape, signal),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

/** h2load sends one body all the time, so each body has one of its own. */
async function runH2load(
  folder: string,
  request: LoadRequest,
  { inFlight, durationMs }: LoadShape,
  signal: AbortSignal,
): Promise<Load> {
  const { authority, path, bodies, protocol } = request;
  const { connections, streams } = connectionsFor(request, inFlight);
  const headers = Object.entries(headersOf(request)).flatMap(([name, value]) => ["--header", `${name}: ${value}`]);
  const timesMs = await Promise.all(
    bodies.map(async (body, index) => {
      const bodyFile = join(folder, `${index}.body`);
      const logFile = join(folder, `${index}.log`);
      await writeFile(bodyFile, body);
      // h2load adds to a log that is there.
      await rm(logFile, { force: true });
      const shape = [`--clients=${connections / bodies.length}`, `--max-concurrent-streams=${streams}`];
      const what = [`--data=${bodyFile}`, ...headers, `http://${authority}${path}`];
      const how = [`--duration=${durationMs}ms`, `--log-file=${logFile}`, ...(protocol === "json" ? ["--h1"] : [])];
      const { stdout } = await run("h2load", [...shape, ...how, ...what], { signal });
      expectGood(stdout);
      return timesIn(await readFile(logFile, "utf8"));
    }),
  );
  const all = timesMs.flat();
  return { calls: all.length, perSecond: (all.length * 1000) / durationMs, ...latencies(all) };
}

/** Throws unless every answer was HTTP 200. */
function expectGood(output: string): void {
  const [, done, succeeded] = /, (\d+) done, (\d+) succeeded,/.exec(output) ?? [];
  // Some of the calls that the end cut off have a status already, so there may be more of those than calls done.
  const onlyGood = /status codes: \d+ 2xx, 0 3xx, 0 4xx, 0 5xx/.test(output);
  if (done === undefined || done !== succeeded || !onlyGood)
    throw new Error(`not every answer was HTTP 200:\n${output}`);
}

/** A line a call: when it began, its HTTP status, microseconds to its end. What the end cut off has status -1. */
function timesIn(log: string): number[] {
  const calls = log.split("\n").map((line) => line.split("\t"));
  return calls.filter(([, status]) => status === "200").map(([, , took]) => Number(took) / 1000);
}
