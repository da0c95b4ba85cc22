/** One start of the command `signalbox serve` as a process of its own, until it has answered a call, and its end. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { inTime } from "../lab/in-time.ts";
import { treeCpuMs } from "../lab/process-tree.ts";

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 15_000;

export interface Start {
  /** From before the process is there until it says that it serves, in milliseconds. */
  servingMs: number;
  /** From then on until the first call is answered, in milliseconds. */
  answeredMs: number;
  /** Time that it has spent on the processor by then; undefined where that is not known. */
  cpuMs: number | undefined;
}

export interface Program {
  /** The file that Node runs. */
  file: string;
  /** Settings by name, as `{"data.dir": "/tmp/x"}`. */
  settings: Readonly<Record<string, string>>;
  /** Variables of its environment. */
  env: Readonly<Record<string, string>>;
  /** A folder without a `signalbox.yaml`. */
  cwd: string;
}

/** Starts it, calls GetTask once over HTTP, and ends it. */
export async function start(program: Program, signal: AbortSignal): Promise<Start> {
  const begun = performance.now();
  const child = launch(program);
  const exited = once(child, "exit");
  try {
    const httpUrl = await inTime("the line that it serves", serving(child), START_TIMEOUT_MS, signal);
    const servingMs = performance.now() - begun;
    await inTime("the first call", getTask(httpUrl), START_TIMEOUT_MS, signal);
    const answeredMs = performance.now() - begun;
    return { servingMs, answeredMs, cpuMs: await treeCpuMs(child.pid!) };
  } finally {
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(timer);
  }
}

function launch({ file, settings, env, cwd }: Program): ChildProcess {
  const all = { "http.port": "0", "grpc.port": "0", "drain.ms": "1000", ...settings };
  const args = Object.entries(all).map(([name, value]) => `--${name.replaceAll(".", "-")}=${value}`);
  const own = ([name]: [string, unknown]) => !name.startsWith("SIGNALBOX_") && name !== "NODE_COMPILE_CACHE";
  const environment = { ...Object.fromEntries(Object.entries(process.env).filter(own)), ...env };
  return spawn(process.execPath, [file, "serve", ...args], {
    cwd,
    env: environment,
    stdio: ["ignore", "ignore", "pipe"],
  });
}

/** The address of its HTTP listener, from the line of its log that says that it serves. */
async function serving(child: ChildProcess): Promise<string> {
  const lines = createInterface(child.stderr!);
  const said: string[] = [];
  const found = new Promise<string>((resolve, reject) => {
    lines.on("line", (line) => {
      said.push(line);
      if (!line.includes('"serving"')) return;
      const { msg, http } = JSON.parse(line) as { msg: string; http: string };
      if (msg === "serving") resolve(http);
    });
    lines.on("close", () => reject(new Error(`it ended before it served:\n${said.join("\n")}`)));
  });
  return found;
}

/** Asks for a task that is not there: the whole way to the database and back. */
async function getTask(httpUrl: string): Promise<void> {
  const call = httpRequest(`${httpUrl}/tasks/none`, { agent: false, headers: { "a2a-version": "1.0" } });
  call.end();
  const [answer] = (await once(call, "response")) as [IncomingMessage];
  const body = await text(answer);
  if (answer.statusCode !== 404 || !body.includes("TASK_NOT_FOUND")) {
    throw new Error(`GetTask answers HTTP ${answer.statusCode}: ${body}`);
  }
}
