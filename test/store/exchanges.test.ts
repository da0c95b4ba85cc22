/** Where exchanges are kept, and forgotten. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { beforeEach, expect, test } from "vitest";
import { MessageSchema, Role } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ExchangeKind, ExchangeMessageSchema, QuoteSchema } from "../../gen/signalbox/v1/message_pb.ts";
import { messageUpdate } from "../../src/domain/agent-report.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import {
  createExchangeRepository,
  type ExchangeRecord,
  MAX_BODY_BYTES,
  type RecentCursor,
} from "../../src/store/exchange-repository.ts";
import { createExchangeRetention } from "../../src/store/exchange-retention.ts";
import { createTaskStore } from "../../src/store/task-store.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend } from "./backends.ts";
import { raw } from "./tables.ts";

const AT = new Date("2026-01-01T00:00:00Z");
const later = (ms: number) => new Date(AT.getTime() + ms);

describeEachBackend("exchanges", (ctx) => {
  const records = () => createExchangeRepository(ctx.db);

  beforeEach(async () => {
    await raw(ctx.db, "delete from exchanges");
    await raw(ctx.db, "insert into workspaces (workspace_id) values ('other') on conflict do nothing");
  });

  const said = (
    correlationId: string,
    messageId: string,
    at = AT,
    more: MessageInitShape<typeof ExchangeMessageSchema> = {},
  ) =>
    create(ExchangeMessageSchema, {
      correlationId,
      messageId,
      kind: ExchangeKind.DISCOVER,
      createTime: timestampFromDate(at),
      payload: { case: "discover", value: { text: messageId } },
      ...(more as object),
    });
  const append = (
    correlationId: string,
    messageId: string,
    { at = AT, begins = true, most = 100, workspace = "default", taskId = undefined as string | undefined } = {},
  ) =>
    records().append(
      workspace,
      { message: said(correlationId, messageId, at), principal: "p", taskId },
      { ownerId: "p", begins, most },
    );
  const ids = (found: readonly ExchangeRecord[] | undefined) => found?.map(({ message }) => message.messageId);
  const list = (correlationId: string, after = 0, limit = 100) =>
    records().list("default", { correlationId, ownerId: "p" }, { after: { ownerId: "p", seq: after }, limit });

  test("keep what was said, in its order", async () => {
    expect(await append("x", "first", { taskId: "t" })).toBe(1);
    expect(await append("x", "second", { at: later(1) })).toBe(2);
    expect(await append("y", "theirs")).toBe(1);
    expect(await list("x")).toEqual([
      { seq: 1, ownerId: "p", principal: "p", taskId: "t", omittedBytes: 0, message: said("x", "first") },
      {
        seq: 2,
        ownerId: "p",
        principal: "p",
        taskId: undefined,
        omittedBytes: 0,
        message: said("x", "second", later(1)),
      },
    ]);
    expect(await list("z")).toBeUndefined();
    expect(await list("x", 2)).toEqual([]);
  });

  test("many at once get numbers without gaps, each message once", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uuid(),
        fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 24 }),
        async (run, plan) => {
          await Promise.all(plan.map((name, i) => append(`${run}-${name}`, `m${i}`)));
          for (const name of new Set(plan)) {
            const found = (await list(`${run}-${name}`))!;
            expect(found.map(({ seq }) => seq)).toEqual(found.map((_, i) => i + 1));
            expect(new Set(ids(found))).toEqual(new Set(plan.flatMap((one, i) => (one === name ? [`m${i}`] : []))));
          }
        },
      ),
      { numRuns: 15 },
    );
  });

  test("take no more than they may, and no answer to nothing", async () => {
    expect(await append("x", "1", { begins: false })).toBe("missing");
    expect(await list("x")).toBeUndefined();
    expect(await append("x", "1", { most: 2 })).toBe(1);
    expect(await append("x", "2", { most: 2, begins: false })).toBe(2);
    expect(await append("x", "3", { most: 2 })).toBe("full");
    expect(await append("x", "3", { most: 2, begins: false })).toBe("full");
    expect(await append("x", "3", { most: 3, begins: false })).toBe(3);
    expect(ids(await list("x"))).toEqual(["1", "2", "3"]);
  });

  test("a message that is too large is kept without what makes it so", async () => {
    const large = said("x", "large", AT, {
      metadata: { why: "because" },
      payload: { case: "discover", value: { text: "x".repeat(MAX_BODY_BYTES) } },
    });
    await records().append(
      "default",
      { message: large, principal: "p", taskId: undefined },
      { ownerId: "p", begins: true, most: 9 },
    );
    const [kept] = (await list("x"))!;
    expect(kept!.omittedBytes).toBeGreaterThan(MAX_BODY_BYTES);
    expect(kept!.message).toMatchObject({
      messageId: "large",
      kind: ExchangeKind.DISCOVER,
      payload: { case: undefined },
    });
    expect(kept!.message.metadata).toBeUndefined();
  });

  test("of all exchanges the latest come first, by pages, each once", async () => {
    const expected: string[] = [];
    for (let i = 0; i < 12; i++) {
      // Several at one moment.
      await append(`x${i % 3}`, `m${i}`, { at: later(Math.floor(i / 4)) });
      expected.push(`m${i}`);
    }
    const seen: string[] = [];
    for (let before: RecentCursor | undefined; ; ) {
      const page = await records().recent("default", "p", { limit: 5, ...(before && { before }) });
      if (page.length === 0) break;
      seen.push(...ids(page)!);
      const { message, ownerId, seq } = page.at(-1)!;
      before = {
        at: new Date(Number(message.createTime!.seconds) * 1000 + message.createTime!.nanos / 1e6),
        correlationId: message.correlationId,
        ownerId,
        seq,
      };
    }
    expect([...seen].sort()).toEqual([...expected].sort());
    const moments = seen.map((id) => Math.floor(Number(id.slice(1)) / 4));
    expect(moments).toEqual([...moments].sort((a, b) => b - a));
  });

  test("count messages of a kind, and keep quotes", async () => {
    await append("x", "1");
    await append("x", "2");
    expect(await records().count("default", { ownerId: "p", correlationId: "x" }, ExchangeKind.DISCOVER)).toBe(2);
    expect(await records().count("default", { ownerId: "p", correlationId: "x" }, ExchangeKind.VERIFY)).toBe(0);
    const quotes = ["q1", "q2"].map((quoteId) => create(QuoteSchema, { quoteId, agentId: "a", cost: "0.5" }));
    await records().addQuotes("default", { ownerId: "p", correlationId: "x" }, quotes);
    await records().addQuotes("default", { ownerId: "p", correlationId: "x" }, []);
    expect(await records().quote("default", "q2", "p")).toEqual(quotes[1]);
    expect(await records().quote("default", "q3", "p")).toBeUndefined();
  });

  test("no method reaches into another workspace", async () => {
    await append("x", "theirs", { workspace: "other" });
    await records().addQuotes("other", { ownerId: "p", correlationId: "x" }, [create(QuoteSchema, { quoteId: "q" })]);
    expect(await list("x")).toBeUndefined();
    expect(await records().recent("default", "p", { limit: 9 })).toEqual([]);
    expect(await records().quote("default", "q", "p")).toBeUndefined();
    expect(await append("x", "ours", { begins: false })).toBe("missing");
    expect(await append("x", "ours")).toBe(1);
    expect(await records().count("other", { ownerId: "p", correlationId: "x" }, ExchangeKind.DISCOVER)).toBe(1);
  });

  test("of one correlation id are as many as there are owners, and each sees its own", async () => {
    await append("x", "mine");
    const theirs = { message: said("x", "theirs"), principal: "q", taskId: undefined };
    expect(await records().append("default", theirs, { ownerId: "q", begins: true, most: 9 })).toBe(1);
    expect(ids(await list("x"))).toEqual(["mine"]);
    expect(ids(await records().recent("default", "q", { limit: 9 }))).toEqual(["theirs"]);
    const all = { correlationId: "x", ownerId: undefined };
    expect(ids(await records().list("default", all, { limit: 9 }))).toEqual(["mine", "theirs"]);
    expect(ids(await records().list("default", all, { after: { ownerId: "p", seq: 1 }, limit: 9 }))).toEqual([
      "theirs",
    ]);
    await records().addQuotes("default", { ownerId: "q", correlationId: "x" }, [
      create(QuoteSchema, { quoteId: "q9" }),
    ]);
    expect(await records().quote("default", "q9", "p")).toBeUndefined();
    expect(await records().quote("default", "q9", undefined)).toBeDefined();
  });

  test("are answered in by their owner, by who sees all, and by an agent that has a task of theirs", async () => {
    const store = createTaskStore(ctx.db, { maxWaiting: 9, replicaId: () => replica });
    const replica = await registerReplica(ctx.db);
    const header = headerOf({ agentId: "worker" });
    const hello = messageUpdate(create(MessageSchema, { messageId: "1", role: Role.USER }));
    await store.submit({ header, updates: [{ ...hello, state: EngineState.ASSIGNED }] });
    await store.close();
    await append("x", "asked", { taskId: header.taskId });
    const answerable = (principalId: string, seesAll = false, agentId?: string) =>
      records().answerable("default", "x", { principalId, seesAll, agentId });
    expect(await answerable("p")).toBe("p");
    expect(await answerable("q")).toBeUndefined();
    expect(await answerable("q", true)).toBe("p");
    expect(await answerable("q", false, "worker")).toBe("p");
    expect(await answerable("q", false, "idler")).toBeUndefined();
  });

  test("are forgotten whole, the oldest first, so many at a time", async () => {
    const { sweep } = createExchangeRetention(ctx.db);
    await append("old", "1", { at: AT });
    await append("older", "1", { at: later(-1000), workspace: "other" });
    await append("lively", "1", { at: later(-5000) });
    await append("lively", "2", { at: later(5000) });
    await records().addQuotes("default", { ownerId: "p", correlationId: "old" }, [
      create(QuoteSchema, { quoteId: "q" }),
    ]);
    expect(await sweep(later(1), 1)).toBe(1);
    expect(await records().list("other", { correlationId: "older", ownerId: undefined }, { limit: 9 })).toBeUndefined();
    expect(ids(await list("old"))).toEqual(["1"]);
    expect(await sweep(later(1), 10)).toBe(1);
    expect(await list("old")).toBeUndefined();
    expect(await records().quote("default", "q", "p")).toBeUndefined();
    // Its last message counts, not its first.
    expect(ids(await list("lively"))).toEqual(["1", "2"]);
    expect(await sweep(later(1), 10)).toBe(0);
    const left = await raw(ctx.db, "select count(*)::int as n from exchange_messages");
    expect(left).toEqual([{ n: 2 }]);
  });

  test("two sweepers share the work", async () => {
    const { sweep } = createExchangeRetention(ctx.db);
    for (let i = 0; i < 20; i++) await append(`x${i}`, "1");
    const swept = await Promise.all(Array.from({ length: 4 }, () => sweep(later(1), 10)));
    let rest = 0;
    for (let more = 1; more > 0; rest += more) more = await sweep(later(1), 10);
    expect(swept.reduce((sum, n) => sum + n, 0) + rest).toBe(20);
  });
});
