import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { overtakenCause } from "../../src/domain/cause.ts";
import { type AgentStandings, foldOutcome, judge, WHOLE } from "../../src/domain/reputation/agent-standings.ts";
import { DEFAULT_TRUST_RULE as RULE } from "../../src/domain/reputation/trust-rule.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createExpiredRows } from "../../src/store/expired-rows.ts";
import { createOutboxRepository, type OutboxRepository } from "../../src/store/outbox-repository.ts";
import { createReputationRepository, type ReputationRepository } from "../../src/store/reputation-repository.ts";
import { type EndedTask, writeEndedTask } from "../fixtures/ended-tasks.ts";
import { whenReadable } from "../fixtures/log-rows.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { describeEachBackend } from "./backends.ts";
import { raw } from "./tables.ts";

const { newId } = systemRuntime();
const { QUEUED, WORKING, COMPLETED, FAILED, INPUT_REQUIRED, ASSIGNED, SCHEDULED } = EngineState;
const T0 = Date.UTC(2026, 0, 1);

const good =
  (capabilityId?: string, atMs = T0) =>
  (_: unknown, standings: AgentStandings) =>
    foldOutcome(standings, { agentId: "", capabilityId, isGood: true, atMs, latencyMs: 7, isInSla: true }, RULE);

