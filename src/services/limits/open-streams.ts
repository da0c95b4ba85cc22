/**
 * Streams that are open at once, over all replicas, where the quota of their workspace says how many there may be. A stream lives at its
 * replica and dies with it, so a replica's slice of the limit holds its streams, as it holds the tasks that agents have; see
 * docs/decisions/0010-limits-in-slices.md. What is open is counted in every workspace.
 */
import type { Logger } from "pino";
import { quotaExceeded } from "../../domain/identity/quotas.ts";
import type { AllotmentRepository, LimitKey } from "../../store/allotment-repository.ts";
import type { QuotaRecord, QuotaRepository } from "../../store/quota-repository.ts";
import { createAllotments } from "../allotments.ts";
import { isTransient } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";
import type { KnownQuotas } from "./known-quotas.ts";

const KEY = "quota/streams";
/** How long it is waited for what other replicas do not need, and how often what is open is told, in milliseconds. */
const WAIT_MS = 500;
const TELL_MS = 1_000;
const RETRY_MS = 1_000;

/** Closes a stream. Once is enough. */
export type CloseStream = () => void;

export interface OpenStreams {
  /**
   * Opens a stream. A promise only where more must be asked for.
   *
   * @throws SignalboxError QUOTA_EXCEEDED.
   */
  open(workspaceId: string, record: QuotaRecord): CloseStream | Promise<CloseStream>;
  /** Streams that are open here. */
  here(workspaceId: string): number;
  heed(): void;
  /** This replica was declared dead, and goes on under another name: what is open is counted under that. */
  reset(): void;
  start(): void;
  stop(): Promise<void>;
}

export interface OpenStreamsDeps {
  quotas: KnownQuotas;
  repository: AllotmentRepository;
  counts: Pick<QuotaRepository, "tellStreams">;
  replicaId: () => string;
  announce: () => void;
  runtime: Runtime;
  log: Logger;
}

interface Place {
  open: number;
  /** Those of them that a slice holds. The others were opened without a limit, or while the database was away. */
  held: number;
}

export function createOpenStreams(deps: OpenStreamsDeps): OpenStreams {
  const { quotas, repository, runtime, log } = deps;
  const places = new Map<string, Place>();
  /** As they were told last. */
  let told = new Map<string, number>();
  let waiters = Promise.withResolvers<void>();
  const life = new AbortController();

  const allotments = createAllotments({
    repository,
    replicaId: deps.replicaId,
    limitOf: async ({ workspaceId }) => (await quotas.of(workspaceId)).limits.streams,
    announce: deps.announce,
    onRoom() {
      waiters.resolve();
      waiters = Promise.withResolvers();
    },
    runtime,
    log,
  });

  const limitKey = (workspaceId: string): LimitKey => ({ workspaceId, key: KEY });

  function placeOf(workspaceId: string): Place {
    let place = places.get(workspaceId);
    if (!place) {
      place = { open: 0, held: 0 };
      places.set(workspaceId, place);
    }
    return place;
  }

  function opened(workspaceId: string, isHeld: boolean): CloseStream {
    const place = placeOf(workspaceId);
    place.open += 1;
    if (isHeld) place.held += 1;
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      place.open -= 1;
      if (place.held > place.open) giveBack(workspaceId, place);
      if (place.open === 0 && places.get(workspaceId) === place) places.delete(workspaceId);
    };
  }

  function giveBack(workspaceId: string, place: Place): void {
    place.held -= 1;
    allotments.find(limitKey(workspaceId))?.giveBack(1);
  }

  /** Lets the slice hold what was opened before there was a limit. */
  function holdAll(workspaceId: string, limit: number): void {
    const place = places.get(workspaceId);
    const missing = place ? place.open - place.held : 0;
    if (!place || missing === 0) return;
    allotments.slice(limitKey(workspaceId), limit).force(missing);
    place.held = place.open;
  }

  async function ask(workspaceId: string, limit: number): Promise<CloseStream> {
    const slice = allotments.slice(limitKey(workspaceId), limit);
    try {
      const room = waiters.promise;
      if (await slice.ask(1)) return opened(workspaceId, true);
      // What other replicas do not need they give back, now that they hear that it is wanted.
      await Promise.race([room, runtime.wait(WAIT_MS, life.signal).catch(() => {})]);
      slice.hope();
      if (await slice.ask(1)) return opened(workspaceId, true);
    } catch (error) {
      if (!isTransient(error)) throw error;
      // Without the database this replica counts for itself.
      if ((places.get(workspaceId)?.open ?? 0) < limit) return opened(workspaceId, false);
    }
    throw quotaExceeded("streams", limit, undefined, RETRY_MS);
  }

  /** Tells what has changed since it was told last. */
  async function tell(): Promise<void> {
    // Asked for together, they are read together.
    const known = [...places.keys()].map(async (workspaceId) => [workspaceId, await quotas.of(workspaceId)] as const);
    for (const [workspaceId, { limits }] of await Promise.all(known)) {
      if (limits.streams !== undefined) holdAll(workspaceId, limits.streams);
    }
    const now = new Map([...places].map(([workspaceId, { open }]) => [workspaceId, open]));
    const changed = new Map([...now].filter(([workspaceId, open]) => told.get(workspaceId) !== open));
    for (const workspaceId of told.keys()) if (!now.has(workspaceId)) changed.set(workspaceId, 0);
    if (changed.size === 0) return;
    await deps.counts.tellStreams(deps.replicaId(), changed);
    told = now;
  }

  async function keepTelling(): Promise<void> {
    while (!life.signal.aborted) {
      await runtime.wait(TELL_MS, life.signal).catch(() => {});
      if (life.signal.aborted) return;
      await tell().catch((err: unknown) => {
        if (!isTransient(err)) log.warn({ err }, "how many streams are open could not be told; trying again");
      });
    }
  }

  let telling = Promise.resolve();
  return {
    open(workspaceId, { limits: { streams: limit } }) {
      if (limit === undefined) return opened(workspaceId, false);
      holdAll(workspaceId, limit);
      if (allotments.slice(limitKey(workspaceId), limit).take(1)) return opened(workspaceId, true);
      return ask(workspaceId, limit);
    },
    here: (workspaceId) => places.get(workspaceId)?.open ?? 0,
    heed: allotments.heed,
    reset() {
      allotments.reset();
      told = new Map();
      for (const [workspaceId, place] of places) {
        place.held = 0;
        const limit = quotas.last(workspaceId)?.limits.streams;
        if (limit !== undefined) holdAll(workspaceId, limit);
      }
    },
    start() {
      allotments.start();
      telling = keepTelling();
    },
    async stop() {
      life.abort();
      await telling;
      await allotments.stop();
    },
  };
}
