/**
 * The update bus over NATS. Each replica has one connection, makes it anew for ever, and hears everything that is put into one
 * JetStream of its installation, from when it came. After an outage it goes on where it was, so that nothing is missed that others
 * told meanwhile; where the stream no longer reaches back so far, that is a gap.
 */
import type { Logger } from "pino";
import type { OpenUpdateBus } from "../services/background/update-bus.ts";
import { backoffMs, type Runtime } from "../services/runtime.ts";
import { readNatsAddresses } from "./nats-address.ts";
import { type HeardAt, type NatsSession, openNatsSession } from "./nats-session.ts";

/** Bounds of the pause before a connection is made anew, in milliseconds. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
/** A connection that has lasted so long, in milliseconds, is no failure: the next pause is short again. */
const LASTING_MS = 10_000;

export interface NatsBusOptions {
  /** Addresses as `readNatsAddresses` takes them. */
  url: string;
  /** Of the installation: what has another name hears nothing of this one. Letters, digits and hyphens. */
  installation: string;
  runtime: Pick<Runtime, "wait" | "random" | "elapsedMs">;
  log: Logger;
}

/** A bus for each listener. Whether NATS is there does not matter: it is waited for behind what this returns. */
export function natsBus({ url, installation, runtime, log }: NatsBusOptions): OpenUpdateBus {
  const addresses = readNatsAddresses(url);
  const names = { stream: `signalbox-${installation}`, subject: `signalbox.${installation}.hints` };

  return (listener) => {
    const stop = new AbortController();
    const { signal } = stop;
    /** Replicas begin at different servers. */
    let turn = Math.floor(runtime.random() * addresses.length);
    let session: NatsSession | undefined;
    let heard: HeardAt | undefined;
    /** Whether the outage that there is now was logged. */
    let isLogged = false;

    function onMessage(message: HeardAt, payload: string): void {
      if (signal.aborted) return;
      const hasGap = heard !== undefined && message.seq !== heard.seq + 1;
      heard = message;
      // More was told than the stream holds, before it came here.
      if (hasGap) listener.onGap(true);
      listener.onHint(payload);
    }

    /** Makes a connection. Resolves when it was lost; rejects when it never was. */
    async function listen(): Promise<void> {
      const address = addresses[turn++ % addresses.length]!;
      try {
        session = await openNatsSession({ ...names, address, after: heard, onMessage, signal });
      } catch (error) {
        note(address.name, error instanceof Error ? error.message : String(error));
        throw error;
      }
      log.info({ server: address.name, resumed: session.resumed }, isLogged ? "NATS is there again" : "NATS is there");
      isLogged = false;
      if (session.resumed) {
        listener.onResumed();
      } else {
        heard = undefined;
        listener.onGap(true);
      }
      const why = await session.over;
      session = undefined;
      note(address.name, why);
      if (!signal.aborted) listener.onGap(false);
    }

    function note(server: string, why: string): void {
      if (signal.aborted) return;
      const facts = { server, why };
      if (isLogged) log.debug(facts, "NATS is still away");
      else log.warn(facts, "NATS is away: what other replicas commit is found by looking into the database");
      isLogged = true;
    }

    async function keepListening(): Promise<void> {
      for (let failures = 0; !signal.aborted; failures += 1) {
        const begun = runtime.elapsedMs();
        await listen().then(
          () => {
            if (runtime.elapsedMs() - begun >= LASTING_MS) failures = 0;
          },
          () => {},
        );
        const rounds = Math.floor(failures / addresses.length);
        const pauseMs = backoffMs(rounds, FIRST_PAUSE_MS, LONGEST_PAUSE_MS, runtime.random);
        await runtime.wait(pauseMs, signal).catch(() => {});
      }
    }

    const kept = keepListening();
    return {
      get connected() {
        return session !== undefined;
      },
      async notify(payload) {
        if (!session) throw new Error("NATS is away");
        await session.publish(payload);
      },
      async close() {
        stop.abort();
        await kept;
      },
    };
  };
}
