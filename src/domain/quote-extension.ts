/**
 * The extension `urn:signalbox:a2a:quote:v1`: an agent that declares it says itself what it takes for a task. It is sent a
 * message with the extension named and a data part {"quoteRequest": {...}}, and answers with a bare Message that has a data
 * part {"quote": {...}}. Pure.
 */
import { type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import type { AgentCard, Message } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { clip } from "./errors.ts";
import { costMicros } from "./money.ts";

export const QUOTE_EXTENSION = "urn:signalbox:a2a:quote:v1";

/** What an agent offered. */
export interface AgentQuote {
  costMicros: number;
  /** Undefined: it did not say. In milliseconds. */
  latencyMs: number | undefined;
  terms: JsonObject | undefined;
  /** Undefined: it did not say. */
  validUntil: Date | undefined;
}

/** Longest latency that is believed, in milliseconds: a year. */
const MAX_LATENCY_MS = 31_536_000_000;
/** Largest terms, in characters of JSON. */
const MAX_TERMS_LENGTH = 8192;
const MAX_ECHO_LENGTH = 64;
const DATE_TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$/;
/** Beyond 6 decimals numbers are written with an exponent. */
const SHORTEST_DECIMALS = /^\d+(\.\d{1,6})?$/;

export const givesQuotes = ({ capabilities }: AgentCard): boolean =>
  capabilities?.extensions.some(({ uri }) => uri === QUOTE_EXTENSION) ?? false;

/** The quote in an agent's answer, or what is wrong with it: the end of a sentence that begins with "The agent's quote". */
export function quoteIn(answer: Message, { currency, now }: { currency: string; now: Date }): AgentQuote | string {
  const quote = answer.parts
    .map(({ content }) => (content.case === "data" ? toJson(ValueSchema, content.value) : undefined))
    .find((data) => isObject(data) && data.quote !== undefined);
  const said = isObject(quote) ? quote.quote : undefined;
  if (!isObject(said)) return 'is none: no data part is {"quote": {...}}';
  if (said.currency !== undefined && said.currency !== currency)
    return `is in the currency ${echo(said.currency)}, not in ${currency === "" ? "the workspace's" : currency}`;
  const micros = microsOf(said.cost);
  if (micros === undefined) return `has the cost ${echo(said.cost)}, which is no decimal number`;
  const { latencyMs, terms, validUntil } = said;
  if (latencyMs !== undefined && !isLatency(latencyMs))
    return `has the latencyMs ${echo(latencyMs)}, which is no time in milliseconds`;
  if (terms !== undefined && (!isObject(terms) || JSON.stringify(terms).length > MAX_TERMS_LENGTH))
    return `has terms that are no object of at most ${MAX_TERMS_LENGTH} characters`;
  const until = validUntil === undefined ? undefined : dateOf(validUntil);
  if (validUntil !== undefined && until === undefined)
    return `has the validUntil ${echo(validUntil)}, which is no time, as 2026-01-01T00:00:00Z`;
  if (until !== undefined && until <= now) return `held until ${echo(validUntil)} only`;
  return { costMicros: micros, latencyMs, terms, validUntil: until };
}

const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isLatency = (value: JsonValue): value is number =>
  typeof value === "number" && value >= 0 && value <= MAX_LATENCY_MS;

function microsOf(value: JsonValue | undefined): number | undefined {
  const text = typeof value === "number" ? String(value) : value;
  return typeof text === "string" && SHORTEST_DECIMALS.test(text) ? costMicros(text) : undefined;
}

function dateOf(value: JsonValue): Date | undefined {
  if (typeof value !== "string" || !DATE_TIME.test(value)) return undefined;
  const date = new Date(value);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

const echo = (value: JsonValue | undefined): string => clip(JSON.stringify(value) ?? "nothing", MAX_ECHO_LENGTH);
