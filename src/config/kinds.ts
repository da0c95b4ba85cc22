/** The kinds of value a setting can have: what is allowed, said for a machine and for a person. */
import { isIP, isIPv4 } from "node:net";
import { z } from "zod";

/** One kind of value. Every front (YAML, environment, flag) is checked by the same `type`. */
export interface Kind<T> {
  type: z.ZodType<T>;
  /** What is allowed, so that "it takes ..." is a sentence. */
  rule: string;
  /** What stands for the value in help texts. */
  placeholder: string;
  /** Reads the text of an environment variable or a flag. What it cannot read it leaves as text, for `type` to refuse. */
  fromText(text: string): unknown;
}

const asIs = (text: string): unknown => text;

/** Free text, not empty unless `pattern` says so. */
export function text(rule: string, placeholder: string, allows: (text: string) => boolean = notBlank): Kind<string> {
  return { type: z.string().refine(allows), rule, placeholder, fromText: asIs };
}

const notBlank = (value: string): boolean => value.trim() !== "";

/** A whole number from `min` to `max`. */
export function integer(min: number, max: number, placeholder = "number"): Kind<number> {
  return {
    type: z.int().min(min).max(max),
    rule: `a whole number from ${min} to ${max}`,
    placeholder,
    fromText: (given) => (/^[+-]?\d+$/.test(given.trim()) ? Number(given) : given),
  };
}

/** A duration in milliseconds. The upper bound of a day keeps it within what timers can hold. */
export const durationMs = (min: number): Kind<number> => integer(min, 86_400_000, "ms");

export const boolean: Kind<boolean> = {
  type: z.boolean(),
  rule: "true or false",
  placeholder: "boolean",
  fromText: (given) => (given === "true" ? true : given === "false" ? false : given),
};

/** One of a few words. */
export function oneOf<const W extends string>(...words: W[]): Kind<W> {
  return { type: z.enum(words), rule: `one of ${words.join(", ")}`, placeholder: "word", fromText: asIs };
}

/** Several texts: a sequence in YAML, separated by commas elsewhere. */
export function list(rule: string, placeholder: string, allows: (text: string) => boolean): Kind<readonly string[]> {
  return {
    type: z.array(z.string().refine(allows)),
    rule,
    placeholder,
    fromText: (given) => (given.trim() === "" ? [] : given.split(",").map((item) => item.trim())),
  };
}

/** A path, relative to the working folder, or to the YAML file that names it. Resolved when loaded. */
export interface PathKind extends Kind<string> {
  path: true;
}

export function path(rule: string, placeholder: string): PathKind {
  return { ...text(rule, placeholder), path: true };
}

/** An http or https address without query or fragment; a slash at its end is dropped. */
export function httpUrl(rule: string): Kind<string> {
  const type = z
    .string()
    .refine((given) => {
      const url = URL.parse(given);
      return url !== null && /^https?:$/.test(url.protocol) && !url.search && !url.hash && !url.username;
    })
    .transform((given) => given.replace(/\/+$/, ""));
  return { type, rule, placeholder: "url", fromText: asIs };
}

/** Whether a text is an IP address or a host name, without a port. */
export function isHost(given: string): boolean {
  return isIP(given) !== 0 || /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(given);
}

/** Whether a text is `host:port`, as gRPC wants it; an IPv6 address stands in brackets. */
export function isHostAndPort(given: string): boolean {
  const match = /^(?:\[(?<ip>[^\]]+)\]|(?<name>[^:/\s]+)):(?<port>\d{1,5})$/.exec(given);
  if (!match?.groups) return false;
  const { ip, name, port } = match.groups;
  return (ip === undefined ? isHost(name ?? "") : isIP(ip) === 6) && Number(port) >= 1 && Number(port) <= 65535;
}

/** Whether only this machine can reach a server that listens on `host`. */
export function isLoopbackHost(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIPv4(host) && host.startsWith("127."));
}
