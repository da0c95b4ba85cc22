/**
 * What a client may say about where its task goes and how it is carried, in the metadata of its request under our extension's
 * URI. Keys that are not known here are left for others to read.
 */
import { create } from "@bufbuild/protobuf";
import { type AgentExtension, AgentExtensionSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { clip, type FieldViolation } from "./errors.ts";
import { isDnsLabel } from "./identifiers.ts";
import type { RouteMode } from "./rollout.ts";
import { STRATEGIES, STRATEGY_RULE, type StrategyName, strategyNamed } from "./routing/strategy.ts";
import { PRIORITIES, type Priority } from "./task-log.ts";

export const ROUTING_EXTENSION = "urn:signalbox:a2a:routing:v1";

const ROUTE_MODES: readonly RouteMode[] = ["AUTO", "LOCAL", "REMOTE"];

/** How our cards declare it (A2A specification, section 4.6.1). */
export const routingDeclaration = (): AgentExtension =>
  create(AgentExtensionSchema, {
    uri: ROUTING_EXTENSION,
    description: [
      "The metadata of a SendMessageRequest may say where its task goes and how it is carried,",
      'as {"capability": "translate", "labels": {"region": "eu"}, "priority": "HIGH", "deadlineMs": 60000}.',
      "capability, agent: ids of what should take it.",
      "labels: what its agent must be labelled with.",
      `strategy (${STRATEGIES.join(", ")}): what chooses among several agents.`,
      "maxCost: the most that it may cost, in the workspace's currency.",
      `priority (${PRIORITIES.join(", ")}): which of its workspace's waiting tasks is begun first.`,
      "deadlineMs: the task fails when it has not ended so many milliseconds after it was accepted.",
      `routeMode (${ROUTE_MODES.join(", ")}): whether its agent must be in the router's process, or at an address.`,
      "idempotencyKey: the same request under the same key is answered with the first one's task.",
      "noStore: true takes no earlier task's result, and keeps this one's for nobody.",
    ].join(" "),
    required: false,
  });

export interface RoutingWishes {
  /** Id of the capability that the task needs. */
  capability?: string;
  /** Id of the agent that should take it. */
  agent?: string;
  /** What its agent must be labelled with: each of these, with this value. */
  labels?: Readonly<Record<string, string>>;
  /** What chooses among several agents. */
  strategy?: StrategyName;
  /** The most that it may cost, in millionths of the workspace's currency. */
  maxCostMicros?: number;
  /** Which of its workspace's waiting tasks a replica takes first. NORMAL unless told. */
  priority?: Priority;
  /** The task fails when it has not ended so many milliseconds after it was accepted. */
  deadlineMs?: number;
  /** Where its agent may be. */
  routeMode?: RouteMode;
  /** The same request under the same key is answered with the first one's task. */
  idempotencyKey?: string;
  /** Neither takes an earlier task's result nor keeps this one's. */
  noStore?: boolean;
}

/** A year: beyond it a deadline is none. */
const LONGEST_DEADLINE_MS = 31_536_000_000;
const MAX_LABELS = 16;
/** Longest key and value of a label, in characters, as they are on the side of the agents. */
const MAX_LABEL_LENGTH = 63;
const MICROS = 1_000_000;
/** Beyond it millionths are not whole numbers any more. */
const MAX_COST_MICROS = Number.MAX_SAFE_INTEGER;
const DECIMAL = /^(\d{1,10})(?:\.(\d{1,6}))?$/;

const ID_RULE = "must be an id: a DNS label, at most 63 of a-z, 0-9 and - inside";
const LABELS_RULE = `must be an object of at most ${MAX_LABELS} texts, as {"region": "eu"}`;
const LABEL_RULE = `key and value must be texts of at most ${MAX_LABEL_LENGTH} characters, and the key not empty`;
const COST_RULE = `must be a number from 0 to ${Math.floor(MAX_COST_MICROS / MICROS)} with at most 6 decimals, as 0.25 or "0.25"`;

/** What a key of idempotency may be, wherever it is said. */
export const IDEMPOTENCY_KEY = /^[\x21-\x7e]{1,255}$/;
export const IDEMPOTENCY_KEY_RULE = "must be 1 to 255 visible ASCII characters, such as a UUID";

/** Reads the wishes of a request, or tells what is wrong with them, by path. */
export function routingWishes(metadata: Record<string, unknown> | undefined): RoutingWishes | FieldViolation[] {
  const said = metadata?.[ROUTING_EXTENSION];
  if (said === undefined) return {};
  const field = `metadata["${ROUTING_EXTENSION}"]`;
  if (!isObject(said)) {
    return [{ field, description: 'must be an object, as {"priority": "HIGH", "deadlineMs": 60000}' }];
  }
  const wishes: RoutingWishes = {};
  const violations: FieldViolation[] = [];
  const refuse = (key: string, description: string) => violations.push({ field: `${field}.${key}`, description });

  const { capability, agent, labels, strategy, maxCost, priority, deadlineMs, routeMode, idempotencyKey, noStore } =
    said;
  if (isId(capability)) wishes.capability = capability;
  else if (capability !== undefined) refuse("capability", ID_RULE);

  if (isId(agent)) wishes.agent = agent;
  else if (agent !== undefined) refuse("agent", ID_RULE);

  if (labels !== undefined) {
    if (!isObject(labels) || Object.keys(labels).length > MAX_LABELS) refuse("labels", LABELS_RULE);
    else {
      // One is enough to mend the others by, and keys may be long.
      const wrong = Object.keys(labels).find((key) => !isLabel(key, labels[key]));
      if (wrong === undefined) wishes.labels = labels as Record<string, string>;
      else refuse(`labels[${JSON.stringify(clip(wrong, MAX_LABEL_LENGTH))}]`, LABEL_RULE);
    }
  }

  const strategyName = strategyNamed(strategy);
  if (strategyName) wishes.strategy = strategyName;
  else if (strategy !== undefined) refuse("strategy", STRATEGY_RULE);

  const micros = costMicros(maxCost);
  if (micros !== undefined) wishes.maxCostMicros = micros;
  else if (maxCost !== undefined) refuse("maxCost", COST_RULE);

  if (isPriority(priority)) wishes.priority = priority;
  else if (priority !== undefined) refuse("priority", `must be one of ${PRIORITIES.join(", ")}`);

  if (isDeadline(deadlineMs)) wishes.deadlineMs = deadlineMs;
  else if (deadlineMs !== undefined) {
    refuse("deadlineMs", `must be a whole number of milliseconds from 1 to ${LONGEST_DEADLINE_MS}`);
  }

  const mode = ROUTE_MODES.find((name) => name === routeMode || name.toLowerCase() === routeMode);
  if (mode) wishes.routeMode = mode;
  else if (routeMode !== undefined) refuse("routeMode", `must be one of ${ROUTE_MODES.join(", ")}`);
  if (isIdempotencyKey(idempotencyKey)) wishes.idempotencyKey = idempotencyKey;
  else if (idempotencyKey !== undefined) refuse("idempotencyKey", IDEMPOTENCY_KEY_RULE);

  if (typeof noStore === "boolean") wishes.noStore = noStore;
  else if (noStore !== undefined) refuse("noStore", "must be true or false");
  return violations.length > 0 ? violations : wishes;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isId = (value: unknown): value is string => typeof value === "string" && isDnsLabel(value);

const isLabel = (key: string, value: unknown): boolean =>
  key !== "" && key.length <= MAX_LABEL_LENGTH && typeof value === "string" && value.length <= MAX_LABEL_LENGTH;

const isPriority = (value: unknown): value is Priority => PRIORITIES.includes(value as Priority);

const isIdempotencyKey = (value: unknown): value is string => typeof value === "string" && IDEMPOTENCY_KEY.test(value);

const isDeadline = (value: unknown): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= LONGEST_DEADLINE_MS;

/** A sum of money in millionths; undefined for what is none, or would have to be rounded. */
function costMicros(value: unknown): number | undefined {
  let micros: number;
  if (typeof value === "number") {
    micros = Math.round(value * MICROS);
    // Holds for exactly those numbers that a decimal of 6 digits names.
    if (micros / MICROS !== value) return undefined;
  } else {
    const [, whole, decimals = ""] = (typeof value === "string" && DECIMAL.exec(value)) || [];
    if (whole === undefined) return undefined;
    micros = Number(whole) * MICROS + Number(decimals.padEnd(6, "0"));
  }
  // Adding 0 makes 0 of -0.
  return micros >= 0 && micros <= MAX_COST_MICROS ? micros + 0 : undefined;
}
