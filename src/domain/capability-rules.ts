/** Limits of what may be said of a capability. Capabilities are kept in memory, searched, and told to every client. */
import { Access, type Capability as GivenCapability } from "../../gen/signalbox/v1/registry_pb.ts";
import { MAX_DESCRIPTION_LENGTH, MAX_NAME_LENGTH } from "./card-rules.ts";
import type { FieldViolation } from "./errors.ts";
import { isDnsLabel, RESERVED_IDS } from "./identifiers.ts";
import { schemaViolations } from "./json-schema.ts";
import { lengthViolations, listViolations, MAX_OUTPUT_MODES, mediaTypeViolations } from "./message-rules.ts";
import { costMicros, decimalOf, MAX_MICROS } from "./money.ts";

/** Most tags and the longest one; most examples and the longest one. */
export const MAX_TAGS = 64;
export const MAX_TAG_LENGTH = 64;
const MAX_EXAMPLES = 64;
const MAX_EXAMPLE_LENGTH = 1024;
/** Most labels, and the longest key and value. */
export const MAX_LABELS = 64;
const MAX_LABEL_LENGTH = 63;
/** A year: nothing that takes longer is measured in milliseconds. */
const MAX_LATENCY_MS = 31_536_000_000n;
const MAX_CONCURRENCY = 1_000_000;
/** 30 days. */
const MAX_CACHE_TTL_MS = 2_592_000_000n;
const ACCESSES: readonly number[] = [Access.UNSPECIFIED, Access.READ, Access.WRITE];

/** What is wrong with a capability that was given, with paths below `at`, as `capability.costPerTask`. */
export function capabilityViolations(given: GivenCapability, at: string): FieldViolation[] {
  const field = (name: string) => `${at}.${name}`;
  return [
    ...capabilityIdViolations(field("capabilityId"), given.capabilityId),
    ...lengthViolations(field("name"), given.name, MAX_NAME_LENGTH),
    ...lengthViolations(field("description"), given.description, MAX_DESCRIPTION_LENGTH),
    ...listViolations(field("tags"), given.tags, MAX_TAGS, wordViolations(MAX_TAG_LENGTH)),
    ...listViolations(field("examples"), given.examples, MAX_EXAMPLES, wordViolations(MAX_EXAMPLE_LENGTH)),
    ...listViolations(field("inputModes"), given.inputModes, MAX_OUTPUT_MODES, modeViolations),
    ...listViolations(field("outputModes"), given.outputModes, MAX_OUTPUT_MODES, modeViolations),
    ...(given.inputSchema ? schemaViolations(given.inputSchema, field("inputSchema")) : []),
    ...(given.outputSchema ? schemaViolations(given.outputSchema, field("outputSchema")) : []),
    ...costViolations(field("costPerTask"), given.costPerTask),
    ...rangeViolations(field("averageLatencyMs"), given.averageLatencyMs, MAX_LATENCY_MS),
    ...concurrencyViolations(field("maxConcurrency"), given.maxConcurrency),
    ...rangeViolations(field("serviceLevel.maxLatencyMs"), given.serviceLevel?.maxLatencyMs ?? 0n, MAX_LATENCY_MS),
    ...rangeViolations(field("serviceLevel.availability"), given.serviceLevel?.availability ?? 0, 1),
    ...(ACCESSES.includes(given.access)
      ? []
      : [{ field: field("access"), description: "must be ACCESS_READ or ACCESS_WRITE" }]),
    ...labelViolations(field("labels"), given.labels),
    ...rangeViolations(field("cacheTtlMs"), given.cacheTtlMs, MAX_CACHE_TTL_MS),
  ];
}

/** What is wrong with the number of tasks that an agent works on at once; 0 is no limit. */
export const concurrencyViolations = (field: string, tasks: number): FieldViolation[] =>
  rangeViolations(field, tasks, MAX_CONCURRENCY);

function capabilityIdViolations(field: string, id: string): FieldViolation[] {
  if (RESERVED_IDS.has(id)) return [{ field, description: `"${id}" is reserved; take another` }];
  if (isDnsLabel(id)) return [];
  return [{ field, description: "must be a DNS label: a-z, 0-9, - inside, 63 characters at most" }];
}

/** A text that is one of several and must say something. */
const wordViolations =
  (max: number) =>
  (field: string, text: string): readonly FieldViolation[] =>
    text.trim() === "" ? [{ field, description: "must not be empty" }] : lengthViolations(field, text, max);

const modeViolations = (field: string, mode: string): readonly FieldViolation[] =>
  mode.trim() === "" ? [{ field, description: "must not be empty" }] : mediaTypeViolations(field, mode);

function costViolations(field: string, cost: string): FieldViolation[] {
  if (costMicros(cost) !== undefined) return [];
  const description = `must be a decimal number such as 0.25: no sign, at most 6 digits after the point, at most ${decimalOf(MAX_MICROS)}`;
  return [{ field, description }];
}

function rangeViolations<N extends number | bigint>(field: string, value: N, max: N): FieldViolation[] {
  // Written so that NaN is refused.
  return value >= 0 && value <= max ? [] : [{ field, description: `must be from 0 to ${max}` }];
}

function labelViolations(field: string, labels: Readonly<Record<string, string>>): FieldViolation[] {
  const entries = Object.entries(labels);
  if (entries.length > MAX_LABELS) return [{ field, description: `at most ${MAX_LABELS}` }];
  return entries.flatMap(([key, value]) => {
    const at = `${field}[${JSON.stringify(key)}]`;
    // Clients ask for labels as key=value, several of them with commas between.
    if (key === "" || /[=,]/.test(key)) return [{ field: at, description: "a key must not be empty or hold = or ," }];
    if (value.includes(",")) return [{ field: at, description: "a value must not hold a comma" }];
    if (key.length <= MAX_LABEL_LENGTH && value.length <= MAX_LABEL_LENGTH) return [];
    return [{ field: at, description: `keys and values of at most ${MAX_LABEL_LENGTH} characters` }];
  });
}
