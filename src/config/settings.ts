/**
 * All settings of the server, as data. The YAML keys, the environment variables, the flags, the help text, the page
 * docs/configuration.md and the type `Config` are derived from this one table, which stands in settings/ by topic.
 */
import type { z } from "zod";
import { AUDIT_SETTINGS } from "./settings/audit.ts";
import { CLIENT_SETTINGS } from "./settings/clients.ts";
import { IDENTITY_SETTINGS } from "./settings/identity.ts";
import { POLICY_SETTINGS } from "./settings/policy.ts";
import { ROUTING_SETTINGS } from "./settings/routing.ts";
import { SCALE_SETTINGS } from "./settings/scale.ts";
import { SERVER_SETTINGS } from "./settings/server.ts";
import type { Setting } from "./settings/setting.ts";
import { TASK_SETTINGS } from "./settings/tasks.ts";

/** In the order in which people read of them. */
export const SETTINGS = {
  ...SERVER_SETTINGS,
  ...SCALE_SETTINGS,
  ...TASK_SETTINGS,
  ...ROUTING_SETTINGS,
  ...CLIENT_SETTINGS,
  ...AUDIT_SETTINGS,
  ...POLICY_SETTINGS,
  ...IDENTITY_SETTINGS,
} as const;

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