describeEachBackend("reputation", (context) => {
  let repository: ReputationRepository;
  let outbox: OutboxRepository;
  let workspaceId: string;

  beforeAll(() => {
    repository = createReputationRepository(context.db);
    outbox = createOutboxRepository(context.db);
  });
  beforeEach(() => {
    workspaceId = newId();
  });

  const agent = (agentId = "worker", ...capabilityIds: string[]) => ({ workspaceId, agentId, capabilityIds });
  const summaryOf = async (agentId = "worker") =>
    (await repository.ofAgent(workspaceId, agentId)).map(
      ({ capabilityId, standing }) => `${capabilityId || "all"} ${standing.trust} ${standing.succeeded}`,
    );

  it("is what was folded, windows and all, and each workspace has its own", async () => {
    const folded: AgentStandings = new Map();
    for (let i = 0; i < 3; i++) {
      await repository.change(agent("worker", "c"), good("c", T0 + i));
      good("c", T0 + i)(undefined, folded);
    }
    const stored = await repository.ofAgent(workspaceId, "worker");
    expect(stored.map(({ capabilityId, standing }) => [capabilityId, standing])).toEqual([...folded].sort());
    expect(await repository.ofAgent(newId(), "worker")).toEqual([]);
    expect((await repository.load(newId(), undefined)).rows).toEqual([]);
  });

  it("is changed by one after another, and nothing is lost", async () => {
    await Promise.all(
      Array.from({ length: 12 }, (_, i) => repository.change(agent("worker", `c${i % 3}`), good(`c${i % 3}`))),
    );
    expect(await summaryOf()).toEqual([
      "all 1 12",
      expect.stringMatching(/^c0 .* 4$/),
      expect.stringMatching(/^c1 .* 4$/),
      expect.stringMatching(/^c2 .* 4$/),
    ]);
  });

  it("takes in a report once, and forgets its id after a week", async () => {
    const report = { id: "r", at: new Date(T0) };
    const say = () =>
      repository.change(
        agent(),
        (_, standings) => judge(standings, undefined, { quality: 1, weight: 1, atMs: T0 }, RULE),
        report,
      );
    expect((await Promise.all([say(), say(), say()])).filter(Boolean)).toHaveLength(1);
    expect(await summaryOf()).toEqual(["all 0.55 0"]);
    const expired = createExpiredRows(context.db);
    await expired.removeReports(new Date(T0), 100);
    expect(await say()).toBe(false);
    expect(await expired.removeReports(new Date(T0 + 1), 100)).toBe(1);
    expect(await say()).toBe(true);
  });

  it("of an agent that is not registered goes when nothing has changed in it for long", async () => {
    await repository.change(agent(), good());
    const expired = createExpiredRows(context.db);
    await expired.removeReputations(new Date(T0), 1000);
    expect(await summaryOf()).toHaveLength(1);
    await expired.removeReputations(new Date(T0 + 1), 1000);
    expect(await summaryOf()).toHaveLength(0);
  });

  it("is loaded by what has changed, also by transactions that were under way", async () => {
    const changed = async (since: string | undefined) => {
      const { rows, cursor } = await repository.load(workspaceId, since);
      return { ids: rows.map(({ agentId, capabilityId }) => `${agentId}/${capabilityId}`).sort(), cursor };
    };
    const none = await changed(undefined);
    expect(none.ids).toEqual([]);
    await repository.change(agent("a"), good());
    const first = await changed(none.cursor);
    expect(first.ids).toEqual(["a/"]);
    if (context.backend === "postgres") {
      await context.db.kysely.transaction().execute(async (tx) => {
        await tx
          .updateTable("reputations")
          .set({ trust: 0.1, xid: (eb) => eb.fn<string>("pg_current_xact_id") })
          .where("workspace_id", "=", workspaceId)
          .execute();
        await repository.change(agent("b", "c"), good("c"));
        const second = await changed(first.cursor);
        expect(second.ids).toEqual(expect.arrayContaining(["b/", "b/c"]));
        first.cursor = second.cursor;
      });
      const { rows } = await repository.load(workspaceId, first.cursor);
      expect(rows.find(({ agentId }) => agentId === "a")?.standing.trust).toBe(0.1);
    }
  });

  it("is listed by agent and capability, in pages", async () => {
    for (const agentId of ["b", "a"]) await repository.change(agent(agentId, "x"), good("x"));
    const all = ["a/", "a/x", "b/", "b/x"];
    const list = async (...[page]: Parameters<ReputationRepository["list"]> extends [string, infer P] ? [P] : never) =>
      (await repository.list(workspaceId, page)).map(({ agentId, capabilityId }) => `${agentId}/${capabilityId}`);
    expect(await list({ limit: 9 })).toEqual(all);
    expect(await list({ limit: 2, after: { agentId: "a", capabilityId: "" } })).toEqual(["a/x", "b/"]);
    expect(await list({ limit: 9, agentId: "b" })).toEqual(["b/", "b/x"]);
  });

  describe("and the cursor of who folds it", () => {
    const duty = newId();
    let lease: NonNullable<Awaited<ReturnType<OutboxRepository["take"]>>>;

    beforeEach(async () => {
      await outbox.enter(duty);
      lease = (await outbox.take(duty, await registerReplica(context.db)))!;
      return () => outbox.release(duty, lease.fence);
    });

    it("move together, once", async () => {
      const { fence, position: from } = lease;
      const position = { ...from, workspaceId, taskId: "t", seq: 3 };
      const fold = () => repository.fold({ duty, fence, from, position }, [agent("worker", "c")], good("c"));
      expect(await fold()).toBe(true);
      // The answer was lost, and whoever asked does not know.
      expect(await fold()).toBe(false);
      expect(await summaryOf()).toEqual(["all 0.55 1", "c 0.55 1"]);
      expect(await outbox.advance(duty, fence, from, from)).toBe(false);
      expect(await outbox.advance(duty, fence, from, position)).toBe(true);
    });

    it("stay where they are when the cursor is another's, or the change fails", async () => {
      const { fence, position: from } = lease;
      const position = { ...from, workspaceId, seq: 9 };
      const move = { duty, fence, from, position };
      expect(await repository.fold({ ...move, fence: fence - 1 }, [agent()], good())).toBe(false);
      const fails = repository.fold(move, [agent()], () => {
        throw new Error("no");
      });
      await expect(fails).rejects.toThrow("no");
      expect(await summaryOf()).toEqual([]);
      expect(await repository.fold(move, [], good())).toBe(true);
    });
  });

  describe("of the ends of tasks", () => {
    /** What is known of the end of a task, with times in milliseconds from its acceptance. */
    async function endingOf(task: EndedTask) {
      const key = await writeEndedTask(context.db.kysely, { ...task, workspaceId });
      const [ending, ...more] = await repository.endings([{ workspaceId, ...key }]);
      expect(more).toEqual([]);
      const { at, beganAt, ...facts } = ending!;
      return { ...facts, atMs: at.getTime() - T0, beganAtMs: beganAt && beganAt.getTime() - T0 };
    }

    it("knows who had it, since when, and why it ended", async () => {
      const rows = [
        { state: ASSIGNED, kind: 1 },
        { state: WORKING, atMs: 10 },
        { state: FAILED, cause: "INVALID_AGENT_RESPONSE: no\n{raw}", atMs: 99 },
      ];
      expect(await endingOf({ agentId: "a", capabilityId: "c", rows })).toEqual({
        workspaceId,
        state: FAILED,
        cause: "INVALID_AGENT_RESPONSE: no",
        atMs: 99,
        beganAtMs: 0,
        waitedForClient: false,
        wasHedged: false,
        agentId: "a",
        capabilityId: "c",
        earlierAgentIds: [],
        givenCapabilityId: "c",
      });
    });

    it("counts from the attempt that it ended, and leaves out what waited", async () => {
      const rows = [
        { state: QUEUED, kind: 1, attempt: 0 },
        { state: ASSIGNED, kind: 6, atMs: 50 },
        { state: INPUT_REQUIRED, atMs: 60 },
        { state: SCHEDULED, kind: 6, atMs: 70 },
        { state: ASSIGNED, kind: 6, attempt: 2, atMs: 100 },
        { state: COMPLETED, attempt: 2, atMs: 130 },
      ];
      expect(await endingOf({ rows })).toMatchObject({ atMs: 130, beganAtMs: 100, waitedForClient: false });
      expect(await endingOf({ rows: rows.slice(0, 4) })).toMatchObject({ beganAtMs: 50, waitedForClient: true });
      expect(await endingOf({ rows: [rows[0]!, { state: FAILED, attempt: 0 }] })).toMatchObject({
        beganAtMs: undefined,
      });
    });

    it("knows those that came from a slower agent, and who had them before", async () => {
      const rows = [
        { state: ASSIGNED, kind: 1 },
        { state: ASSIGNED, kind: 6, cause: overtakenCause({ from: "slow", to: "worker" }), atMs: 5 },
        { state: COMPLETED, atMs: 9 },
      ];
      const found = await endingOf({ earlierAgentIds: ["slow"], givenCapabilityId: "g", capabilityId: "c", rows });
      expect(found).toMatchObject({
        wasHedged: true,
        earlierAgentIds: ["slow"],
        givenCapabilityId: "g",
        capabilityId: "c",
      });
      const given = { earlierAgentIds: ["slow"], capabilityId: "c", rows };
      expect(await endingOf(given)).toMatchObject({ givenCapabilityId: undefined });
    });

    it("is not of the future, and not of what was removed", async () => {
      const acceptedAt = new Date(Date.now() + 3_600_000);
      const rows = [{ state: ASSIGNED, kind: 1 }, { state: COMPLETED }];
      const key = await writeEndedTask(context.db.kysely, { workspaceId, acceptedAt, rows });
      const [ending] = await repository.endings([{ workspaceId, ...key }]);
      expect(ending!.at.getTime()).toBeLessThan(acceptedAt.getTime());
      expect(await repository.endings([{ workspaceId, taskId: newId(), seq: 1 }])).toEqual([]);
    });

    it("reads no other rows", async () => {
      await whenReadable(context.db);
      const [row] = await raw(context.db, "select pg_snapshot_xmin(pg_current_snapshot())::text as xid");
      const start = { xid: row!.xid as string, workspaceId: "", taskId: "", seq: 0 };
      const states = [undefined, QUEUED, WORKING, INPUT_REQUIRED, SCHEDULED, COMPLETED];
      const { taskId } = await writeEndedTask(context.db.kysely, {
        workspaceId,
        rows: states.map((state) => ({ ...(state && { state }) })),
      });
      await whenReadable(context.db);
      const page = await outbox.read("endings", start, { rows: 1000, bytes: 1 });
      expect(page.rows.filter((each) => each.taskId === taskId).map(({ seq, state }) => [seq, state])).toEqual([
        [5, SCHEDULED],
        [6, COMPLETED],
      ]);
    });
  });

  it("of the agent as a whole is there wherever one for a capability is", async () => {
    await repository.change(agent("worker", "c"), good("c"));
    expect((await repository.ofAgent(workspaceId, "worker"))[0]!.capabilityId).toBe(WHOLE);
  });
});
