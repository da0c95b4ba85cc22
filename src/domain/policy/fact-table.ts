/** The facts that policies can ask about: what they are called, of what type they are, and from when on they are known. */
import { SIGNATURE_WORDS } from "../card-signature.ts";
import { AUTHENTICATIONS } from "../identity/principal.ts";
import { nearest } from "../nearest.ts";
import { PRIORITIES } from "../priority.ts";
import { PHASES, type PolicyPhase } from "./facts.ts";

/**
 * What a fact is and with what it can be compared. `texts` is a list of texts; `choice` is one of a few texts; `money` is a
 * decimal number, in `Facts` whole millionths; `date` is as `2026-12-24`; `time` is as `09:30`.
 */
export type FactKind = "text" | "texts" | "choice" | "number" | "money" | "date" | "time";

export interface FactInfo {
  readonly kind: FactKind;
  /** From then on it is known. */
  readonly from: PolicyPhase;
  readonly description: string;
  /** Of a choice. */
  readonly values?: readonly string[];
  /** Whether the values of a choice stand in an order, the least first. */
  readonly isOrdered?: boolean;
  /** Whether it is read from the clock of a time zone. */
  readonly isOfClock?: boolean;
  /** Whether it may be missing once its phase has come. */
  readonly mayBeMissing?: boolean;
  /** Whether it is a whole number. */
  readonly isWhole?: boolean;
  /** What a number can be: the least, and the most where there is one. */
  readonly range?: readonly [least: number, most?: number];
}

const WEEKDAYS = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];
const SOURCES = ["ADDRESS", "TENANT", "EXTENSION", "TEXT", "DEFAULT"];
const STATES = ["COMPLETED", "FAILED", "CANCELED", "REJECTED", "INPUT_REQUIRED", "AUTH_REQUIRED"];

const atAdmission = { from: "ADMISSION" } as const;
const ofCandidate = { from: "CANDIDATE" } as const;
const ofResult = { from: "RESULT" } as const;
const clock = { ...atAdmission, isOfClock: true } as const;
const missing = { mayBeMissing: true } as const;
const whole = { kind: "number", isWhole: true, range: [0] } as const;

/** All facts but the labels, in the order in which they become known. */
export const FACTS = {
  principal_id: { kind: "text", ...atAdmission, description: "who asks" },
  principal_roles: { kind: "texts", ...atAdmission, description: "the roles of who asks" },
  principal_scopes: { kind: "texts", ...atAdmission, description: "the scopes of who asks; `*` is all of them" },
  principal_authentication: {
    kind: "choice",
    ...atAdmission,
    values: AUTHENTICATIONS,
    description: "how who asks has said who it is",
  },
  principal_actors: {
    kind: "texts",
    ...atAdmission,
    description: "who acts for who asks, the one that has called first; empty where it calls itself",
  },
  workspace_id: { kind: "text", ...atAdmission, description: "the workspace; also written `tenant_id`" },
  task_priority: {
    kind: "choice",
    ...atAdmission,
    values: PRIORITIES,
    isOrdered: true,
    description: "how urgent the task is",
  },
  context_id: { kind: "text", ...atAdmission, ...missing, description: "the context that the client named" },
  message_bytes: { ...whole, ...atAdmission, description: "size of the message, in bytes" },
  message_parts: { ...whole, ...atAdmission, description: "number of its parts" },
  input_modes: { kind: "texts", ...atAdmission, description: "media types of its parts" },
  accepted_modes: { kind: "texts", ...atAdmission, description: "media types that the client takes" },
  delegation_depth: { ...whole, ...atAdmission, description: "how many tasks stand above it; 0 for none" },
  parent_agent_id: { kind: "text", ...atAdmission, ...missing, description: "the agent on whose behalf it is sent" },
  date: { kind: "date", ...clock, description: "the day" },
  time_of_day: { kind: "time", ...clock, description: "the time, from 00:00 to 23:59" },
  hour: { ...whole, range: [0, 23], ...clock, description: "the hour, from 0 to 23" },
  weekday: { kind: "choice", ...clock, values: WEEKDAYS, description: "the day of the week" },
  agent_id: { kind: "text", ...ofCandidate, description: "the agent that may take the task" },
  capability_id: {
    kind: "text",
    ...ofCandidate,
    ...missing,
    description: "what it takes the task for; missing where the agent alone is asked for",
  },
  capability_access: {
    kind: "choice",
    ...ofCandidate,
    ...missing,
    values: ["READ", "WRITE"],
    description: "whether the capability changes something",
  },
  cost: { kind: "money", ...ofCandidate, description: "what the task costs there" },
  reputation_score: {
    kind: "number",
    range: [0, 1],
    ...ofCandidate,
    ...missing,
    description: "the agent's score, from 0 to 1",
  },
  card_signature: {
    kind: "choice",
    ...ofCandidate,
    values: SIGNATURE_WORDS,
    description: "what the signatures of the agent's card are worth; NONE where it has none",
  },
  route_source: {
    kind: "choice",
    ...ofCandidate,
    ...missing,
    values: SOURCES,
    description: "what said where to look; missing of a further message",
  },
  output_state: { kind: "choice", ...ofResult, values: STATES, description: "how the agent ended or rests" },
  output_bytes: { ...whole, ...ofResult, description: "size of the output, in bytes" },
  output_artifacts: { ...whole, ...ofResult, description: "number of its artifacts" },
  output_modes: { kind: "texts", ...ofResult, description: "media types of its parts" },
  output_text: { kind: "text", ...ofResult, description: "all its words: parts, names, descriptions and metadata" },
} as const satisfies Readonly<Record<string, FactInfo>>;

