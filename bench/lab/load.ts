/** Load on an HTTP/2 server: the same request over and over, a fixed number at once, for a fixed time. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type ClientHttp2Session, connect } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** 64 calls in flight. */
export const CONNECTIONS = 8;
const STREAMS = 8;

export interface LoadRequest {
  /** `host:port`. */
  authority: string;
  path: string;
  /** The connections take turns with them: one for all, or as many as there are connections. */
  bodies: readonly Uint8Array[];
}

export interface LoadGenerator extends AsyncDisposable {
  /** In words, for people. */
  readonly description: string;
  /** Answers per second. Throws when any of them is not HTTP 200. */
  run(request: LoadRequest, durationMs: number, signal: AbortSignal): Promise<number>;
}

const HEADERS = { "content-type": "application/grpc", te: "trailers" };

/** h2load where the machine has it; a client in this process where not. */
export async function createLoadGenerator(): Promise<LoadGenerator> {
  const shape = `${CONNECTIONS * STREAMS} calls in flight (${CONNECTIONS} connections of ${STREAMS} streams)`;
  const version = await run("h2load", ["--version"]).then(
    ({ stdout }) => stdout.trim(),
    () => undefined,
  );
  if (version === undefined) {
    return { description: `node:http2 in the bench, ${shape}`, run: runNodeClient, async [Symbol.asyncDispose]() {} };
  }
  const folder = await mkdtemp(join(tmpdir(), "signalbox-bench-"));
  return {
    description: `${version}, ${shape}`,
    run: (request, durationMs, signal) => runH2load(folder, request, durationMs, signal),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

/** h2load sends one body all the time, so each body has one of its own. */
async function runH2load(folder: string, request: LoadRequest, durationMs: number, signal: AbortSignal) {
  const { authority, path, bodies } = request;
  const headers = Object.entries(HEADERS).flatMap(([name, value]) => ["--header", `${name}: ${value}`]);
  const done = await Promise.all(
    bodies.map(async (body, index) => {
      const bodyFile = join(folder, String(index));
      await writeFile(bodyFile, body);
      const shape = [`--clients=${CONNECTIONS / bodies.length}`, `--max-concurrent-streams=${STREAMS}`];
      const what = [`--duration=${durationMs}ms`, `--data=${bodyFile}`, ...headers, `http://${authority}${path}`];
      const { stdout } = await run("h2load", [...shape, ...what], { signal });
      return answersOf(stdout);
    }),
  );
  return (done.reduce((sum, count) => sum + count, 0) * 1000) / durationMs;
}

/** How many answers h2load tells of. */
function answersOf(output: string): number {
  const [, done, succeeded] = /, (\d+) done, (\d+) succeeded,/.exec(output) ?? [];
  // Some of the calls that the end cut off have a status already, so there may be more of those than calls done.
  const onlyGood = /status codes: \d+ 2xx, 0 3xx, 0 4xx, 0 5xx/.test(output);
  if (!Number(done) || done !== succeeded || !onlyGood) throw new Error(`not every answer was HTTP 200:\n${output}`);
  return Number(done);
}

async function runNodeClient(request: LoadRequest, durationMs: number, signal: AbortSignal): Promise<number> {
  const { authority, path, bodies } = request;
  const sessions = Array.from({ length: CONNECTIONS }, () => connect(`http://${authority}`));
  const started = performance.now();
  let done = 0;
  async function keepCalling(session: ClientHttp2Session, body: Uint8Array): Promise<void> {
    while (performance.now() < started + durationMs) {
      signal.throwIfAborted();
      await callOnce(session, path, body);
      done += 1;
    }
  }
  try {
    const callers = sessions.flatMap((session, index) =>
      Array.from({ length: STREAMS }, () => keepCalling(session, bodies[index % bodies.length]!)),
    );
    await Promise.all(callers);
    return (done * 1000) / (performance.now() - started);
  } finally {
    for (const session of sessions) session.destroy();
  }
}

function callOnce(session: ClientHttp2Session, path: string, body: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":method": "POST", ":path": path, ...HEADERS });
    stream.on("response", ({ ":status": status }) => {
      if (status !== 200) reject(new Error(`${path} answered HTTP ${status}`));
    });
    stream.on("error", reject);
    stream.on("close", resolve);
    stream.resume();
    stream.end(body);
  });
}
