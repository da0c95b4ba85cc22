/** One call to an agent, whatever the binding: how long it may be silent, what ends it, what travels beside its body. */
import type { AbortGroup } from "../services/abort-group.ts";
import { AgentCallError, type AgentCallOptions } from "../services/agent-port.ts";

export interface AgentCall {
  /** Name of the RPC, as `SendMessage`, for messages. */
  readonly rpc: string;
  /** Ends whatever lies beneath the call. Its reason is what the call throws. */
  readonly signal: AbortSignal;
  /** A2A-Version, A2A-Extensions and traceparent (section 3.2.6), in lower case as HTTP/2 and gRPC want them. */
  readonly headers: Record<string, string>;
  /** The task's deadline, for a binding that can tell it in its own way. It is among the headers too. */
  readonly deadlineAt: Date | undefined;
  /** The agent is to speak: from now on its silence counts. */
  expect(): void;
  /** Nothing is expected of the agent for now, as while a consumer is busy with what it said. */
  rest(): void;
  /** Frees the timer and the listeners, and ends what still runs beneath. */
  end(): void;
}

/**
 * Begins a call: the agent is expected to speak at once. The call ends with the reason of `options.signal` or of
 * `shutdown`, or with an AgentCallError of kind "timeout" after `options.timeoutMs` of silence.
 */
export function beginCall(rpc: string, options: AgentCallOptions, shutdown: AbortGroup): AgentCall {
  const controller = new AbortController();
  const { signal } = options;
  const onAbort = () => controller.abort(signal.reason);
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  shutdown.add(controller);

  const { timeoutMs } = options;
  // One timer, which is wound up again: a call may expect thousands of items.
  let timer: NodeJS.Timeout | undefined;
  let expecting = false;
  const onSilence = () => {
    timer = undefined;
    if (!expecting) return;
    controller.abort(new AgentCallError("timeout", `The agent was silent for ${timeoutMs} ms during ${rpc}.`));
  };
  const call: AgentCall = {
    rpc,
    signal: controller.signal,
    headers: callHeaders(options),
    deadlineAt: options.deadlineAt,
    expect() {
      expecting = true;
      if (timer) timer.refresh();
      else timer = setTimeout(onSilence, timeoutMs);
    },
    rest() {
      expecting = false;
    },
    end() {
      expecting = false;
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      shutdown.delete(controller);
      controller.abort(CALL_ENDED);
    },
  };
  call.expect();
  return call;
}

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
