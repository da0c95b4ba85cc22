/**
 * Builds the configuration of a server from flags, environment, a YAML file and defaults, in this order. This folder is
 * the only reader of the environment.
 */
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { dirname, isAbsolute, relative, resolve } from "node:path";
import { nearest } from "../domain/nearest.ts";
import { CLIENT_VARIABLES } from "./client-credentials.ts";
import { ConfigError, type ConfigProblem } from "./config-error.ts";
import { identityContradictions } from "./identity-contradictions.ts";
import {
  type Config,
  environmentName,
  flagName,
  isSettingKey,
  SETTING_KEYS,
  type SettingKey,
  type SettingValue,
  settingOf,
  toConfig,
} from "./settings.ts";
import { unreadable } from "./unreadable.ts";
import { workerContradictions } from "./worker-contradictions.ts";
import { type Given, guess, readYaml } from "./yaml-settings.ts";

export interface ConfigSources {
  /** Flags by the name of the setting, as `{"http.port": "0"}`; `true` is a flag without a value. */
  flags?: Readonly<Record<string, string | boolean>>;
  /** The environment of the process, unless given. Empty variables count as unset. */
  env?: Readonly<Record<string, string | undefined>>;
  /** The working folder, unless given. */
  cwd?: string;
  /** Defaults of the calling program instead of those of the table. */
  defaults?: { readonly [K in SettingKey]?: SettingValue<K> };
}

/** The values of one source. */
type Layer = Map<SettingKey, Given>;

/** Variables that are named like settings and are none. */
const OTHER_VARIABLES = new Set<string>([
  "SIGNALBOX_SERVER",
  "SIGNALBOX_CA",
  "SIGNALBOX_CERT",
  "SIGNALBOX_CERT_KEY",
  "SIGNALBOX_TEST_DATABASE_URL",
  ...Object.values(CLIENT_VARIABLES),
]);

