/**
 * Calls that were refused, in the audit log. Each is an entry before its caller is answered, as long as the database is quick and
 * nobody floods it; else it is counted, and the count becomes an entry within a second. None is lost but with this process.
 */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { actingDetail } from "../domain/audit/actor.ts";
import type { AuditEvent } from "../domain/audit/entry.ts";
import { clip, type SignalboxError } from "../domain/errors.ts";
import type { AuditTrail } from "../store/audit-trail.ts";
import { createGroupCommit } from "../store/group-commit.ts";
import type { Runtime } from "./runtime.ts";

/** Longest wait of a caller for its refusal to be stored, in milliseconds. */
const PATIENCE_MS = 250;
/** Refusals of one actor that become entries of their own within a second. */
const MOST_A_SECOND = 20;
const SECOND_MS = 1_000;
/** Actors and reasons that are counted apart; of others only the sum is kept, for each workspace. */
const MOST_COUNTS = 1_000;
const MOST_BATCH = 200;
const MOST_WAITING = 1_000;
const MOST_FACTS = 8;
/** Longest text of why a credential is not good, in characters. */
const MOST_WHY = 400;
/** The actor where nobody knows who called, and of what is counted together. */
const UNKNOWN = "caller:unknown";
const MANY = "caller:many";

/** Reasons that refuse a caller what it asks for, beside those of the codes UNAUTHENTICATED and PERMISSION_DENIED. */
const REASONS: ReadonlySet<string> = new Set([
  "POLICY_DENIED",
  "BUDGET_EXCEEDED",
  "AGENT_NOT_TRUSTED",
  "SCOPE_MISSING",
]);

export interface RefusedCaller {
  readonly workspaceId: string;
  readonly principalId: string;
  /** Who acts for it, as `Principal.actors`. */
  readonly actors?: readonly string[];
}

/** A call that was refused. */
export interface RefusedCall {
  /** Undefined where nobody knows whose it is: then it is recorded in the server's own workspace. */
  readonly caller: RefusedCaller | undefined;
  /** As `lf.a2a.v1.A2AService/SendMessage`. */
  readonly rpc: string;
  readonly error: SignalboxError;
}

export interface Refusals {
  /**
   * Records a call if its error is a refusal. Undefined: there is nothing to wait for. Otherwise resolves when it is stored, or when
   * that takes too long. Never rejects.
   */
  record(call: RefusedCall): Promise<void> | undefined;
  /** Stores what is counted. Nothing may be recorded any more. */
  stop(): Promise<void>;
}

export interface RefusalsDeps {
  trail: Pick<AuditTrail, "enabled" | "write">;
  runtime: Runtime;
  log: Logger;
  /** The workspace of callers that nobody knows. */
  ownWorkspaceId: string;
}

interface Count {
  event: AuditEvent;
  count: number;
  since: Date;
}

export const isRefusal = ({ code, reason }: Pick<SignalboxError, "code" | "reason">): boolean =>
  code === "UNAUTHENTICATED" || code === "PERMISSION_DENIED" || REASONS.has(reason);

export function startRefusals({ trail, runtime, log, ownWorkspaceId }: RefusalsDeps): Refusals {
  const life = new AbortController();
  const counts = new Map<string, Count>();
  /** Refusals of each actor in this second. */
  let lately = new Map<string, number>();
  let second = 0;
  let counting: Promise<void> | undefined;

  const commits = createGroupCommit<AuditEvent, void>({
    name: "refusals",
    maxBatch: MOST_BATCH,
    maxWaiting: MOST_WAITING,
    async flush(events) {
      await trail.write(events, "r");
      return events.map(() => undefined);
    },
  });

  function isFlood({ workspaceId, actor }: AuditEvent): boolean {
    const now = Math.floor(runtime.elapsedMs() / SECOND_MS);
    if (now !== second) {
      second = now;
      lately = new Map();
    }
    const key = `${workspaceId} ${actor}`;
    const known = lately.get(key);
    // Whoever comes with ever new names is one, too.
    if (known === undefined && lately.size >= MOST_COUNTS) return true;
    lately.set(key, (known ?? 0) + 1);
    return (known ?? 0) >= MOST_A_SECOND;
  }

  function count(event: AuditEvent, more = 1, since = event.at): void {
    const { workspaceId, actor, targetId, result } = event;
    const own = JSON.stringify([workspaceId, actor, targetId, result]);
    const isKnown = counts.has(own) || counts.size < MOST_COUNTS;
    const key = isKnown ? own : workspaceId;
    const counted = counts.get(key);
    if (counted) {
      counted.count += more;
      if (since < counted.since) counted.since = since;
    } else {
      counts.set(key, {
        event: isKnown ? event : { ...event, actor: MANY, targetId: "", result: "REFUSED" },
        count: more,
        since,
      });
    }
    counting ??= flushLater();
  }

  async function flushLater(): Promise<void> {
    try {
      while (counts.size > 0) {
        await runtime.wait(SECOND_MS, life.signal);
        await flushCounts().catch((err: unknown) => log.warn({ err }, "refused calls could not be recorded yet"));
      }
    } catch {
      // It stops, and stores them itself.
    }
    counting = undefined;
  }

  async function flushCounts(): Promise<void> {
    const counted = [...counts.values()];
    counts.clear();
    const at = runtime.now();
    const events = counted.map(({ event: { taskId: _, ...event }, count: calls, since }) => ({
      ...event,
      at,
      detail: { count: calls, since: since.toISOString() },
    }));
    try {
      await trail.write(events, "r");
    } catch (error) {
      for (const { event, count: calls, since } of counted) count(event, calls, since);
      throw error;
    }
  }

  return {
    record(call) {
      if (!trail.enabled || !isRefusal(call.error)) return undefined;
      const event = eventOf(call, ownWorkspaceId, runtime.now());
      if (isFlood(event)) {
        count(event);
        return undefined;
      }
      const stored = commits.submit(event).catch(() => count(event));
      const done = new AbortController();
      const late = runtime.wait(PATIENCE_MS, done.signal).catch(() => {});
      return Promise.race([stored, late]).finally(() => done.abort());
    },
    async stop() {
      await commits.close();
      life.abort();
      await counting;
      if (counts.size === 0) return;
      await flushCounts().catch((err: unknown) =>
        log.error({ err, calls: counts.size }, "refused calls are not recorded"),
      );
    },
  };
}

function eventOf({ caller, rpc, error }: RefusedCall, ownWorkspaceId: string, at: Date): AuditEvent {
  const { code, reason, metadata } = error;
  const facts = Object.entries(metadata).slice(0, MOST_FACTS);
  const detail: JsonObject = {
    code,
    // Of a credential that is not good there is nothing else to know: nobody has proved whose it is.
    ...(reason === "CREDENTIAL_INVALID" && { why: clip(error.message, MOST_WHY) }),
    ...Object.fromEntries(facts.map(([name, value]) => [clip(name), clip(value)])),
    ...actingDetail(caller?.actors),
  };
  return {
    workspaceId: caller?.workspaceId ?? ownWorkspaceId,
    at,
    actor: caller?.principalId ?? UNKNOWN,
    action: "call.refuse",
    targetType: "rpc",
    targetId: rpc,
    // PostgreSQL's text holds no NUL, and there is no task of such a name.
    ...(metadata.taskId !== undefined && { taskId: clip(metadata.taskId.replaceAll("\0", "")) }),
    result: reason,
    detail,
  };
}
