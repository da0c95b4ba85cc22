/** Asks agents themselves what they take for a task, in a message with the quote extension. */
import { create, fromJson, type JsonObject, toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { MessageSchema, PartSchema, Role } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Negotiate } from "../../../gen/signalbox/v1/message_pb.ts";
import { clip, SignalboxError } from "../../domain/errors.ts";
import { type AgentQuote, QUOTE_EXTENSION, quoteIn } from "../../domain/quote-extension.ts";
import { type AgentAddress, AgentCallError, type AgentConnector } from "../agent-port.ts";
import type { RequestContext } from "../request-context.ts";
import type { Possible } from "../routing/offers.ts";
import type { Runtime } from "../runtime.ts";

/** Longest note of why an agent's quote was not taken, in characters. */
const MAX_NOTE_LENGTH = 512;

/** What an agent is asked about, besides the capability. */
export interface QuoteQuestion {
  readonly asked: Negotiate;
  readonly correlationId: string;
  readonly round: number;
  /** How long an agent may think, in milliseconds. */
  readonly timeoutMs: number;
}

export interface AgentQuotes {
  /** An agent's quote, or why there is none: a sentence. Takes no longer than the question allows, and a little. */
  ask(context: RequestContext, offer: Possible, question: QuoteQuestion): Promise<AgentQuote | string>;
}

export interface AgentQuotesDeps {
  connector: AgentConnector;
  runtime: Runtime;
}

export function createAgentQuotes({ connector, runtime }: AgentQuotesDeps): AgentQuotes {
  async function asked(
    context: RequestContext,
    offer: Possible,
    question: QuoteQuestion,
  ): Promise<AgentQuote | string> {
    const { agent } = offer;
    const { timeoutMs, asked: wanted } = question;
    const { traceparent, signal } = context;
    const client = connector.connect(agent);
    try {
      const { payload } = await client.send(questionTo(offer, question), {
        signal,
        timeoutMs,
        extensions: [QUOTE_EXTENSION],
        ...(traceparent !== undefined && { traceparent }),
      });
      if (payload.case === "message") {
        const quote = quoteIn(payload.value, { currency: wanted.currency, now: runtime.now() });
        return typeof quote === "string" ? `The agent's quote ${quote}.` : quote;
      }
      if (payload.case === "task") callOff(agent, payload.value.id, timeoutMs);
      return "The agent answered with a task, not with a quote.";
    } finally {
      client.release();
    }
  }

  /** An agent began a task that nobody wants. Nobody waits until it has heard so. */
  function callOff(agent: AgentAddress, taskId: string, timeoutMs: number): void {
    const client = connector.connect(agent);
    const { signal } = new AbortController();
    client
      .cancel(taskId, { signal, timeoutMs })
      .catch(() => {})
      .finally(() => client.release());
  }

  function questionTo({ capability }: Possible, { asked, correlationId, round }: QuoteQuestion) {
    const { message, maxCost, maxLatencyMs, currency } = asked;
    const quoteRequest: JsonObject = {
      capability: capability?.capabilityId ?? "",
      ...(capability?.skillId !== undefined && { skill: capability.skillId }),
      correlationId,
      round,
      ...(message && { parts: message.parts.map((part) => toJson(PartSchema, part)) }),
      ...(maxCost !== "" && { maxCost }),
      ...(maxLatencyMs > 0n && { maxLatencyMs: Number(maxLatencyMs) }),
      ...(currency !== "" && { currency }),
    };
    return create(MessageSchema, {
      messageId: runtime.newId(),
      role: Role.USER,
      extensions: [QUOTE_EXTENSION],
      parts: [{ content: { case: "data", value: fromJson(ValueSchema, { quoteRequest }) } }],
    });
  }

  return {
    async ask(context, offer, question) {
      try {
        return await asked(context, offer, question);
      } catch (error) {
        if (context.signal.aborted) throw error;
        if (error instanceof AgentCallError || error instanceof SignalboxError)
          return clip(error.message, MAX_NOTE_LENGTH);
        throw error;
      }
    },
  };
}
