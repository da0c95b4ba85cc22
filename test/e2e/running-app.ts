/**
 * A whole server for tests: real listeners on free ports of 127.0.0.1, and a database of its own. That is on PostgreSQL unless a test
 * says otherwise: a PGlite costs five times as much to start as the rest of the server.
 */
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import type { Logger } from "pino";
import { type AppOptions, type RunningApp, startApp } from "../../src/app.ts";
import type { Io } from "../../src/cli/io.ts";
import { run } from "../../src/cli/run.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Config } from "../../src/config/settings.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import type { Scheme } from "../../src/services/identity/credentials.ts";
import type { Database } from "../../src/store/database.ts";
import { pgliteDirectory, temporaryDirectory } from "../setup/pglite-template.ts";
import { alsoScanned, scanCommand, scannedLog } from "../setup/secret-scanner.ts";

export interface TestAppOptions {
  /** Where its database is, unless `flags` say it. Default: PostgreSQL; PGlite for benchmarks. */
  backend?: Database["backend"] | undefined;
  /** Settings by name, as `{"http.base-path": "/sb"}`, over those of the tests. */
  flags?: Readonly<Record<string, string>>;
  /** Agents that are functions, by id; each is registered under it. */
  agents?: Readonly<Record<string, AgentHandler>>;
  /** More functions, by name, that whoever registers an agent may name as its place. */
  places?: Readonly<Record<string, AgentHandler>>;
  /** What their cards have besides, by id. */
  cards?: Readonly<Record<string, object>>;
  /** A policy document, for all workspaces. */
  policy?: object;
  /** Ways to say who one is, beside those of the settings. */
  schemes?: readonly Scheme[];
  /** Opens its database, for a test that looks into it meanwhile. */
  openDatabase?: AppOptions["openDatabase"];
  /** What agents are registered with: who does. */
  headers?: Readonly<Record<string, string>>;
  /** Takes the log, instead of nobody. */
  log?: Logger;
}

export interface TestApp {
  readonly httpUrl: string;
  readonly grpcAddress: string;
  readonly dataDir: string;
  /** Registers an agent through the API and returns it. `source` is one of card, card_url and base_url. */
  register(agentId: string, source: Readonly<Record<string, unknown>>): Promise<unknown>;
  /** Drains it and deletes its data. */
  stop(): Promise<void>;
}

export async function startTestApp({
  backend = process.env.VITEST === undefined ? "pglite" : "postgres",
  flags = {},
  agents = {},
  places = {},
  cards = {},
  policy,
  schemes,
  headers = {},
  openDatabase,
  log,
}: TestAppOptions = {}): Promise<TestApp> {
  const hasPlace = flags["database.url"] !== undefined || flags["data.dir"] !== undefined;
  const dataDir = await (hasPlace || backend === "postgres" ? temporaryDirectory() : pgliteDirectory());
  // Loaded here: only tests have the server that it needs.
  const made =
    hasPlace || backend === "pglite" ? undefined : await (await import("../store/backends.ts")).createDatabase();
  const settings = {
    "http.port": "0",
    "grpc.port": "0",
    "data.dir": dataDir,
    ...(made && { "database.url": made.url }),
    "drain.ms": "1000",
    "log.level": "silent",
    // Agents that are not there are given up sooner.
    "task.retry-min-ms": "100",
    // Agents are asked what the test asks of them, and nothing else.
    "health.interval-ms": "0",
    // Agents fail here on purpose, and get tasks all the same.
    "reputation.enforce": "false",
  };
  // Beside the folder, which the database wants to itself.
  const policyPath = `${dataDir}.policy.json`;
  async function clean(): Promise<void> {
    await Promise.all([dataDir, policyPath].map((path) => rm(path, { recursive: true, force: true })));
    await made?.drop();
  }
  let config: Config;
  let app: RunningApp;
  try {
    if (policy) await writeFile(policyPath, JSON.stringify({ version: 1, ...policy }));
    const files = policy && { "policy.path": policyPath };
    config = loadConfig({ flags: { ...settings, ...files, ...flags }, env: {}, cwd: dataDir });
    app = await startApp(config, {
      inProcess: new Map(Object.entries({ ...agents, ...places })),
      ...(schemes && { schemes }),
      ...(openDatabase && { openDatabase }),
      ...logOf(log),
    });
  } catch (error) {
    await clean();
    throw error;
  }

  async function register(agentId: string, source: Readonly<Record<string, unknown>>): Promise<unknown> {
    const response = await fetch(`${app.httpUrl}/v1/agents`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify({ agentId, ...source }),
    });
    if (!response.ok) throw new Error(`${agentId} was not registered: ${await response.text()}`);
    return response.json();
  }

  for (const agentId of Object.keys(agents))
    await register(agentId, { card: { ...inProcessCard(agentId), ...cards[agentId] } });
  return {
    httpUrl: app.httpUrl,
    grpcAddress: app.grpcAddress,
    dataDir: config.data.dir,
    register,
    async stop() {
      await app.drain();
      await clean();
    },
  };
}

/** No secret may stand in a log, whoever reads it. Benchmarks have none. */
function logOf(log: Logger | undefined): { log?: Logger } {
  if (process.env.VITEST === undefined) return log ? { log } : {};
  return { log: log ? alsoScanned(log) : scannedLog() };
}

/** The card of an agent that is a function of this name, in ProtoJSON. */
export function inProcessCard(name: string): Record<string, unknown> {
  return {
    name,
    description: `The agent ${name} of the tests.`,
    version: "1.0.0",
    supportedInterfaces: [{ url: `in-process:${name}`, protocolBinding: "IN-PROCESS", protocolVersion: "1.0" }],
    capabilities: { streaming: true },
    defaultInputModes: ["text/plain"],
    defaultOutputModes: ["text/plain"],
    skills: [{ id: name, name, description: `What ${name} does.`, tags: ["test"] }],
  };
}

export interface CommandResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface CommandOptions extends Pick<Partial<Io>, "stop" | "env" | "cwd"> {
  /** What is on standard input. */
  stdin?: string;
  /** Told of all that the command has written, each time that it writes. */
  onText?: (text: { out: string; err: string }) => void;
}

/** Runs a command line in this process, with a terminal and an environment of its own, against the server at a URL. */
export async function runCommand(
  serverUrl: string,
  args: readonly string[],
  { stop = new AbortController().signal, env, cwd = tmpdir(), stdin, onText }: CommandOptions = {},
): Promise<CommandResult> {
  const text = { out: "", err: "" };
  const take = (stream: "out" | "err") => (more: string) => {
    text[stream] += more;
    onText?.(text);
  };
  const code = await run([...args], {
    out: take("out"),
    err: take("err"),
    stop,
    env: { SIGNALBOX_SERVER: serverUrl, ...env },
    cwd,
    ...(stdin !== undefined && { stdin: () => Buffer.from(stdin) }),
  });
  scanCommand(args, text);
  return { code, ...text };
}
