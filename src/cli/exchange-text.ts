/** Answers of exchanges, and the record of them, for people. */
import { timestampDate } from "@bufbuild/protobuf/wkt";
import {
  ExchangeKind,
  type ExchangeMessage,
  type ExchangeResult,
  type NegotiateResult,
  QuoteSource,
  type RecordedMessage,
  type VerifyResult,
} from "../../gen/signalbox/v1/message_pb.ts";
import { facts, latencyText, printable, table } from "./printable.ts";
import { decisionText } from "./route.ts";
import { transitionTable } from "./task-log.ts";
import { taskText } from "./task-text.ts";

/** An answer, whatever it is to. */
export function answerText({ payload }: ExchangeMessage): string {
  if (payload.case === "error") {
    const { message, info } = payload.value;
    return `error: ${printable(message)}\n${info ? `  ${printable(info.reason)}\n` : ""}`;
  }
  return payload.case === "result" ? resultText(payload.value) : "";
}

function resultText({ result }: ExchangeResult): string {
  switch (result.case) {
    case "discover": {
      const rows = result.value.capabilities.map((one) => [one.capabilityId, one.agentId, one.name, one.costPerTask]);
      const silent = result.value.agents.filter(({ capabilityIds }) => capabilityIds.length === 0);
      rows.push(...silent.map(({ agent }) => ["", agent?.agentId ?? "", agent?.card?.name ?? "", ""]));
      return rows.length === 0 ? "No agent fits.\n" : table(["CAPABILITY", "AGENT", "NAME", "COST"], rows);
    }
    case "intent": {
      const rows = result.value.matches.map((one) => [
        one.capabilityId,
        one.score.toFixed(1),
        one.agentIds.join(",") + (one.agentCount > one.agentIds.length ? ",…" : ""),
        one.name,
      ]);
      return rows.length === 0 ? "No capability fits.\n" : table(["CAPABILITY", "SCORE", "AGENTS", "NAME"], rows);
    }
    case "negotiate":
      return negotiationText(result.value);
    case "delegate":
    case "revise":
      return result.value.task ? taskText(result.value.task) : "";
    case "explain": {
      const { decision, transitions } = result.value;
      return [decision && decisionText(decision), transitionTable(transitions)].filter(Boolean).join("\n");
    }
    case "verify":
      return verdictText(result.value);
    default:
      return "";
  }
}

function negotiationText({ quotes, bestQuoteId, reasons, strategy }: NegotiateResult): string {
  const rows = quotes.map((quote) => [
    quote.quoteId === bestQuoteId ? "*" : "",
    quote.agentId,
    quote.cost,
    latencyText(quote.latencyMs),
    quote.source === QuoteSource.AGENT ? "agent" : "registry",
    quote.expireTime ? timestampDate(quote.expireTime).toISOString() : "",
    quote.quoteId,
  ]);
  const notes = quotes.filter(({ note }) => note !== "").map(({ agentId, note }) => `${agentId}: ${note}\n`);
  return [
    table(["", "AGENT", "COST", "LATENCY MS", "SAID BY", "HOLDS UNTIL", "QUOTE"], rows),
    ...(notes.length > 0 ? [notes.map(printable).join("")] : []),
    `${strategy}: ${reasons.map(printable).join(" ") || "There is no offer."}\n`,
  ].join("\n");
}

function verdictText({ matches, digest, algorithm, lastSequence, final, note }: VerifyResult): string {
  const verdict = matches === undefined ? "" : matches ? "yes" : "no";
  return facts([
    ["Matches", verdict],
    ["Digest", digest],
    ["Algorithm", algorithm],
    ["At", `${lastSequence}${final ? ", the end of the task" : "; the task goes on"}`],
    ["Note", note],
  ]);
}

/** The messages of exchanges. */
export function recordTable(records: readonly RecordedMessage[]): string {
  if (records.length === 0) return "No messages.\n";
  const names = new Map<number, string>(Object.entries(ExchangeKind).map(([name, kind]) => [kind, name]));
  const rows = records.map(({ message, sequence, taskId, omittedBytes }) => [
    message?.createTime ? timestampDate(message.createTime).toISOString() : "",
    message?.correlationId ?? "",
    String(sequence),
    names.get(message?.kind ?? 0) ?? "",
    message?.sender ?? "",
    message?.receiver ?? "",
    taskId,
    omittedBytes > 0n ? `${omittedBytes} bytes not kept` : "",
  ]);
  return table(["TIME", "EXCHANGE", "#", "KIND", "FROM", "TO", "TASK", ""], rows);
}
