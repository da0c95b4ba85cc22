/** The quotas of workspaces, as they were within the last second. Busy workspaces never wait for them: they are read anew in time. */
import type { Logger } from "pino";
import { createGroupCommit } from "../../store/group-commit.ts";
import { NO_RECORD, type QuotaRecord, type QuotaRepository } from "../../store/quota-repository.ts";
import { isTransient } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";

/** How old they may be, and how old they are when they are read anew although nobody waits, in milliseconds. */
const HELD_MS = 1_000;
const REFRESH_MS = 500;
/** How long the database is not asked again for those that it could not tell, in milliseconds. */
const AWAY_MS = 1_000;
const BATCH = 500;
const MOST_WAITING = 100_000;
/** Workspaces that are remembered at most. */
const MOST_HELD = 20_000;

export interface KnownQuotas {
  /**
   * What is known of a workspace, a second old at most; older where the database is away, and no quotas where it was never there. A
   * promise only where it must be waited for. Never rejects.
   */
  of(workspaceId: string): QuotaRecord | Promise<QuotaRecord>;
  /** The same as it was known last, however long ago; undefined for who was never asked for. */
  last(workspaceId: string): QuotaRecord | undefined;
  /** Has them read anew when they are asked for next, after a change by this replica. */
  changed(workspaceId: string): void;
  close(): Promise<void>;
}

interface Held {
  record: QuotaRecord | undefined;
  atMs: number;
  loading: Promise<QuotaRecord> | undefined;
  /** Grows with every change here: what was read before one is not kept. */
  changes: number;
}

export interface KnownQuotasDeps {
  repository: Pick<QuotaRepository, "read">;
  runtime: Pick<Runtime, "elapsedMs">;
  log: Logger;
}

export function createKnownQuotas({ repository, runtime, log }: KnownQuotasDeps): KnownQuotas {
  const held = new Map<string, Held>();
  const reads = createGroupCommit<string, QuotaRecord>({
    name: "quotas",
    maxBatch: BATCH,
    maxWaiting: MOST_WAITING,
    flush: (workspaceIds) => repository.read(workspaceIds),
  });

  function heldOf(workspaceId: string): Held {
    const known = held.get(workspaceId);
    if (known) return known;
    if (held.size >= MOST_HELD) held.delete(held.keys().next().value!);
    const made: Held = { record: undefined, atMs: Number.NEGATIVE_INFINITY, loading: undefined, changes: 0 };
    held.set(workspaceId, made);
    return made;
  }

  async function load(workspaceId: string, into: Held): Promise<QuotaRecord> {
    const begunMs = runtime.elapsedMs();
    const { changes } = into;
    try {
      const record = await reads.submit(workspaceId);
      if (into.changes === changes && into.atMs <= begunMs) [into.record, into.atMs] = [record, begunMs];
      return record;
    } catch (err) {
      if (!isTransient(err)) log.error({ err, workspaceId }, "the quotas of a workspace cannot be read");
      // What was known holds on.
      into.record ??= NO_RECORD;
      if (into.changes === changes) into.atMs = runtime.elapsedMs() - HELD_MS + AWAY_MS;
      return into.record;
    }
  }

  function begin(workspaceId: string, into: Held): Promise<QuotaRecord> {
    if (into.loading) return into.loading;
    const loading = load(workspaceId, into).finally(() => {
      // One that was begun before a change must not end what was begun after it.
      if (into.loading === loading) into.loading = undefined;
    });
    into.loading = loading;
    return loading;
  }

  return {
    of(workspaceId) {
      const known = heldOf(workspaceId);
      const age = runtime.elapsedMs() - known.atMs;
      if (age >= HELD_MS || !known.record) return begin(workspaceId, known);
      if (age >= REFRESH_MS) void begin(workspaceId, known);
      return known.record;
    },
    last: (workspaceId) => held.get(workspaceId)?.record,
    changed(workspaceId) {
      const known = held.get(workspaceId);
      if (!known) return;
      known.changes += 1;
      known.atMs = Number.NEGATIVE_INFINITY;
      known.loading = undefined;
    },
    close: reads.close,
  };
}
