/** The look beneath the hints: when it looks, at what, and what it tells. */
import { beforeEach, expect, test } from "vitest";
import { databaseUnavailable } from "../../src/domain/errors.ts";
import { type SlowPoll, startSlowPoll } from "../../src/services/background/slow-poll.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { createUpdateHub, type UpdateHub } from "../../src/services/update-hub.ts";
import type { TaskKey } from "../../src/store/task-reads.ts";
import { createInbox, type Inbox } from "../fault/inbox.ts";
import { type HintingReplica, startHintingReplica } from "../fixtures/hinting-replica.ts";
import { describeEachBackend, silent } from "../store/backends.ts";

const EVERY_MS = 5_000;
const REST_MS = 50;

/** Time that passes when the test says so. */
interface Pause {
  ms: number;
  end(): void;
}

describeEachBackend("the slow poll", (context) => {
  let writer: HintingReplica;
  let pauses: Inbox<Pause>;
  let runtime: Runtime;
  let hub: UpdateHub;
  /** How many tasks each statement asked for, and whether the next one fails. */
  let asked: number[];
  let failing: boolean;
  let poll: SlowPoll;

  beforeEach(async () => {
    writer = await startHintingReplica(context.db);
    pauses = createInbox();
    runtime = {
      ...systemRuntime(),
      wait: (ms, signal) =>
        new Promise((resolve, reject) => {
          if (signal.aborted) return reject(signal.reason);
          signal.addEventListener("abort", () => reject(signal.reason), { once: true });
          pauses.put({ ms, end: resolve });
        }),
    };
    hub = createUpdateHub();
    asked = [];
    failing = false;
    const store = {
      async lastNumbers(keys: readonly TaskKey[]) {
        asked.push(keys.length);
        if (failing) throw databaseUnavailable();
        return writer.store.lastNumbers(keys);
      },
    };
    poll = startSlowPoll({ store, hub, runtime, log: silent, everyMs: EVERY_MS });
    return async () => {
      await poll.stop();
      await writer.stop();
    };
  });

  /** Lets a pause pass, which must be this long. */
  async function pass(ms: number): Promise<void> {
    const pause = await pauses.next();
    expect(pause.ms).toBe(ms);
    pause.end();
  }

  /** What is hinted of a task. */
  function listenTo(taskId: string): Inbox<number> {
    const hints = createInbox<number>();
    hub.subscribe("default", taskId, { onHint: hints.put });
    return hints;
  }

  test("tells how far watched logs have come, in its rhythm", async () => {
    const log = await writer.begin();
    const hints = listenTo(log.taskId);
    poll.setConnected(true);
    // The first pause began before anybody knew whether hints come.
    await pass(1_000);
    expect(await hints.next()).toBe(1);
    await pass(REST_MS);
    await log.append(3);
    await pass(EVERY_MS);
    expect(await hints.next()).toBe(4);
    await pass(REST_MS);
    await pass(EVERY_MS);
  });

  test("looks every second while hints do not come", async () => {
    poll.setConnected(true);
    await pass(1_000);
    await pass(REST_MS);
    await pass(EVERY_MS);
    poll.setConnected(false);
    for (let n = 0; n < 3; n++) {
      await pass(REST_MS);
      await pass(1_000);
    }
  });

  test("looks at once when it is asked to, and rests before it does so again", async () => {
    const log = await writer.begin();
    const hints = listenTo(log.taskId);
    await pauses.next();
    poll.look();
    expect(await hints.next()).toBe(1);
    for (let n = 0; n < 10; n++) poll.look();
    await pass(REST_MS);
    expect(await hints.next()).toBe(1);
    await pass(REST_MS);
    await pass(1_000);
    expect(asked).toHaveLength(2);
  });

  test("looks again in a second when a look failed", async () => {
    const log = await writer.begin();
    const hints = listenTo(log.taskId);
    poll.setConnected(true);
    failing = true;
    await pass(1_000);
    await pass(REST_MS);
    failing = false;
    await pass(1_000);
    expect(await hints.next()).toBe(1);
    await pass(REST_MS);
    await pass(EVERY_MS);
  });

  test("asks for 500 tasks at most at once, and for nothing when nobody watches", async () => {
    await pass(1_000);
    await pass(REST_MS);
    expect(asked).toEqual([]);
    const log = await writer.begin();
    for (let n = 0; n < 1_200; n++) listenTo(`unknown-${n}`);
    const hints = listenTo(log.taskId);
    poll.look();
    expect(await hints.next()).toBe(1);
    expect(asked).toEqual([500, 500, 201]);
  });
});
