/**
 * Hints between replicas: what this one commits wakes the watchers of the others, and the other way round. Each replica has
 * one notification in flight at most, with a short rest after it; what gathers meanwhile is the next one, with one number
 * for each task. So a busy replica tells much in few notifications, and a quiet one tells at once. A hint that cannot be
 * told is dropped: nothing waits for it, and the slow poll finds what it would have told. The next notification then says
 * that everything may have changed.
 *
 * A replica that is alone tells nothing. It learns that it is not from the heartbeat, and from whoever speaks: a replica
 * that begins to listen says hello, and is answered that everything may have changed, because what was committed before it
 * was believed in was not told.
 */
import type { Logger } from "pino";
import type { Runtime } from "../runtime.ts";
import type { UpdateHub } from "../update-hub.ts";
import { createWaitingHints, readHints } from "./hint-payload.ts";
import type { SlowPoll } from "./slow-poll.ts";
import type { OpenUpdateBus } from "./update-bus.ts";

/** Rest after a notification, in milliseconds: it wakes every replica, and NOTIFY takes a lock of the whole database. */
const REST_MS = 5;
/** How long the last hints may take when the process stops. */
const LAST_WORDS_MS = 1_000;

export interface HintsDeps {
  openBus: OpenUpdateBus;
  hub: UpdateHub;
  poll: SlowPoll;
  runtime: Runtime;
  log: Logger;
}

export interface Hints {
  /** Whether hints of other replicas come. */
  readonly connected: boolean;
  /** How many other replicas live, each time that the heartbeat has counted them. */
  setPeers(count: number): void;
  /** Tells what still waits, for a second at most, and hears no more. */
  stop(): Promise<void>;
}

export function startHints({ openBus, hub, poll, runtime, log }: HintsDeps): Hints {
  /** Of this run, so that it knows its own voice. */
  const self = runtime.newId();
  const waiting = createWaitingHints(self);
  const stop = new AbortController();
  let hasPeers = false;
  /** Whether somebody has spoken since the heartbeat last counted nobody: it may have counted before. */
  let heard = false;
  let telling: Promise<void> | undefined;
  let connected = false;
  const bus = openBus({ onHint: hear, onGap, onResumed });

  // --- telling

  const unsubscribe = [
    hub.onCommit(({ workspaceId, taskId, updates }) => {
      const last = updates.at(-1);
      if (hasPeers && last) tell(() => waiting.grown({ workspaceId, taskId, seq: last.seq }));
    }),
    hub.onWork((origin) => {
      if (hasPeers && origin === "here") tell(() => waiting.work());
    }),
  ];

  function tell(what: () => void): void {
    what();
    telling ??= tellAll();
  }

  async function tellAll(): Promise<void> {
    // When this turn of the event loop has ended: a batch that was committed as one is told as one.
    await new Promise(setImmediate);
    for (let payload = waiting.take(); payload !== undefined; payload = waiting.take()) {
      const told = await tellOnce(payload);
      if (!stop.signal.aborted) await runtime.wait(REST_MS, stop.signal).catch(() => {});
      if (told) continue;
      // It goes with the next news, or when the bus is there again.
      waiting.all();
      if (readHints(payload)?.hello) waiting.hello();
      break;
    }
    // In the same turn as the last look at what waits: what comes from now on begins anew.
    telling = undefined;
  }

  async function tellOnce(payload: string): Promise<boolean> {
    try {
      await bus.notify(payload);
      return true;
    } catch (error) {
      log.debug({ err: error }, "a hint was dropped");
      return false;
    }
  }

  // --- hearing

  function onGap(isConnected: boolean): void {
    const begins = isConnected && !connected;
    connected = isConnected;
    poll.setConnected(connected);
    poll.look();
    hub.announceWork("elsewhere");
    if (begins) tell(() => waiting.hello());
  }

  function onResumed(): void {
    connected = true;
    poll.setConnected(true);
    // What could not be told meanwhile.
    tell(() => {});
  }

  function hear(payload: string): void {
    const message = readHints(payload);
    if (message?.from === self) return;
    hasPeers = heard = true;
    if (!message || message.all) poll.look();
    if (!message || message.work) hub.announceWork("elsewhere");
    if (message?.hello) tell(() => waiting.all());
    for (const [workspaceId, taskId, seq] of message?.tasks ?? []) hub.hint(workspaceId, taskId, seq);
  }

  return {
    get connected() {
      return bus.connected;
    },
    setPeers(count) {
      hasPeers = count > 0 || heard;
      heard = false;
    },
    async stop() {
      for (const leave of unsubscribe) leave();
      stop.abort();
      const enough = new AbortController();
      const late = runtime.wait(LAST_WORDS_MS, enough.signal).catch(() => {});
      await Promise.race([telling, late]);
      enough.abort();
      await bus.close();
    },
  };
}
