/** `signalbox serve`: the server itself. The one command that does not go through the public API. */
import cluster from "node:cluster";
import { once } from "node:events";
import { type Command, Option } from "commander";
import type { AppOptions, RunningApp } from "../app.ts";
import { type ConfigSources, loadConfig } from "../config/load.ts";
import { maskedUrl } from "../config/masked-url.ts";
import { PACKAGE_VERSION } from "../config/package.ts";
import { type Config, defaultText, flagName, SETTING_KEYS, settingOf } from "../config/settings.ts";
import type { ExitCode, Io } from "./io.ts";
import type { Cli } from "./run.ts";

export function addServeCommand(program: Command, cli: Cli): void {
  const command = program.command("serve").description("start the server");
  addConfigOptions(command).action(async () => {
    // Its configuration is that of the process that started it, whatever the files say meanwhile.
    if (cluster.isWorker) return serveAsWorker(cli.io);
    const config = configOf(command, cli.io);
    const tell = (at: ServesAt) => cli.io.out(banner(config, at));
    if (config.workers > 1) cli.exitCode = await serveWithWorkers(config, cli.io, tell);
    else await serve(config, cli.io, tell);
  });
}

type ServesAt = Pick<RunningApp, "httpUrl" | "grpcAddress" | "firstKey">;

/** Keeps `config.workers` other processes serving until `io.stop` aborts, then drains them. Resolves with the exit code. */
async function serveWithWorkers(config: Config, io: Io, onServing: (at: ServesAt) => void): Promise<ExitCode> {
  const { createLog } = await import("../app/log.ts");
  const { superviseWorkers } = await import("../app/workers/supervisor.ts");
  const log = createLog(config.log.level);
  const supervisor = superviseWorkers({ config, log, stop: io.stop, onServing });
  const onReplace = () => void supervisor.replaceAll();
  process.on("SIGUSR2", onReplace);
  try {
    return (await supervisor.ended) as ExitCode;
  } finally {
    process.off("SIGUSR2", onReplace);
  }
}

/** One of those processes. */
async function serveAsWorker(io: Io): Promise<void> {
  const { openWorkerLink } = await import("../app/workers/link.ts");
  const link = await openWorkerLink(io.stop);
  try {
    await serve(link.config, { ...io, stop: link.drain }, link.serving, { worker: link });
  } finally {
    link.close();
  }
}

/** Adds a flag for every setting. */
export function addConfigOptions(command: Command): Command {
  for (const key of SETTING_KEYS) {
    const { about, placeholder, type } = settingOf(key);
    const value = type.safeParse(true).success ? `[${placeholder}]` : `<${placeholder}>`;
    const fallback = defaultText(key);
    const text = `${about}${fallback ? ` (default: ${fallback})` : ""}`.replaceAll("`", "");
    // The default is only told: a value here would hide the environment and the file.
    command.addOption(new Option(`${flagName(key)} ${value}`, text));
  }
  return command.addHelpText(
    "after",
    "\nEvery flag can also be an environment variable (--http-port is SIGNALBOX_HTTP_PORT) or a line of the YAML file\n(http.port). Flags win over the environment, the environment over the file.",
  );
}

/** The configuration that the flags of this command and their environment make. Throws ConfigError. */
export function configOf(command: Command, io: Io, defaults: ConfigSources["defaults"] = {}): Config {
  const given = command.opts<Record<string, string | boolean>>();
  const flags: Record<string, string | boolean> = {};
  for (const key of SETTING_KEYS) {
    const value = given[new Option(flagName(key)).attributeName()];
    if (value !== undefined) flags[key] = value;
  }
  return loadConfig({ flags, defaults, ...(io.env && { env: io.env }), ...(io.cwd !== undefined && { cwd: io.cwd }) });
}

/** Runs a server until `io.stop` aborts, then drains it. Throws SignalboxError when it cannot start. */
export async function serve(
  config: Config,
  io: Io,
  onStarted: (app: RunningApp) => unknown,
  options: Pick<AppOptions, "worker"> = {},
): Promise<void> {
  // Loaded here, so that the commands that only call a server start in a third of the time.
  const { startApp } = await import("../app.ts");
  let app: RunningApp;
  try {
    app = await startApp(config, { ...options, signal: io.stop });
  } catch (error) {
    // Stopped before it had started, which is no failure.
    if (io.stop.aborted) return;
    throw error;
  }
  try {
    await onStarted(app);
    if (!io.stop.aborted) await once(io.stop, "abort");
  } finally {
    await app.drain();
  }
}

/** What is said of the key that the first admin gets. */
const firstKeyLines = (token: string): string[] => [
  "",
  "There is no admin yet. The key of the first one, shown this once:",
  "",
  `  ${token}`,
  "",
  "Keep it where secrets are kept, and use it as SIGNALBOX_API_KEY, or as Authorization: Bearer. Make keys for others with it:",
  "  signalbox keys create NAME --role caller",
  "Who has lost it sets auth.admin-key (SIGNALBOX_AUTH_ADMIN_KEY) and starts the server again.",
  "",
];

/** Where a running server is found, for a person. */
export function banner(config: Config, app: ServesAt): string {
  const { url } = config.database;
  return [
    `Signalbox ${PACKAGE_VERSION} is serving.`,
    `  HTTP      ${app.httpUrl}   (Connect, gRPC-Web, HTTP+JSON, JSON-RPC)`,
    `  gRPC      ${app.grpcAddress}`,
    `  Card      ${app.httpUrl}/.well-known/agent-card.json`,
    `  Database  ${url === undefined ? `PGlite in ${config.data.dir}` : maskedUrl(url)}`,
    ...(app.firstKey === undefined ? [] : firstKeyLines(app.firstKey)),
    "Ctrl-C stops it.",
    "",
  ].join("\n");
}
