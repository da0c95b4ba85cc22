/**
 * This server as one of several on its database: it keeps its lease, notices who has lost theirs, and joins anew under
 * another id when it was itself silent for so long that the others declared it dead.
 */
import { hostname } from "node:os";
import type { Logger } from "pino";
import type { LeaseRepository } from "../../store/lease-repository.ts";
import { backoffMs, type Runtime } from "../runtime.ts";

export interface ReplicaDeps {
  leases: LeaseRepository;
  runtime: Runtime;
  log: Logger;
  /** How long this replica's tasks stay its own after its last heartbeat, in milliseconds. */
  leaseMs: number;
  /** Whether no other process can have the database: whoever had it before is dead. */
  alone: boolean;
  /** Done under each new id, once it is registered and before it is used. Where it fails, the server has not joined. */
  onJoin?: (replicaId: string) => Promise<void>;
}

export interface ReplicaEvents {
  /** Told how many replicas live, at each heartbeat. */
  onBeat: (living: number) => void;
  /** Told that replicas are dead: their tasks are free. */
  onDeath: () => void;
  /** Told that this replica was declared dead. All that it had is others'. */
  onExpired: () => void;
}

export interface Replica {
  /** Names this run of the server in leases and in the log. */
  id(): string;
  /** How long its lease holds without another heartbeat, in milliseconds; 0 or less when it may have run out. */
  leaseLeftMs(): number;
  /** Begins its heartbeats, four in the time of a lease. */
  start(events: ReplicaEvents): void;
  /** Ends its heartbeats and its lease: what it had is free at once. */
  stop(): Promise<void>;
}

/** Resolves when this replica has joined the others. */
export async function joinReplicas(deps: ReplicaDeps): Promise<Replica> {
  const { leases, runtime, log, leaseMs, alone, onJoin } = deps;
  const stop = new AbortController();
  const newId = () => runtime.newId().slice(-12);
  let id = newId();
  /** Since when every heartbeat has been heard; undefined from the start on, when none was lost. */
  let inTouchSince: number | undefined;

  let leasedAtMs = runtime.elapsedMs();
  await leases.register(id, hostname(), leaseMs);
  if (alone) await leases.releaseOthers(id);
  await onJoin?.(id);
  log.info({ replica: id, leaseMs }, "joined");

  async function beat(events: ReplicaEvents): Promise<void> {
    const nowMs = runtime.elapsedMs();
    const living = await leases.beat(id, leaseMs);
    if (living === undefined) {
      log.warn({ replica: id }, "declared dead by another replica after a long silence; joining again");
      events.onExpired();
      const next = newId();
      await leases.register(next, hostname(), leaseMs);
      await onJoin?.(next);
      id = next;
      leasedAtMs = nowMs;
      log.info({ replica: id }, "joined");
    } else {
      leasedAtMs = nowMs;
      events.onBeat(living);
    }
    // Whoever was cut off with us deserves the time to come back.
    if (inTouchSince !== undefined && runtime.elapsedMs() - inTouchSince < leaseMs) return;
    const dead = await leases.reap(leaseMs);
    if (dead.length === 0) return;
    log.warn({ dead }, "replicas are dead; their tasks will be taken over");
    events.onDeath();
  }

  async function keep(events: ReplicaEvents): Promise<void> {
    let missed = 0;
    while (!stop.signal.aborted) {
      const pauseMs = missed > 0 ? backoffMs(missed, 50, leaseMs / 4, runtime.random) : leaseMs / 4;
      await runtime.wait(pauseMs, stop.signal);
      try {
        await beat(events);
        if (missed > 0) inTouchSince = runtime.elapsedMs();
        missed = 0;
      } catch (error) {
        missed += 1;
        log.warn({ err: error, missed }, "a heartbeat failed");
      }
    }
  }
  let kept: Promise<void> = Promise.resolve();
  return {
    id: () => id,
    leaseLeftMs: () => leasedAtMs + leaseMs - runtime.elapsedMs(),
    start(events) {
      kept = keep(events).catch((error: unknown) => {
        if (!stop.signal.aborted) log.error({ err: error }, "heartbeats have stopped");
      });
    },
    async stop() {
      stop.abort();
      await kept;
      await leases.release(id).catch((error: unknown) => {
        log.warn({ err: error }, "the lease could not be given back; it will run out");
      });
    },
  };
}
