/** Who sees which task: statements say the same as the rule, whatever tasks, shares and readers there are. */
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { MessageSchema, Role } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { messageUpdate } from "../../src/domain/agent-report.ts";
import { accessTo, type Share, type Viewer } from "../../src/domain/identity/visibility.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createContextShareRepository, type StoredShare } from "../../src/store/context-share-repository.ts";
import { createTaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";
import { raw } from "./tables.ts";

const AT = new Date("2026-01-01T00:00:00Z");
const unrecorded = async () => {};
const ids = fc.constantFrom("alice", "bob", "anonymous");
const roles = fc.constantFrom("operator", "auditor");
const contexts = fc.constantFrom("c1", "c2");
const owned = fc.record({ owner: fc.option(ids, { nil: undefined }), contextId: contexts });
const share: fc.Arbitrary<Share> = fc.record({
  ownerId: ids,
  contextId: contexts,
  subject: fc.oneof(fc.record({ principalId: ids }), fc.record({ role: roles })),
  canWrite: fc.boolean(),
});
const viewer: fc.Arbitrary<Viewer | undefined> = fc.option(fc.record({ id: ids, roles: fc.uniqueArray(roles) }), {
  nil: undefined,
});

describeEachBackend("who sees which task", (ctx) => {
  let replica: string;
  const hello = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));
  const shares = () => createContextShareRepository(ctx.db);
  const stored = (given: Share): StoredShare => ({ ...given, createdAt: AT });

  beforeAll(async () => {
    replica = await registerReplica(ctx.db);
  });

  test("is what the rule says, by every way to read", async () => {
    const store = createTaskStore(ctx.db, { maxWaiting: 1000, replicaId: () => replica });
    await fc.assert(
      fc.asyncProperty(
        fc.array(owned, { minLength: 1, maxLength: 8 }),
        fc.uniqueArray(share, { maxLength: 6, selector: ({ canWrite: _, ...key }) => JSON.stringify(key) }),
        fc.array(viewer, { minLength: 1, maxLength: 3 }),
        async (given, shared, viewers) => {
          await raw(ctx.db, "delete from tasks");
          await raw(ctx.db, "delete from context_shares");
          for (const each of shared) await shares().put("default", stored(each), 100, unrecorded);
          const headers = given.map((of) => headerOf({ ...of, agentId: "agent", upstreamContextId: "up" }));
          await Promise.all(
            headers.map((header) => store.submit({ header, updates: [{ ...hello, state: EngineState.ASSIGNED }] })),
          );
          const taskIds = headers.map(({ taskId }) => taskId);
          for (const who of viewers) {
            const rule = headers.map((header) => accessTo(who, header, shared));
            const seen = taskIds.filter((_, i) => rule[i]);
            const loaded = await Promise.all(taskIds.map((id) => store.load("default", id, who)));
            expect(loaded.map((task) => task?.access)).toEqual(rule);
            expect(loaded.every((task) => !task || task.updates.length === 1)).toBe(true);
            const standing = await Promise.all(taskIds.map((id) => store.header("default", id, who)));
            expect(standing.map((task) => task?.access)).toEqual(rule);
            const { tasks, total } = await store.list("default", {}, { limit: 100, viewer: who });
            expect(tasks.map(({ header }) => header.taskId).sort()).toEqual(seen.toSorted());
            expect(total).toBe(seen.length);
            expect((await store.seenTaskIds("default", taskIds, who)).sort()).toEqual(seen.toSorted());
            if (!who) continue;
            const query = { contextId: "c1", agentId: "agent", viewer: who };
            const mayGoOn = headers.some((header, i) => header.contextId === "c1" && rule[i] === "write");
            expect(await store.findUpstreamContext("default", query)).toBe(mayGoOn ? "up" : undefined);
          }
        },
      ),
      { numRuns: 40 },
    );
    await store.close();
  });

  test("a list that is one's own is walked by pages, with what others share in between", async () => {
    const store = createTaskStore(ctx.db, { maxWaiting: 1000, replicaId: () => replica });
    await raw(ctx.db, "delete from tasks");
    await raw(ctx.db, "delete from context_shares");
    const given = { ownerId: "bob", contextId: "c1", subject: { principalId: "alice" }, canWrite: false };
    await shares().put("default", stored(given), 100, unrecorded);
    const headers = Array.from({ length: 30 }, (_, i) =>
      headerOf({
        owner: i % 3 === 0 ? "alice" : "bob",
        contextId: i % 2 === 0 ? "c1" : "c2",
        createdAt: new Date(AT.getTime() + i),
      }),
    );
    for (const header of headers) await store.submit({ header, updates: [{ ...hello, state: EngineState.ASSIGNED }] });
    const expected = headers.filter(({ owner, contextId }) => owner === "alice" || contextId === "c1").reverse();
    const alice: Viewer = { id: "alice", roles: [] };
    const walked: string[] = [];
    for (let after: { statusAt: Date; taskId: string } | undefined; ; ) {
      const page = await store.list("default", {}, { limit: 4, viewer: alice, ...(after && { after }) });
      expect(page.total).toBe(expected.length);
      walked.push(...page.tasks.map(({ header }) => header.taskId));
      const last = page.tasks.at(-1);
      if (!last || page.tasks.length < 4) break;
      after = { statusAt: last.statusAt, taskId: last.header.taskId };
    }
    expect(walked).toEqual(expected.map(({ taskId }) => taskId));
    await store.close();
  });

  test("a context has so many shares at most, however many are added at once; what is said again changes nothing", async () => {
    await raw(ctx.db, "delete from context_shares");
    let recorded = 0;
    const record = async () => {
      recorded += 1;
    };
    const of = (name: string, canWrite = false) =>
      stored({ ownerId: "alice", contextId: "c", subject: { principalId: name }, canWrite });
    const put = (one: StoredShare) => shares().put("default", one, 3, record);
    const made = await Promise.all(["a", "b", "c", "d", "e"].map((name) => put(of(name))));
    expect(made.filter(Boolean)).toHaveLength(3);
    const [known] = await shares().list("default", "alice", "c");
    await put({ ...known!, canWrite: false });
    expect(recorded).toBe(3);
    expect(await put({ ...known!, canWrite: true })).toMatchObject({ canWrite: true });
    expect(recorded).toBe(4);
    expect(await shares().remove("default", known!, record)).toBe(true);
    expect(await shares().remove("default", known!, record)).toBe(false);
    expect(recorded).toBe(5);
    expect(await shares().list("default", "bob", "c")).toEqual([]);
  });
});
