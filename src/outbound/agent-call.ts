/** One call to an agent, whatever the binding: how long it may be silent, what ends it, what travels beside its body. */
import type { Abortable, AbortGroup } from "../services/abort-group.ts";
import { AgentCallError, type AgentCallOptions } from "../services/agent-port.ts";
import type { Proof } from "./agent-proof.ts";

/**
 * Begins a call: the agent is expected to speak at once. The call ends with the reason of `options.signal` or of
 * `shutdown`, or with an AgentCallError of kind "timeout" after `options.timeoutMs` of silence.
 */
export function beginCall(rpc: string, options: AgentCallOptions, shutdown: AbortGroup): AgentCall {
  return new AgentCall(rpc, options, shutdown);
}

export class AgentCall implements Abortable {
  /** Name of the RPC, as `SendMessage`, for messages. */
  readonly rpc: string;
  /** What it carries to prove who calls. */
  proof: Proof | undefined;
  /** Set when the agent has answered that it does not know who calls: HTTP 401, UNAUTHENTICATED of gRPC. */
  isUnknownCaller = false;
  readonly #options: AgentCallOptions;
  readonly #shutdown: AbortGroup;
  /** Why the call ended, once it has. */
  #ended: { reason: unknown } | undefined;
  // A controller, with its signal, costs more than the rest of a call to an agent in this process.
  #controller: AbortController | undefined;
  #beneath: Abortable | undefined;
  // One timer, which is wound up again: a call may expect thousands of items.
  #timer: NodeJS.Timeout | undefined;
  #expecting = false;

  constructor(rpc: string, options: AgentCallOptions, shutdown: AbortGroup) {
    this.rpc = rpc;
    this.#options = options;
    this.#shutdown = shutdown;
    const { signal } = options;
    if (signal.aborted) this.abort(signal.reason);
    else signal.addEventListener("abort", this);
    shutdown.add(this);
    this.expect();
  }

  /** Ends whatever lies beneath the call. Its reason is what the call throws. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#ended) this.#controller.abort(this.#ended.reason);
    }
    return this.#controller.signal;
  }

  /** A2A-Version, A2A-Extensions and traceparent (section 3.2.6), in lower case as HTTP/2 and gRPC want them. */
  get headers(): Record<string, string> {
    return callHeaders(this.#options);
  }

  /** The task's deadline, for a binding that can tell it in its own way. It is among the headers too. */
  get deadlineAt(): Date | undefined {
    return this.#options.deadlineAt;
  }

  /** Has one thing ended with the call, as `signal` does, where no signal is needed. */
  endsWithIt(beneath: Abortable): void {
    if (this.#ended) beneath.abort(this.#ended.reason);
    else this.#beneath = beneath;
  }

  throwIfEnded(): void {
    if (this.#ended) throw this.#ended.reason;
  }

  /** The agent is to speak: from now on its silence counts. */
  expect(): void {
    if (this.#ended) return;
    this.#expecting = true;
    if (this.#timer) this.#timer.refresh();
    else this.#timer = setTimeout(onSilence, this.#options.timeoutMs, this);
  }

  /** Nothing is expected of the agent for now, as while a consumer is busy with what it said. */
  rest(): void {
    this.#expecting = false;
  }

  /** Frees the timer and the listeners, and ends what still runs beneath. */
  end(): void {
    this.#expecting = false;
    clearTimeout(this.#timer);
    this.#options.signal.removeEventListener("abort", this);
    this.#shutdown.delete(this);
    this.abort(CALL_ENDED);
  }

  abort(reason: unknown): void {
    if (this.#ended) return;
    this.#ended = { reason };
    this.#controller?.abort(reason);
    const beneath = this.#beneath;
    this.#beneath = undefined;
    beneath?.abort(reason);
  }

  /** For the caller's signal. */
  handleEvent(): void {
    this.abort(this.#options.signal.reason);
  }

  /** For the timer. */
  fallSilent(): void {
    this.#timer = undefined;
    if (!this.#expecting) return;
    const { timeoutMs } = this.#options;
    this.abort(new AgentCallError("timeout", `The agent was silent for ${timeoutMs} ms during ${this.rpc}.`));
  }
}

const onSilence = (call: AgentCall): void => call.fallSilent();

/** Made once: it is never thrown, and an error for each call would cost a stack trace. */
const CALL_ENDED = new Error("The call has ended.");

function callHeaders(options: AgentCallOptions): Record<string, string> {
  const headers: Record<string, string> = { "a2a-version": "1.0" };
  const extensions = options.extensions?.filter(isHeaderText) ?? [];
  if (extensions.length > 0) headers["a2a-extensions"] = extensions.join(",");
  if (options.traceparent !== undefined && isHeaderText(options.traceparent)) headers.traceparent = options.traceparent;
  if (options.deadlineAt) headers["signalbox-task-deadline"] = options.deadlineAt.toISOString();
  return headers;
}

/** What no header can carry is neither a URI nor a trace context. */
const isHeaderText = (text: string): boolean => /^[\x21-\x7e]+$/.test(text);

/** The items of `source` as they come; silence counts only while the next one is awaited. */
export async function* listen<T>(call: AgentCall, source: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
  try {
    call.expect();
    for await (const item of source) {
      call.rest();
      yield item;
      call.expect();
    }
  } finally {
    call.rest();
  }
}
