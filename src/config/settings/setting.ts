import type { Kind } from "../kinds.ts";

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
