/** Who asks, for which workspace, until when. Made once per request, by transport; read by every use case. */
import type { Logger } from "pino";
import type { Principal } from "../domain/identity/principal.ts";

export interface RequestContext {
  readonly principal: Principal;
  readonly workspaceId: string;
  readonly requestId: string;
  /** Ends the call: the caller left, its deadline passed, or the server drains. Never ends a task. */
  readonly signal: AbortSignal;
  /** Extension URIs that the client named in A2A-Extensions. */
  readonly extensions: readonly string[];
  /** W3C trace context, as it came. */
  readonly traceparent: string | undefined;
  /** What the header or metadata entry `Idempotency-Key` says, as it came. */
  readonly idempotencyKey: string | undefined;
  /** Whether `Cache-Control: no-store` was sent: no earlier result is wanted, and this one is not to be kept. */
  readonly noStore: boolean;
  /** The target that the address named, in the form of a `tenant`. */
  readonly addressTarget: string | undefined;
  readonly log: Logger;
}

/** Where a client wants to go on with a stream that it lost. */
export interface StreamCursor {
  /** Number of the last row of the task's log that the client knows of; 0 is before the first. */
  readonly sequence: number;
  /** The header or metadata entry that said so, for whoever has to refuse it. */
  readonly header: string;
}