/** Labels are asked for by their key. */
const LABELS = "labels.";
const LABEL: FactInfo = { kind: "text", ...ofCandidate, ...missing, description: "a label of the capability" };
const ALIASES: Readonly<Record<string, string>> = { tenant_id: "workspace_id" };

/** What may be written where a fact is meant. */
const FACT_NAMES: readonly string[] = [...Object.keys(FACTS), ...Object.keys(ALIASES), `${LABELS}<key>`];

export interface NamedFact {
  /** The one text of that name that there is, so that looking it up is quick. */
  readonly name: string;
  readonly info: FactInfo;
}

/** A fact by what a document calls it; undefined where there is none. */
export function factOf(written: string): NamedFact | undefined {
  const known = BY_NAME.get(written);
  if (known) return known;
  return written.length > LABELS.length && written.startsWith(LABELS) ? { name: written, info: LABEL } : undefined;
}

const BY_NAME: ReadonlyMap<string, NamedFact> = new Map(
  [...Object.keys(FACTS), ...Object.keys(ALIASES)].map((written) => {
    const name = ALIASES[written] ?? written;
    return [written, { name, info: FACTS[name as keyof typeof FACTS] }];
  }),
);

/** What to write in place of a name that is no fact: the nearest that is, or which there are. */
export function factHint(written: string): string {
  const longer = FACT_NAMES.filter((name) => name.startsWith(`${written}_`));
  const meant =
    longer.length === 1 ? longer[0] : nearest(written, FACT_NAMES, Math.max(2, Math.floor(written.length / 3)));
  return meant ? `Did you mean ${meant}?` : `The facts are ${FACT_NAMES.join(", ")}.`;
}

/** The key of a label's fact; undefined for other facts. */
export const labelKey = (name: string): string | undefined =>
  name.startsWith(LABELS) ? name.slice(LABELS.length) : undefined;

/** Whether one comes after the other. */
export const isLater = (a: PolicyPhase, b: PolicyPhase): boolean => PHASES.indexOf(a) > PHASES.indexOf(b);

export const laterOf = (a: PolicyPhase, b: PolicyPhase): PolicyPhase => (isLater(a, b) ? a : b);
