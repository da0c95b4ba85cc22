/** Slices of limits in the database: never more than the limit in all, whoever asks at once, and whoever dies. */
import { create } from "@bufbuild/protobuf";
import { beforeEach, expect, it } from "vitest";
import { MessageSchema, Role } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate } from "../../src/domain/agent-report.ts";
import type { SliceAsk } from "../../src/domain/allotment.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { type AllotmentRepository, createAllotmentRepository } from "../../src/store/allotment-repository.ts";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { submitBatch } from "../../src/store/submit-batch.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";
import { emptyTables, raw } from "./tables.ts";

const HOUR_MS = 3_600_000;

describeEachBackend("allotments", (context) => {
  let allotments: AllotmentRepository;
  let replicas: string[];
  beforeEach(async () => {
    await emptyTables(context.db);
    await raw(context.db, "delete from allotments");
    allotments = createAllotmentRepository(context.db);
    replicas = [];
    for (let i = 0; i < 3; i++) replicas.push(await registerReplica(context.db));
  });

  const asking = (key: string, ask: Partial<SliceAsk>) => ({
    workspaceId: "default",
    key,
    limit: 10,
    held: 0,
    keep: 0,
    need: 0,
    ...ask,
  });
  const settle = async (who: number, ask: Partial<SliceAsk>, key = "agent/x") =>
    (await allotments.settle(replicas[who]!, [asking(key, ask)]))[0]!;
  const rows = () =>
    raw(context.db, "select limit_key, replica_id, granted, wanted from allotments order by limit_key, replica_id");

  it("are shared out, and what was not to be had is written down as wanted", async () => {
    expect(await settle(0, { need: 4 })).toEqual({ granted: 7, others: { granted: 0, wanted: 0 } });
    expect(await settle(1, { need: 5 })).toEqual({ granted: 3, others: { granted: 7, wanted: 0 } });
    expect(await settle(0, { held: 2, keep: 7, need: 2 })).toEqual({ granted: 2, others: { granted: 3, wanted: 2 } });
    expect(await settle(1, { held: 3, keep: 3, need: 5 })).toMatchObject({ granted: 7 });
    expect(await settle(2, { held: 4, need: 4 })).toEqual({ granted: 4, others: { granted: 9, wanted: 0 } });
    expect(await rows()).toHaveLength(3);
    for (const who of [0, 1, 2]) await settle(who, {});
    expect(await rows()).toEqual([]);
  });

  it("of many limits are settled at once, each on its own", async () => {
    await settle(1, { need: 10 }, "agent/b");
    const asks = ["agent/c", "agent/b", "agent/a"].map((key, i) => asking(key, { limit: 10 + i, need: 1 + i }));
    const answers = await allotments.settle(replicas[0]!, asks);
    expect(answers.map(({ granted }) => granted)).toEqual([6, 1, 8]);
    expect(answers[1]!.others).toEqual({ granted: 10, wanted: 0 });
  });

  it("are never more than the limit in all, when replicas ask for many at the same moment", async () => {
    const keys = ["a", "b", "c", "d"];
    for (let round = 0; round < 20; round++) {
      await raw(context.db, "delete from allotments");
      const answers = await Promise.all(
        replicas.map((replica, i) => {
          const asks = keys.map((key) => asking(key, { limit: 7, need: 3 + i }));
          return allotments.settle(replica, i % 2 === 0 ? asks : asks.reverse());
        }),
      );
      expect(answers.flat()).toHaveLength(12);
      const sums = await raw(context.db, "select sum(granted)::int as sum from allotments group by limit_key");
      expect(sums).toEqual(keys.map(() => ({ sum: 7 })));
    }
  });

  it("are not given to a replica that was declared dead", async () => {
    await createLeaseRepository(context.db).release(replicas[0]!);
    await expect(settle(0, { need: 1 })).rejects.toMatchObject({ reason: "REPLICA_EXPIRED" });
    expect(await rows()).toEqual([]);
  });

  it("of a dead replica count as long as it has tasks, and then as long as was said", async () => {
    const header = headerOf({ leaseOwner: replicas[0]! });
    const hello = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));
    await submitBatch(context.db, replicas[0]!, [{ header, updates: [{ ...hello, state: EngineState.ASSIGNED }] }]);
    expect(await settle(0, { need: 10 })).toMatchObject({ granted: 10 });
    expect(await settle(1, { need: 1 })).toMatchObject({ granted: 0 });
    const leases = createLeaseRepository(context.db);
    await allotments.sweep(0);
    expect(await settle(1, { need: 1 })).toMatchObject({ granted: 0 });
    await leases.release(replicas[0]!);
    await allotments.sweep(0);
    expect(await settle(1, { need: 1 })).toMatchObject({ granted: 0 });
    // What it had is rescued: its new owner says so.
    expect(await leases.rescue(replicas[1]!, 10)).toHaveLength(1);
    await allotments.sweep(HOUR_MS);
    await allotments.sweep(0);
    expect(await settle(1, { held: 1, need: 2 })).toMatchObject({ granted: 1, others: { granted: 10 } });
    await raw(context.db, "update allotments set expires_at = clock_timestamp() where expires_at is not null");
    expect(await settle(1, { held: 1, need: 2 })).toMatchObject({ granted: 6, others: { granted: 0 } });
    await allotments.sweep(0);
    expect(await rows()).toMatchObject([{ replica_id: replicas[1] }]);
  });
});
