/**
 * What the replicas on one PostgreSQL tell each other. Each keeps one session of its own that LISTENs on one channel, and
 * makes it anew for ever; what it tells goes through the pool, a statement alone in its transaction. NOTIFY takes a lock of
 * the whole database when it commits, so it has no place in a transaction that writes anything else.
 *
 * Notifications are hints. They are lost while the session is down, and through a pooler that shares sessions they never
 * come: whoever depends on one looks for itself from time to time.
 */
import { Socket } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import pg from "pg";
import type { Logger } from "pino";
import type { Database, NotificationListener, Notifications } from "./database.ts";

/** Channels belong to a database, so one name serves all. */
const CHANNEL = "signalbox";
/** What the session is called in pg_stat_activity. */
const LISTENER = "signalbox-listener";
/** A session that has heard nothing for so long is asked whether it lives, and has so long to answer. */
const SILENCE_MS = 10_000;
const ANSWER_MS = 5_000;
/** Bounds of the pause before a session is made anew. */
const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 5_000;

const NOTIFY = { name: "notify-v1", text: "select pg_notify($1, $2)" };

export interface NotificationOptions {
  /** How the session is made. */
  session: pg.ClientConfig;
  /** The pool's way to the database. */
  query: Database["query"];
  log: Logger;
  /** Milliseconds of silence after which the session is tried, and for its answer; 10,000 and 5,000 unless told. */
  silenceMs?: number;
  answerMs?: number;
}

/** Begins to listen, and goes on until `close`, however often the session is lost. */
export function openNotifications(options: NotificationOptions, listener: NotificationListener): Notifications {
  const { session, query, log, silenceMs = SILENCE_MS, answerMs = ANSWER_MS } = options;
  const stop = new AbortController();
  let connected = false;

  async function keepListening(): Promise<void> {
    for (let failures = 0; !stop.signal.aborted; failures += 1) {
      try {
        await listen(() => {
          if (failures > 0) log.info({ failures }, "the session that hears of other replicas is there again");
          failures = 0;
        });
        if (!stop.signal.aborted) log.warn("the session that hears of other replicas was lost");
      } catch (error) {
        if (!stop.signal.aborted) log.debug({ err: error, failures }, "no session to hear of other replicas");
      }
      const ceiling = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(failures, 10));
      const pauseMs = ceiling / 2 + (ceiling / 2) * Math.random();
      await wait(pauseMs, undefined, { signal: stop.signal }).catch(() => {});
    }
  }

  /** Makes a session. Resolves when it has ended after it listened; rejects when it never did. */
  async function listen(onListening: () => void): Promise<void> {
    // A socket of our own, because to destroy it ends a session in whatever state that is.
    const socket = new Socket();
    const leave = () => void socket.destroy();
    const client = new pg.Client({
      ...session,
      application_name: LISTENER,
      query_timeout: answerMs,
      stream: () => socket,
    });
    client.on("error", (error) => log.debug({ err: error }, "the session that hears of other replicas broke"));
    const ended = new Promise<void>((resolve) => void client.once("end", resolve));
    stop.signal.addEventListener("abort", leave, { once: true });
    let check: NodeJS.Timeout | undefined;
    try {
      await client.connect();
      check = setInterval(() => void client.query("select 1").catch(leave), silenceMs);
      client.on("notification", ({ payload = "" }) => {
        check?.refresh();
        listener.onHint(payload);
      });
      await client.query(`listen ${CHANNEL}`);
      connected = true;
      onListening();
      listener.onGap(true);
      await ended;
    } finally {
      clearInterval(check);
      stop.signal.removeEventListener("abort", leave);
      leave();
      if (connected && !stop.signal.aborted) listener.onGap(false);
      connected = false;
    }
  }

  const kept = keepListening();
  return {
    get connected() {
      return connected;
    },
    async notify(payload) {
      await query(NOTIFY, [CHANNEL, payload]);
    },
    async close() {
      stop.abort();
      await kept;
    },
  };
}

/** Of a database that one process has alone: there is nobody to tell, and nothing to miss. */
export function noNotifications(listener: NotificationListener): Notifications {
  let closed = false;
  queueMicrotask(() => {
    if (!closed) listener.onGap(true);
  });
  return {
    connected: true,
    async notify() {},
    async close() {
      closed = true;
    },
  };
}
