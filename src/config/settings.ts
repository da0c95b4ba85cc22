/**
 * All settings of the server, as data. The YAML keys, the environment variables, the flags, the help text, the page
 * docs/configuration.md and the type `Config` are derived from this one table.
 */
import { readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import type { z } from "zod";
import { STRATEGIES } from "../domain/routing/strategy.ts";
import {
  boolean,
  durationMs,
  httpUrl,
  integer,
  isHost,
  isHostAndPort,
  isLoopbackHost,
  type Kind,
  list,
  oneOf,
  path,
  text,
} from "./kinds.ts";

/** One setting. */
export interface Setting extends Kind<unknown> {
  /** What it means, with its unit: one sentence or two for help and docs. */
  about: string;
  /** Its value when nobody gives one, or how that follows from the other settings. None: the setting is optional. */
  default?: unknown;
  /** The default in words, where it is not a plain value. */
  defaultText?: string;
  /** Set when the value may hold a password: it is never shown. */
  secret?: true;
  /** Set when the value is a path, which is made absolute. */
  path?: true;
}

/** Version of this package. */
export const PACKAGE_VERSION: string = readPackageVersion();

export const SETTINGS = {
  config: {
    ...path("the path of a YAML file", "file"),
    about: "The YAML file with further settings. Not itself a key of that file.",
    defaultText: "`signalbox.yaml` in the working folder, if there is one",
  },
  host: {
    ...text("an IP address or a host name, without a port", "address", isHost),
    default: "127.0.0.1",
    about:
      "Address that both listeners bind. It must be loopback: there is no authentication yet, so the server refuses to start on any other.",
  },
  "http.port": {
    ...integer(0, 65535),
    default: 8080,
    about: "Port of the HTTP listener: Connect, gRPC-Web, HTTP+JSON, JSON-RPC, cards, health. 0 takes any free port.",
  },
  "http.base-path": {
    ...text("a path such as /signalbox, without a slash at its end", "path", (p) => /^(\/[\w.~-]+)*$/.test(p)),
    default: "",
    about: "Path prefix of the HTTP listener: stripped before routing, and part of the addresses that cards advertise.",
  },
  "http.cors-origins": {
    ...list("origins such as https://app.example.com, or * for all", "origins", isOrigin),
    default: [],
    about: "Origins of web pages that may call the HTTP listener.",
  },
  "http.compress": {
    ...boolean,
    default: false,
    about:
      "Whether Connect and gRPC-Web answers over 1 KiB are compressed for clients that accept it. Costs half of the throughput.",
  },
  "grpc.port": {
    ...integer(0, 65535),
    default: 50051,
    about: "Port of the gRPC listener. 0 takes any free port.",
  },
  "database.url": {
    ...text("a postgres:// or postgresql:// address", "url", isPostgresUrl),
    secret: true,
    defaultText: "none: the embedded PGlite in `data.dir`",
    about: "PostgreSQL database to store everything in.",
  },
  "database.pool-size": {
    ...integer(1, 1000),
    default: 10,
    about: "Most connections to PostgreSQL at once, besides one that listens for other replicas. PGlite has one.",
  },
  "data.dir": {
    ...path("the path of a folder", "folder"),
    default: ".signalbox",
    defaultText: "`.signalbox` in the working folder",
    about: "Folder of the embedded database; created when missing. One server at a time uses it.",
  },
  "log.level": {
    ...oneOf("fatal", "error", "warn", "info", "debug", "trace", "silent"),
    default: "info",
    about: "The least severe messages that are logged. Logs go to standard error, a JSON object a line.",
  },
  "public.url": {
    ...httpUrl("an http:// or https:// address without query"),
    defaultText: "the address of the HTTP listener, with `http.base-path`",
    about:
      "Address under which clients reach the HTTP listener, for the cards that are served. Needed behind a proxy. `http.base-path` is added to it.",
  },
  "public.grpc": {
    ...text("host:port", "host:port", isHostAndPort),
    defaultText: "the address of the gRPC listener",
    about: "Address under which clients reach the gRPC listener, for the cards that are served.",
  },
  "limits.message-bytes": {
    ...integer(1024, 67_108_864, "bytes"),
    default: 4_194_304,
    about: "Largest request, and largest message of an agent, in bytes.",
  },
  "limits.running-tasks": {
    ...integer(1, 1_000_000),
    default: 10_000,
    about: "Most tasks that one server works on at once. What comes beyond waits in the queue.",
  },
  "limits.queued-tasks": {
    ...integer(0, 10_000_000),
    default: 100_000,
    about:
      "Most tasks that may wait for a server that has room, over all servers on the database. What comes beyond is refused with RESOURCE_EXHAUSTED.",
  },
  "limits.agent-queue": {
    ...integer(0, 1_000_000),
    default: 1_000,
    about:
      "Most tasks that may wait for room at one agent that works on as many as it may. What comes beyond is refused with RESOURCE_EXHAUSTED, and told when to come again.",
  },
  "limits.queue": {
    ...integer(1, 1_000_000),
    default: 10_000,
    about: "Most writes that may wait for the database. What comes beyond is refused with RESOURCE_EXHAUSTED.",
  },
  "drain.ms": {
    ...durationMs(0),
    default: 10_000,
    about: "How long a stopping server lets calls and streams finish, in milliseconds.",
  },
  "allow-private-urls": {
    ...boolean,
    default: (given: { host: string }): boolean => isLoopbackHost(given.host),
    defaultText: "`true` while `host` is loopback, else `false`",
    about: "Whether URLs given to the server (cards, agents, webhooks) may lead to loopback and private addresses.",
  },
  "agent.timeout-ms": {
    ...durationMs(1),
    default: 300_000,
    about:
      "Longest silence of an agent within one call, in milliseconds. Then the call is ended, and the task looked for at the agent if it has named it; if it has not, the attempt has failed.",
  },
  "agent.away-ms": {
    ...durationMs(0),
    default: 60_000,
    about: "How long an agent may be out of reach in the middle of a task before the attempt fails, in milliseconds.",
  },
  "lease.ms": {
    ...durationMs(500),
    default: 10_000,
    about:
      "How long a server's tasks stay its own after its last heartbeat, in milliseconds. It gives four in that time. Then the other servers on the database take its tasks over. The same on all of them.",
  },
  "task.timeout-ms": {
    ...integer(1, 31_536_000_000, "ms"),
    default: 1_209_600_000,
    about: "How long a task may take from its acceptance to its end, in milliseconds. Its client may ask for less.",
  },
  "task.attempt-timeout-ms": {
    ...integer(1, 31_536_000_000, "ms"),
    default: 86_400_000,
    about: "How long an agent may work on a task without a rest, in milliseconds.",
  },
  "task.input-timeout-ms": {
    ...integer(1, 31_536_000_000, "ms"),
    default: 604_800_000,
    about: "How long a task may wait for its client's input, in milliseconds.",
  },
  "task.attempts": {
    ...integer(1, 100),
    default: 6,
    about:
      "How often a task is brought to its agent at most; with the pauses as they are by default, over about twelve seconds. It is tried again only if the agent provably never had it, or is registered as safe to repeat.",
  },
  "task.retry-min-ms": {
    ...durationMs(1),
    default: 500,
    about: "Longest pause before the second attempt, in milliseconds. It doubles with each further one, with jitter.",
  },
  "task.retry-max-ms": {
    ...durationMs(1),
    default: 30_000,
    about: "Longest pause between two attempts, in milliseconds.",
  },
  "task.gather-ms": {
    ...durationMs(0),
    default: 10,
    about:
      "How long a chunk of an artifact may wait to be written together with those that follow it, in milliseconds.",
  },
  "routing.strategy": {
    ...oneOf(...STRATEGIES),
    default: "LEAST_LOAD",
    about:
      "What chooses among several agents that can take a task, where its message does not say. See docs/routing.md.",
  },
  "cache.max-bytes": {
    ...integer(0, 67_108_864, "bytes"),
    default: 1_048_576,
    about: "Largest log of a task whose result is given again to who asks the same, in bytes. See docs/caching.md.",
  },
  "cache.max-entries": {
    ...integer(0, 10_000_000),
    default: 10_000,
    about: "Results that are kept for a workspace. Beyond it the oldest are forgotten, within about a minute.",
  },
  "idempotency.keep-ms": {
    ...integer(1_000, 31_536_000_000, "ms"),
    default: 86_400_000,
    about: "How long a key of idempotency stands for its first request, in milliseconds. See docs/caching.md.",
  },
  "idempotency.message-id": {
    ...boolean,
    default: false,
    about:
      "Whether the `messageId` of a message is the key of a request that brings none. Only where no client gives the same one to two messages.",
  },
  "circuit.failures": {
    ...integer(0, 1000),
    default: 5,
    about:
      "Failures in a row after which an agent that cannot be reached gets no new tasks for a while. 0 turns that off. See docs/agent-health.md.",
  },
  "circuit.open-ms": {
    ...durationMs(1),
    default: 5_000,
    about:
      "How long that while is the first time, in milliseconds. It doubles each time that the agent is not back then.",
  },
  "circuit.open-max-ms": {
    ...durationMs(1),
    default: 60_000,
    about: "The longest that it becomes, in milliseconds.",
  },
  "outlier.max-ejected-percent": {
    ...integer(0, 100, "percent"),
    default: 50,
    about:
      "Share of a capability's agents, in percent, that may be passed over at once because they fail far more tasks than the others. 0 turns that off.",
  },
  "outlier.ejection-ms": {
    ...durationMs(1),
    default: 30_000,
    about:
      "How long such an agent is passed over the first time, in milliseconds. Each further time is longer by as much.",
  },
  "outlier.ejection-max-ms": {
    ...durationMs(1),
    default: 300_000,
    about: "The longest that it becomes, in milliseconds.",
  },
  "health.interval-ms": {
    ...integer(0, 86_400_000, "ms"),
    default: 30_000,
    about: "How often each agent is checked and its card refreshed, in milliseconds. 0 turns that off.",
  },
  "health.timeout-ms": {
    ...durationMs(1),
    default: 5_000,
    about: "Longest wait for an agent that is checked, in milliseconds.",
  },
  "health.failures": {
    ...integer(1, 1000),
    default: 3,
    about:
      "Checks in a row that an agent must fail before it gets no new tasks. One that it passes is enough to get some again.",
  },
  "task.silence-ms": {
    ...durationMs(0),
    default: 500,
    about: "How long a stream waits for the agent's first answer before it shows the task, in milliseconds.",
  },
  "stream.poll-ms": {
    ...durationMs(100),
    default: 5_000,
    about:
      "How often a replica looks into the logs that its clients watch, in milliseconds, in case a hint of another replica was lost.",
  },
  "exchange.keep-ms": {
    ...integer(1_000, 31_536_000_000, "ms"),
    default: 604_800_000,
    about:
      "How long an exchange, the messages with one correlation id, is kept after its last message, in milliseconds. See docs/exchange.md.",
  },
  "card.name": {
    ...text("text", "text"),
    default: "Signalbox",
    about: "Name in the router's own agent card.",
  },
  "card.description": {
    ...text("text", "text"),
    default: "Routes tasks to the agents registered with it.",
    about: "Description in the router's own agent card.",
  },
  "card.version": {
    ...text("text", "text"),
    default: PACKAGE_VERSION,
    defaultText: "the version of Signalbox",
    about: "Version in the router's own agent card.",
  },
  "card.max-age-seconds": {
    ...integer(0, 31_536_000, "seconds"),
    default: 60,
    about: "How long clients may keep a card before they ask again, in seconds.",
  },
  "card.provider-organization": {
    ...text("text", "text"),
    about: "Who runs this router, in its card. Needs `card.provider-url` too.",
  },
  "card.provider-url": {
    ...httpUrl("an http:// or https:// address without query"),
    about: "Website of who runs this router, in its card. Needs `card.provider-organization` too.",
  },
  "card.documentation-url": {
    ...httpUrl("an http:// or https:// address without query"),
    about: "Where people read about this router, in its card.",
  },
  "card.extended": {
    ...path("the path of a JSON file", "file"),
    about: "File with the extended agent card. Without it the card declares none.",
  },
  "push.attempts": {
    ...integer(1, 100),
    default: 5,
    about: "How often a push notification is tried before its webhook is given up for the task.",
  },
  "push.timeout-ms": {
    ...durationMs(1),
    default: 10_000,
    about: "Longest wait for a webhook's answer, in milliseconds.",
  },
} as const satisfies Record<string, Setting>;

/** A setting's name: its place in the YAML file, levels joined by dots. */
export type SettingKey = keyof typeof SETTINGS;

/** All names, in the order of the table. */
export const SETTING_KEYS = Object.keys(SETTINGS) as SettingKey[];

export const isSettingKey = (name: string): name is SettingKey => Object.hasOwn(SETTINGS, name);

/** The setting of that name, without its narrow type. */
export const settingOf = (key: SettingKey): Setting => SETTINGS[key];

/** `http.base-path` is `SIGNALBOX_HTTP_BASE_PATH`. */
export const environmentName = (key: string): string => `SIGNALBOX_${key.replace(/[.-]/g, "_").toUpperCase()}`;

/** `http.base-path` is `--http-base-path`. */
export const flagName = (key: string): string => `--${key.replaceAll(".", "-")}`;

/** The default of a setting for people; undefined when it has none. */
export function defaultText(key: SettingKey): string | undefined {
  const setting = settingOf(key);
  if (setting.defaultText !== undefined) return setting.defaultText;
  if (setting.default === undefined) return undefined;
  const shown = Array.isArray(setting.default) ? setting.default.join(",") : String(setting.default);
  return shown === "" ? "empty" : `\`${shown}\``;
}

type Camel<S extends string> = S extends `${infer A}-${infer B}` ? `${A}${Capitalize<Camel<B>>}` : S;
type SectionOf<K extends string> = K extends `${infer S}.${string}` ? S : never;
type DefaultOf<S> = S extends { default: infer D } ? (D extends (...given: never) => infer R ? R : D) : undefined;

/** The value of one setting. Undefined is possible only where there is no default. */
export type SettingValue<K extends SettingKey> =
  | z.output<(typeof SETTINGS)[K]["type"]>
  | (DefaultOf<(typeof SETTINGS)[K]> extends undefined ? undefined : never);

/**
 * The settings of one server, complete and checked: `http.base-path` is `config.http.basePath`. Paths are absolute;
 * durations are milliseconds, sizes bytes.
 */
export type Config = {
  readonly [K in SettingKey as K extends `${string}.${string}` ? never : Camel<K>]: SettingValue<K>;
} & {
  readonly [S in SectionOf<SettingKey>]: {
    readonly [K in SettingKey as K extends `${S}.${infer Name}` ? Camel<Name> : never]: SettingValue<K>;
  };
};

/** Puts values by name into the shape of `Config`. */
export function toConfig(values: { readonly [K in SettingKey]: SettingValue<K> }): Config {
  const config: Record<string, unknown> = {};
  const sections: Record<string, Record<string, unknown>> = {};
  for (const [key, value] of Object.entries(values)) {
    const [name = "", section] = key.split(".").reverse();
    if (section !== undefined) sections[section] ??= {};
    const place = section === undefined ? config : sections[section]!;
    place[name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())] = value;
  }
  for (const [name, section] of Object.entries(sections)) config[name] = Object.freeze(section);
  return Object.freeze(config) as Config;
}

function isOrigin(given: string): boolean {
  return given === "*" || (/^https?:/.test(given) && URL.parse(given)?.origin === given);
}

function isPostgresUrl(given: string): boolean {
  return /^postgres(ql)?:\/\//.test(given) && URL.canParse(given);
}

function readPackageVersion(): string {
  // Found from here upwards, so that it works from src/ and from dist/src/ alike.
  const file = findPackageJSON("..", import.meta.url);
  if (file === undefined) throw new Error("The package.json of Signalbox is missing.");
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
