/**
 * Surrounds service implementations with what every RPC needs, once for all transports: who calls, what they may do, until
 * when, what is counted and logged, and one error type.
 */

import { create, type DescMessage, type DescMethod, type DescService, type Message } from "@bufbuild/protobuf";
import { Code, ConnectError, createContextKey, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import type { Logger } from "pino";
import { A2AService } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  internal,
  invalidArgument,
  SignalboxError,
  scopeMissing,
  versionNotSupported,
  withMetadata,
} from "../../domain/errors.ts";
import { holds, type Principal } from "../../domain/identity/principal.ts";
import { type AbortGroup, createAbortGroup } from "../../services/abort-group.ts";
import type { Refusals } from "../../services/audit-refusals.ts";
import type { Authenticator } from "../../services/identity/authenticator.ts";
import type { OpenCalls } from "../../services/identity/open-calls.ts";
import type { CloseStream } from "../../services/limits/open-streams.ts";
import type { CallLimits } from "../../services/limits/workspace-limits.ts";
import type { RequestContext } from "../../services/request-context.ts";
import type { Runtime } from "../../services/runtime.ts";
import { type BoundRpc, type BoundRpcs, credentialsOf } from "./bound.ts";
import { CallContext, headerOf } from "./call-context.ts";
import { scopeOf } from "./scopes.ts";

export interface BindDeps {
  authenticator: Authenticator;
  /** What calls are held against once it is known who calls. */
  limits: CallLimits;
  runtime: Runtime;
  log: Logger;
  /** Told of each call when it ends; `code` is `OK` or the name of the error's code. */
  onCall: (call: { service: string; method: string; protocol: string; code: string; seconds: number }) => void;
  /** Gets the calls that can be ended, for as long as they last. */
  openCalls: Pick<OpenCalls, "add" | "delete">;
  /** Records calls that are refused. */
  refusals: Pick<Refusals, "record">;
  /** Aborts, with a SignalboxError, when the server will wait no longer for calls to end. */
  drain: AbortSignal;
}

/** A service and what implements it. */
export interface Registration<Desc extends DescService = DescService> {
  service: Desc;
  implementation: ServiceImpl<Desc>;
}

export const register = <Desc extends DescService>(service: Desc, implementation: ServiceImpl<Desc>): Registration => ({
  service,
  implementation: implementation as ServiceImpl<DescService>,
});

const requestContextKey = createContextKey<CallContext | undefined>(undefined, {
  description: "who asks, for which workspace, until when",
});

/** The context that was made for a call, for service implementations. */
export function requestContextOf(context: HandlerContext): RequestContext {
  const made = context.values.get(requestContextKey);
  if (!made) throw new Error(`${context.method.name} is open to all and has no request context`);
  return made;
}

export function bindServices(deps: BindDeps, registrations: readonly Registration[]): BoundRpcs {
  const bound = new Map<string, BoundRpc>();
  const draining = createAbortGroup();
  deps.drain.addEventListener("abort", () => draining.abort(deps.drain.reason), { once: true });
  for (const { service, implementation } of registrations) {
    for (const method of service.methods) {
      bound.set(`${service.typeName}/${method.name}`, bind(deps, draining, service, method, implementation));
    }
  }
  return bound;
}

type Implementation = (request: unknown, context: HandlerContext) => unknown;

