/** Load on an HTTP/2 server: the same request over and over, a fixed number at once, for a fixed time. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type ClientHttp2Session, connect, constants } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** 64 calls in flight. */
const CONNECTIONS = 8;
const STREAMS = 8;

export interface LoadRequest {
  /** `host:port`. */
  authority: string;
  path: string;
  body: Uint8Array;
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
    return { description: `node:http2 of the bench, ${shape}`, run: runNodeClient, async [Symbol.asyncDispose]() {} };
  }
  const folder = await mkdtemp(join(tmpdir(), "signalbox-bench-"));
  return {
    description: `${version}, ${shape}`,
    run: (request, durationMs, signal) => runH2load(join(folder, "body"), request, durationMs, signal),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

async function runH2load(
  bodyFile: string,
  { authority, path, body }: LoadRequest,
  durationMs: number,
  signal: AbortSignal,
): Promise<number> {
  await writeFile(bodyFile, body);
  const headers = Object.entries(HEADERS).flatMap(([name, value]) => ["--header", `${name}: ${value}`]);
  const shape = ["--clients", String(CONNECTIONS), "--max-concurrent-streams", String(STREAMS)];
  const args = [
    ...shape,
    "--duration",
    `${durationMs}ms`,
    "--data",
    bodyFile,
    ...headers,
    `http://${authority}${path}`,
  ];
  const { stdout } = await run("h2load", args, { signal });
  const [, done, succeeded] = /, (\d+) done, (\d+) succeeded,/.exec(stdout) ?? [];
  // Of the calls that the end of the time cut off, some have a status already: those may be more than the done ones.
  const onlyGood = /status codes: \d+ 2xx, 0 3xx, 0 4xx, 0 5xx/.test(stdout);
  if (!Number(done) || done !== succeeded || !onlyGood) {
    throw new Error(`h2load on ${path}: not every answer was HTTP 200\n${stdout}`);
  }
  return (Number(done) * 1000) / durationMs;
}

async function runNodeClient(request: LoadRequest, durationMs: number, signal: AbortSignal): Promise<number> {
  const sessions = Array.from({ length: CONNECTIONS }, () => connect(`http://${request.authority}`));
  const started = performance.now();
  const until = started + durationMs;
  let done = 0;
  async function keepCalling(session: ClientHttp2Session): Promise<void> {
    while (performance.now() < until) {
      signal.throwIfAborted();
      await callOnce(session, request);
      done += 1;
    }
  }
  try {
    await Promise.all(sessions.flatMap((session) => Array.from({ length: STREAMS }, () => keepCalling(session))));
    return (done * 1000) / (performance.now() - started);
  } finally {
    for (const session of sessions) session.destroy();
  }
}

function callOnce(session: ClientHttp2Session, { path, body }: LoadRequest): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      [constants.HTTP2_HEADER_METHOD]: "POST",
      [constants.HTTP2_HEADER_PATH]: path,
      ...HEADERS,
    });
    stream.on("response", ({ ":status": status }) => {
      if (status !== 200) reject(new Error(`${path} answered HTTP ${status}`));
    });
    stream.on("error", reject);
    stream.on("close", resolve);
    stream.resume();
    stream.end(body);
  });
}
