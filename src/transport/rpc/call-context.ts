/** What use cases see of a call, whatever it came over. */
import type { HandlerContext } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Principal } from "../../domain/identity/principal.ts";
import type { Abortable, AbortGroup } from "../../services/abort-group.ts";
import type { OpenCalls } from "../../services/identity/open-calls.ts";
import type { RequestContext } from "../../services/request-context.ts";
import type { Runtime } from "../../services/runtime.ts";
import { addressTargetKey } from "./bound.ts";

/** Longest list of extensions that is read, and longest request id that is taken over. */
const MAX_EXTENSIONS = 50;
const REQUEST_ID = /^[\x21-\x7e]{1,128}$/;
const NONE: readonly string[] = [];

interface CallDeps {
  runtime: Runtime;
  log: Logger;
  openCalls: Pick<OpenCalls, "add" | "delete">;
}

/** A header of the call. Contexts that can look one up without building all of them do. */
export function headerOf(context: HandlerContext, name: string): string | null {
  const { header } = context as { header?: (name: string) => string | null };
  return header ? header.call(context, name) : context.requestHeader.get(name);
}

/** A call that can be ended from within, and its signal. */
type AbortableCall = Abortable & { readonly signal: AbortSignal };

/** Contexts that can be ended themselves are; others get a signal that follows theirs. */
function abortableOf(context: HandlerContext): AbortableCall {
  if ("abort" in context) return context as HandlerContext & Abortable;
  const controller = new AbortController();
  const { signal } = context;
  if (signal.aborted) controller.abort(signal.reason);
  else signal.addEventListener("abort", () => controller.abort(signal.reason), { once: true });
  return controller;
}

/** What is seldom asked for is made when it is. */
export class CallContext implements RequestContext {
  readonly principal: Principal;
  readonly #deps: CallDeps;
  readonly #context: HandlerContext;
  readonly #draining: AbortGroup;
  #call: AbortableCall | undefined;
  #signal: AbortSignal | undefined;
  #log: Logger | undefined;
  #requestId: string | undefined;
  #extensions: readonly string[] | undefined;

  constructor(deps: CallDeps, context: HandlerContext, principal: Principal, draining: AbortGroup) {
    this.#deps = deps;
    this.#draining = draining;
    this.#context = context;
    this.principal = principal;
  }

  get requestId(): string {
    if (this.#requestId === undefined) {
      const sent = headerOf(this.#context, "x-request-id");
      this.#requestId = sent !== null && REQUEST_ID.test(sent) ? sent : this.#deps.runtime.newId();
    }
    return this.#requestId;
  }

  get workspaceId(): string {
    return this.principal.workspaceId;
  }

  get signal(): AbortSignal {
    if (!this.#signal) {
      this.#call = abortableOf(this.#context);
      this.#signal = this.#call.signal;
      this.#draining.add(this.#call);
      this.#deps.openCalls.add(this.workspaceId, this.#call);
    }
    return this.#signal;
  }

  /** The call has ended: neither a drain nor a suspension is any of its business. */
  end(): void {
    if (!this.#call) return;
    this.#draining.delete(this.#call);
    this.#deps.openCalls.delete(this.workspaceId, this.#call);
  }

  get extensions(): readonly string[] {
    this.#extensions ??= extensionsIn(headerOf(this.#context, "a2a-extensions"));
    return this.#extensions;
  }

  get traceparent(): string | undefined {
    return headerOf(this.#context, "traceparent") ?? undefined;
  }

  get idempotencyKey(): string | undefined {
    return headerOf(this.#context, "idempotency-key") ?? undefined;
  }

  get noStore(): boolean {
    const directives = headerOf(this.#context, "cache-control");
    return directives !== null && /(?:^|,)\s*no-store\s*(?:,|$)/i.test(directives);
  }

  get addressTarget(): string | undefined {
    return this.#context.values.get(addressTargetKey);
  }

  get log(): Logger {
    const traceId = this.traceparent?.split("-")[1];
    this.#log ??= this.#deps.log.child({ requestId: this.requestId, ...(traceId !== undefined && { traceId }) });
    return this.#log;
  }
}

function extensionsIn(header: string | null): readonly string[] {
  if (header === null) return NONE;
  const named = header.split(",").map((uri) => uri.trim());
  return named.filter((uri) => uri !== "").slice(0, MAX_EXTENSIONS);
}
