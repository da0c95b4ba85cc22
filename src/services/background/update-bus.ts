/**
 * The update bus: how replicas tell each other that logs have grown. What is told is a hint, and may be lost: the slow poll finds what
 * a lost one would have told, so a bus that is away costs time and nothing else. There are three:
 *
 * - in the process, of PGlite, which one process has alone: there is nobody else (`store/notifications.ts`, by `Database.listen`);
 * - PostgreSQL, by LISTEN and NOTIFY on one channel (the same);
 * - NATS with JetStream, where `nats.url` is set (`outbound/nats-bus.ts`).
 */

/** Hears what replicas tell. No method may throw. */
export interface UpdateListener {
  /** A replica, this one included, has told something. */
  onHint(payload: string): void;
  /** What was told until now may have been missed: the way on which it comes was made, or lost, or has lost something. */
  onGap(connected: boolean): void;
  /** The way is there again after it was lost, and nothing that was told meanwhile is missing. */
  onResumed(): void;
}

export interface UpdateBus {
  /** Whether what is told now is heard here. */
  readonly connected: boolean;
  /** Tells all who listen, this replica included. At most 7,999 bytes. Rejects when it may not have been told. */
  notify(payload: string): Promise<void>;
  /** Hears no more. Waits for nobody outside. */
  close(): Promise<void>;
}

/** Begins to listen, and goes on until `close`, however often the way is lost. */
export type OpenUpdateBus = (listener: UpdateListener) => UpdateBus;