function bind(
  deps: BindDeps,
  draining: AbortGroup,
  service: DescService,
  method: DescMethod,
  implementation: ServiceImpl<DescService>,
): BoundRpc {
  const call = (implementation as Record<string, Implementation>)[method.localName]!.bind(implementation);
  const scope = scopeOf(method);
  const isA2A = service.typeName === A2AService.typeName;

  /** Lets a call in or throws. Takes a promise's time only where the authenticator does. */
  function admit(context: HandlerContext): Promise<void> | undefined {
    if (scope === undefined) return undefined;
    const principal = deps.authenticator.authenticate(credentialsOf(context));
    if (principal instanceof Promise) return principal.then((known) => enter(context, scope, known));
    return enter(context, scope, principal);
  }

  function enter(context: HandlerContext, needed: string, principal: Principal): Promise<void> | undefined {
    // First, so that whoever is refused has a name.
    context.values.set(requestContextKey, new CallContext(deps, context, principal, draining));
    if (!holds(principal, needed)) throw scopeMissing(needed);
    if (isA2A) checkVersion(headerOf(context, "a2a-version"));
    return deps.limits.enter(principal);
  }

  /** Counts a stream of a workspace as open. Health and reflection belong to none. */
  function openStream(context: HandlerContext): CloseStream | Promise<CloseStream> | undefined {
    if (scope === undefined) return undefined;
    return deps.limits.openStream(requestContextOf(context).workspaceId);
  }

  function ended(context: HandlerContext, started: number, error?: SignalboxError): void {
    const { protocolName: protocol } = context;
    if (scope !== undefined) context.values.get(requestContextKey)?.end();
    const seconds = (performance.now() - started) / 1000;
    deps.onCall({ service: service.typeName, method: method.name, protocol, code: error?.code ?? "OK", seconds });
    // What nobody foresaw. An agent's invalid answer has the same code and is the agent's own.
    const unforeseen = error?.reason === "INTERNAL";
    if (deps.log.isLevelEnabled("debug") || unforeseen) {
      const requestId = scope === undefined ? undefined : context.values.get(requestContextKey)?.requestId;
      const facts = {
        rpc: `${service.typeName}/${method.name}`,
        protocol,
        code: error?.code ?? "OK",
        seconds,
        requestId,
      };
      if (unforeseen) deps.log.error({ ...facts, err: error }, "call failed");
      else deps.log.debug({ ...facts, ...(error && { reason: error.reason }) }, "call ended");
    }
  }

  function failed(thrown: unknown, context: HandlerContext): SignalboxError {
    const error = asSignalboxError(thrown, context);
    const requestId = scope === undefined ? undefined : context.values.get(requestContextKey)?.requestId;
    return error.code === "INTERNAL" && requestId !== undefined ? withMetadata(error, { requestId }) : error;
  }

  /** Undefined, or what to wait for before the caller is answered. */
  function recorded(error: SignalboxError, context: HandlerContext): Promise<void> | undefined {
    const known = scope === undefined ? undefined : context.values.get(requestContextKey);
    const caller = known && {
      workspaceId: known.workspaceId,
      principalId: known.principal.id,
      actors: known.principal.actors,
    };
    return deps.refusals.record({ caller, rpc: `${service.typeName}/${method.name}`, error });
  }

  return {
    service,
    method,
    async unary(request, context) {
      const started = performance.now();
      try {
        const admission = admit(context);
        if (admission) await admission;
        const response = complete(method.output, await call(request, context));
        ended(context, started);
        return response;
      } catch (thrown) {
        const error = failed(thrown, context);
        await recorded(error, context);
        ended(context, started, error);
        throw error;
      }
    },
    async *stream(requests, context) {
      const started = performance.now();
      let outcome: SignalboxError | undefined;
      let close: CloseStream | undefined;
      try {
        await admit(context);
        close = await openStream(context);
        const items = call(requests, context) as AsyncIterable<object>;
        // Streams with a request context hear of the drain through its signal.
        for await (const item of scope === undefined ? until(deps.drain, items) : items) {
          yield complete(method.output, item);
        }
      } catch (thrown) {
        outcome = failed(thrown, context);
        await recorded(outcome, context);
        throw outcome;
      } finally {
        close?.();
        ended(context, started, outcome);
      }
    },
  };
}

/** The items of a stream until `signal` aborts, which throws its reason. */
async function* until<T>(signal: AbortSignal, items: AsyncIterable<T>): AsyncGenerator<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  aborted.catch(() => {});
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  const iterator = items[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await Promise.race([iterator.next(), aborted]);
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener("abort", abort);
    // Not awaited: it may wait for an item that never comes.
    void iterator.return?.();
  }
}

/** Implementations may give the fields of a message instead of one. */
function complete(schema: DescMessage, value: unknown): Message {
  return (value as Partial<Message>).$typeName === undefined
    ? create(schema, value as Record<string, unknown>)
    : (value as Message);
}

/**
 * Section 3.6: the call is answered by its shape, which is that of 1.0. Clients that say nothing mean 1.0 almost always,
 * and those of 0.3 have methods of their own.
 */
function checkVersion(version: string | null): void {
  if (version === null || version === "1.0" || /^\s*(?:(?:1\.0|0\.3)(?:\.\d+)?)?\s*$/.test(version)) return;
  throw versionNotSupported(version);
}

/** What was thrown, as the one error type. A call that was ended from outside says by what. */
function asSignalboxError(thrown: unknown, context: HandlerContext): SignalboxError {
  if (thrown instanceof SignalboxError) return thrown;
  if (context.signal.aborted && context.signal.reason instanceof SignalboxError) return context.signal.reason;
  if (thrown instanceof ConnectError) {
    if (thrown.code === Code.DeadlineExceeded) return deadlineExceeded(thrown);
    if (thrown.code === Code.Canceled) return cancelled(thrown);
    if (thrown.code === Code.InvalidArgument) return invalidArgument([{ field: "", description: thrown.rawMessage }]);
  }
  if (context.signal.aborted) return (context.timeoutMs() ?? 1) <= 0 ? deadlineExceeded(thrown) : cancelled(thrown);
  return internal(thrown);
}

/** An RPC's deadline ends the call, never the task. */
export const deadlineExceeded = (cause?: unknown) =>
  new SignalboxError({
    code: "DEADLINE_EXCEEDED",
    reason: "DEADLINE_EXCEEDED",
    message: "The call's deadline passed. What it began goes on: look for the task with ListTasks.",
    cause,
  });

export const cancelled = (cause?: unknown) =>
  new SignalboxError({ code: "CANCELLED", reason: "CANCELLED", message: "The caller left.", cause });
