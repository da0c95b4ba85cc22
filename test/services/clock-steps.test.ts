/** The server's clock is set back: who is dead is noticed all the same. */
import { onTestFinished, test } from "vitest";
import { databaseUnavailable } from "../../src/domain/errors.ts";
import { joinReplicas } from "../../src/services/background/replica.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { createInbox } from "../fault/inbox.ts";
import { describeEachBackend, silent } from "../store/backends.ts";

const LEASE_MS = 1_000;

describeEachBackend("a replica whose clock steps back", (context) => {
  test("still notices after a missed heartbeat that another is dead", async () => {
    const pauses = createInbox<() => void>();
    let elapsedMs = 10 * LEASE_MS;
    let clock = Date.now();
    const runtime: Runtime = {
      ...systemRuntime(),
      now: () => new Date(clock),
      elapsedMs: () => elapsedMs,
      wait: (_ms, signal) =>
        new Promise((resolve, reject) => {
          if (signal.aborted) return reject(signal.reason);
          signal.addEventListener("abort", () => reject(signal.reason), { once: true });
          pauses.put(resolve);
        }),
    };
    const leases = createLeaseRepository(context.db);
    let isCut = true;
    const beat: typeof leases.beat = (...args) =>
      isCut ? Promise.reject(databaseUnavailable()) : leases.beat(...args);
    const replica = await joinReplicas({
      leases: { ...leases, beat },
      runtime,
      log: silent,
      leaseMs: LEASE_MS,
      alone: false,
    });
    onTestFinished(() => replica.stop());
    const noticed = Promise.withResolvers<void>();
    replica.start({ onBeat: () => {}, onDeath: noticed.resolve, onExpired: () => {} });
    const pass = async () => (await pauses.next())();
    await pass(); // to the heartbeat that is missed
    const again = await pauses.next();
    isCut = false;
    again(); // to the one that is heard
    const next = await pauses.next();
    clock -= 3_600_000;
    elapsedMs += LEASE_MS;
    // Its lease has run out as soon as it is registered.
    await leases.register("departed", "test", 0);
    next();
    // While the database itself is younger than a lease, nobody is declared dead: until then there are more heartbeats.
    void (async () => {
      for (;;) (await pauses.next())();
    })();
    await noticed.promise;
  });
});