/** The complete, checked configuration. Throws ConfigError with every mistake of every source at once. */
export function loadConfig(sources: ConfigSources = {}): Config {
  const { flags = {}, env = process.env, cwd = process.cwd(), defaults = {} } = sources;
  const problems: ConfigProblem[] = [];
  const layers = [readFlags(flags, problems), readEnvironment(env, problems)];
  const file = configFile(layers, cwd);
  if (file) layers.push(readFile(file, cwd, problems));

  // Every source is checked on its own: a mistake is one even where a stronger source hides it.
  const folders = [cwd, cwd, file ? dirname(file.path) : cwd];
  const values: Partial<Record<SettingKey, unknown>> = {};
  const wheres = new Map<SettingKey, string>();
  for (const [index, layer] of layers.entries()) {
    for (const [key, given] of layer) {
      const value = check(key, given, folders[index]!, problems);
      if (value === undefined || wheres.has(key)) continue;
      values[key] = value;
      wheres.set(key, given.where);
    }
  }
  if (file) values.config = file.path;
  const config = complete(values, defaults, cwd);
  const where = (key: SettingKey) => wheres.get(key) ?? flagName(key);
  problems.push(...contradictions(config, where));
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

/**
 * The address of the server that a client command speaks to: `--server`, `SIGNALBOX_SERVER` or the local default.
 * Throws ConfigError when it is no http or https address.
 */
export function serverUrl(flag: string | undefined, env: ConfigSources["env"] = process.env): string {
  const [given, where] = flag ? [flag, "--server"] : [env.SIGNALBOX_SERVER || DEFAULT_SERVER, "SIGNALBOX_SERVER"];
  if (/^https?:\/\//.test(given) && URL.canParse(given)) return given.replace(/\/+$/, "");
  const message = `The server is ${show(given)}: it takes an http:// or https:// address, such as ${DEFAULT_SERVER}.`;
  throw new ConfigError([{ where, message }]);
}

/** Where a server listens by default. */
export const DEFAULT_SERVER = "http://127.0.0.1:8080";

function readFlags(flags: Readonly<Record<string, string | boolean>>, problems: ConfigProblem[]): Layer {
  const layer: Layer = new Map();
  for (const [name, value] of Object.entries(flags)) {
    const where = flagName(name);
    if (!isSettingKey(name)) {
      problems.push({ where, message: `There is no such flag. ${guess(where, SETTING_KEYS.map(flagName))}` });
    } else {
      layer.set(name, { where, value: typeof value === "string" ? settingOf(name).fromText(value) : value });
    }
  }
  return layer;
}

function readEnvironment(env: NonNullable<ConfigSources["env"]>, problems: ConfigProblem[]): Layer {
  const layer: Layer = new Map();
  const names = new Map(SETTING_KEYS.map((key) => [environmentName(key), key]));
  for (const [name, text] of Object.entries(env)) {
    const key = names.get(name);
    if (!text || !name.startsWith("SIGNALBOX_")) continue;
    if (key) {
      layer.set(key, { where: name, value: settingOf(key).fromText(text) });
    } else if (!OTHER_VARIABLES.has(name) && !/^(tcp|udp|sctp):/.test(text)) {
      // Others may set variables of this prefix (Kubernetes does, with such addresses, for a service called signalbox):
      // only what looks like a slip of the hand is a mistake.
      const meant = nearest(name, names.keys(), 2);
      if (meant) problems.push({ where: name, message: `There is no such setting. Did you mean ${meant}?` });
    }
  }
  return layer;
}

/** The YAML file to read: the one that is named, else the default one if it exists. */
function configFile(layers: readonly Layer[], cwd: string): { path: string; where?: string } | undefined {
  const named = layers.map((layer) => layer.get("config")).find((given) => given !== undefined);
  if (typeof named?.value === "string" && named.value !== "") {
    return { path: resolve(cwd, named.value), where: named.where };
  }
  const path = resolve(cwd, "signalbox.yaml");
  return existsSync(path) ? { path } : undefined;
}

function readFile(file: { path: string; where?: string }, cwd: string, problems: ConfigProblem[]): Layer {
  const inside = relative(cwd, file.path);
  const name = inside.startsWith("..") || isAbsolute(inside) ? file.path : inside;
  try {
    return readYaml(readFileSync(file.path, "utf8"), name, problems);
  } catch (error) {
    problems.push({ where: file.where ?? name, message: unreadable(file.path, error) });
    return new Map();
  }
}

/** The value of a setting if it may be used; undefined, and a mistake more, if it may not. */
function check(key: SettingKey, given: Given, folder: string, problems: ConfigProblem[]): unknown {
  const setting = settingOf(key);
  const result = setting.type.safeParse(given.value);
  if (result.success) return setting.path ? resolve(folder, result.data as string) : result.data;

  // For a list, the item that is wrong.
  const index = result.error.issues[0]?.path[0];
  const wrong = Array.isArray(given.value) && typeof index === "number" ? given.value[index] : given.value;
  const is = setting.secret ? "has a value that cannot be used" : `is ${show(wrong)}`;
  const quotes = setting.fromText("1") === "1" && /number|boolean/.test(typeof wrong) ? ", in quotes here" : "";
  problems.push({ where: given.where, message: `${key} ${is}: it takes ${setting.rule}${quotes}.` });
  return undefined;
}

function complete(
  values: Partial<Record<SettingKey, unknown>>,
  defaults: NonNullable<ConfigSources["defaults"]>,
  cwd: string,
): Config {
  const all: Record<string, unknown> = {};
  // Defaults that follow from other values come after them in the table.
  for (const key of SETTING_KEYS) {
    const setting = settingOf(key);
    const fallback = defaults[key] ?? setting.default;
    const value = values[key] ?? (typeof fallback === "function" ? fallback(all) : fallback);
    all[key] = setting.path && typeof value === "string" ? resolve(cwd, value) : value;
  }
  // The table gives each value the type that `check` and the defaults saw to.
  return toConfig(all as Parameters<typeof toConfig>[0]);
}

/** Settings that are right alone and wrong together. */
function contradictions(config: Config, where: (key: SettingKey) => string): ConfigProblem[] {
  const problems = [...identityContradictions(config, where), ...workerContradictions(config, where)];
  const { http, grpc, card } = config;
  if (http.port === grpc.port && http.port !== 0) {
    const message = `grpc.port and http.port are both ${grpc.port}. Give each listener its own; gRPC works on the HTTP port too.`;
    problems.push({ where: where("grpc.port"), message });
  }
  if ((card.providerOrganization === undefined) !== (card.providerUrl === undefined)) {
    const [given, missing] = card.providerUrl
      ? (["card.provider-url", "card.provider-organization"] as const)
      : (["card.provider-organization", "card.provider-url"] as const);
    problems.push({ where: where(given), message: `${given} needs ${missing} beside it. Set both, or neither.` });
  }
  if (card.extended !== undefined) {
    try {
      accessSync(card.extended, constants.R_OK);
    } catch (error) {
      problems.push({ where: where("card.extended"), message: unreadable(card.extended, error) });
    }
  }
  return problems;
}

/** A value as a person would write it, cut to a length that fits a line. */
function show(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "a section";
  const shown = JSON.stringify(value) ?? String(value);
  return shown.length <= 80 ? shown : `${shown.slice(0, 80)}…`;
}
