/**
 * By what rule agents are trusted: the `reputation` section of a policy document, with its defaults. Reading it is pure; what is
 * wrong in it is told all at once, each with its place.
 */
import { durationMs } from "../duration.ts";
import { clip } from "../errors.ts";
import { suggestion } from "../nearest.ts";

export interface TrustRule {
  /** The trust of an agent of which nothing was seen, and the score that it is taken to have. From 0 to 1. */
  readonly initial: number;
  /** The trust that an agent needs for capabilities that only read, and for those of which nobody says what they do. */
  readonly read: number;
  /** The trust that an agent needs for capabilities that are declared to write. Not below `read`. */
  readonly write: number;
  /** What a task that ended well adds to trust. From 0 to 1. */
  readonly gain: number;
  /** What a failed task takes from it. From 0 to 1. */
  readonly loss: number;
  /** After so long, an outcome counts half in the score, in milliseconds. */
  readonly halfLifeMs: number;
  /** In so long, trust that was lost below `initial` comes half the way back to it, in milliseconds. */
  readonly recoveryMs: number;
}

export const DEFAULT_TRUST_RULE: TrustRule = {
  initial: 0.5,
  read: 0.3,
  write: 0.8,
  gain: 0.05,
  loss: 0.1,
  halfLifeMs: 24 * 3_600_000,
  recoveryMs: 3_600_000,
};

/** Something that is wrong in a document, and what would be right. */
interface Problem {
  readonly path: string;
  readonly description: string;
}

const SHARES = ["initial", "read", "write", "gain", "loss"] as const;
/** Field of the document, and of the rule. */
const DURATIONS = { half_life: "halfLifeMs", recovery: "recoveryMs" } as const;
const FIELDS: readonly string[] = [...SHARES, ...Object.keys(DURATIONS)];

const LEAST_MS = 1_000;
const MOST_MS = 366 * 86_400_000;

/**
 * Reads the section, as YAML gave it. What it leaves out has its default; an absent section is all defaults. `path` is that of the
 * section, as `reputation`.
 */
export function trustRuleIn(value: unknown, path: string): { rule: TrustRule } | { problems: Problem[] } {
  if (value === undefined || value === null) return { rule: DEFAULT_TRUST_RULE };
  if (typeof value !== "object" || Array.isArray(value)) {
    return { problems: [{ path, description: `is a mapping with any of ${FIELDS.join(", ")}` }] };
  }
  const problems: Problem[] = [];
  const refuse = (field: string, description: string) => void problems.push({ path: `${path}.${field}`, description });
  const rule: { -readonly [K in keyof TrustRule]: number } = { ...DEFAULT_TRUST_RULE };
  for (const [field, given] of Object.entries(value)) {
    if (isShare(field)) {
      if (typeof given === "number" && given >= 0 && given <= 1) rule[field] = given;
      else refuse(field, "is a number from 0 to 1");
    } else if (isDuration(field)) {
      const ms = boundedMs(given);
      if (ms !== undefined) rule[DURATIONS[field]] = ms;
      else refuse(field, 'is a duration from 1s to 366d, as "24h"; the units are ms, s, m, h and d');
    } else {
      refuse(clip(field, 64), `is no field of it. ${suggestion(field, FIELDS)}`);
    }
  }
  if (problems.length === 0 && rule.write < rule.read) {
    refuse("write", `is not below read, which is ${rule.read}: whoever may write may read`);
  }
  return problems.length > 0 ? { problems } : { rule };
}

const isShare = (field: string): field is (typeof SHARES)[number] => (SHARES as readonly string[]).includes(field);

const isDuration = (field: string): field is keyof typeof DURATIONS => Object.hasOwn(DURATIONS, field);

/** Undefined for what is no duration, or is beyond its bounds. */
function boundedMs(given: unknown): number | undefined {
  const ms = typeof given === "string" ? durationMs(given) : undefined;
  return ms !== undefined && ms >= LEAST_MS && ms <= MOST_MS ? ms : undefined;
}
