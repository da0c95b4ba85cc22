/** What becomes of a message whatever its act does: who may send it, how long it may take, what is kept; and the sweep. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { beforeEach, expect, it } from "vitest";
import {
  ExchangeKind,
  type ExchangeMessage,
  ExchangeMessageSchema,
  ListExchangesRequestSchema,
} from "../../gen/signalbox/v1/message_pb.ts";
import { SignalboxError } from "../../src/domain/errors.ts";
import { startExchangeSweep } from "../../src/services/background/exchange-sweep.ts";
import type { Act } from "../../src/services/exchange/act.ts";
import { createExchanges, type ExchangesDeps } from "../../src/services/exchange/exchanges.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { createExchangeRepository } from "../../src/store/exchange-repository.ts";
import { createExchangeRetention } from "../../src/store/exchange-retention.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";
import { hang } from "./engine-lab.ts";

const runtime = systemRuntime();

describeEachBackend("exchanges", (backend) => {
  const records = () => createExchangeRepository(backend.db);
  beforeEach(() => raw(backend.db, "delete from exchanges"));

  /** Exchanges whose acts all do the same. */
  function exchangesDoing(act: Act<"discover">, differs: Partial<ExchangesDeps> = {}) {
    const acts = new Proxy({}, { get: () => act }) as ExchangesDeps["acts"];
    const never = {} as never;
    return createExchanges({
      acts,
      records: records(),
      sender: never,
      tasks: never,
      runtime,
      refusals: { record: () => undefined },
      ...differs,
    });
  }
  const contextOf = (scopes: readonly string[] = ["*"], signal = new AbortController().signal) =>
    ({
      principal: {
        id: "alice",
        workspaceId: "default",
        roles: new Set<string>(),
        scopes: new Set(scopes),
        authentication: "anonymous",
        actors: [],
      },
      workspaceId: "default",
      requestId: "r",
      signal,
      extensions: [],
      traceparent: undefined,
      addressTarget: undefined,
      idempotencyKey: undefined,
      noStore: false,
      log: silent,
    }) satisfies RequestContext;
  const saying = (payload: MessageInitShape<typeof ExchangeMessageSchema>["payload"], more: object = {}) =>
    create(ExchangeMessageSchema, { correlationId: "x", ...more, payload: payload! });
  const discover = (more: object = {}) => saying({ case: "discover", value: {} }, more);
  const kinds = async () =>
    (await records().list("default", { correlationId: "x", ownerId: undefined }, { limit: 99 }))?.map(
      ({ message }) => message.kind,
    );
  const nothing: Act<"discover"> = async () => ({ case: "discover", value: {} });

  it("are for those who hold the scopes of what they ask for", async () => {
    const { exchange } = exchangesDoing(nothing);
    const observe = saying({ case: "observe", value: { taskId: "t" } });
    const explain = saying({ case: "explain", value: { taskId: "t" } });
    const refused: [string[], ExchangeMessage, string][] = [
      [["agents.read"], discover(), "exchanges.write"],
      [["exchanges.write"], discover(), "agents.read"],
      [["exchanges.write", "agents.read"], observe, "tasks.read"],
      [["exchanges.write", "tasks.read"], explain, "routing.read"],
    ];
    for (const [scopes, message, scope] of refused) {
      await expect(exchange(contextOf(scopes), message)).rejects.toMatchObject({
        code: "PERMISSION_DENIED",
        reason: "SCOPE_MISSING",
        metadata: { scope },
      });
    }
    expect(await kinds()).toBeUndefined();
    expect(await exchange(contextOf(["exchanges.write", "agents.read"]), discover())).toMatchObject({ success: true });
    const { messages } = await exchangesDoing(nothing).list(contextOf(), create(ListExchangesRequestSchema));
    expect(messages.map(({ principal, message }) => [principal, message?.sender])).toEqual([
      ["alice", "router"],
      ["alice", "alice"],
    ]);
  });

  it("refuses page tokens that nobody was given, and takes those at the edge of what can be", async () => {
    const { exchange, list } = exchangesDoing(nothing);
    await exchange(contextOf(), discover());
    const ask = (token: unknown, correlationId = "") => {
      const pageToken = Buffer.from(JSON.stringify(token)).toString("base64url");
      return list(contextOf(), create(ListExchangesRequestSchema, { correlationId, pageToken }));
    };
    const id = String.fromCharCode;
    const madeUp: unknown[][] = [
      ["", 0, "x", "p", 3e9],
      ["", 0, "x", "p", -1],
      ["", 0, "x", "p", 1.5],
      ["", -8.64e15, "x", "p", 1],
      ["", 8.65e15, "x", "p", 1],
      ["", "0", "x", "p", 1],
      ["", 0, `a${id(0)}b`, "p", 1],
      ["", 0, "x".repeat(2000), "p", 1],
      ["", 0, null, "p", 1],
      ["x", 0, "x", "p", 3e9],
      ["x", 0, "x", "p", -1],
      ["", 0, "x", `p${id(0)}`, 1],
      ["", 0, "x", 1],
    ];
    for (const token of madeUp) {
      await expect(ask(token, String(token[0])), JSON.stringify(token).slice(0, 60)).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        violations: [{ field: "pageToken" }],
      });
    }
    expect((await ask(["", 0, "x", "p", 2 ** 31 - 1])).messages).toEqual([]);
    expect((await ask(["", 8.64e15, `${id(0xd800)}x`, "p", 0])).messages).toHaveLength(2);
    expect((await ask(["x", 0, "x", "p", 2 ** 31 - 1], "x")).messages).toEqual([]);
  });

  it("an act that takes too long is DEADLINE_EXCEEDED, and is told to end", async () => {
    let ended: unknown;
    const { exchange } = exchangesDoing(async (_, { context }) => {
      await hang(context.signal).catch((reason: unknown) => {
        ended = reason;
      });
      throw new Error("it was ended");
    });
    const answer = await exchange(contextOf(), discover({ timeoutMs: 20n }));
    expect(answer).toMatchObject({
      kind: ExchangeKind.ERROR,
      success: false,
      payload: { value: { code: 4, info: { reason: "DEADLINE_EXCEEDED" } } },
    });
    expect(ended).toMatchObject({ reason: "DEADLINE_EXCEEDED" });
    expect(await kinds()).toEqual([ExchangeKind.DISCOVER, ExchangeKind.ERROR]);
  });

  it("a caller who leaves hears nothing, and the record says so", async () => {
    const caller = new AbortController();
    const left = new Error("the caller left");
    const { exchange } = exchangesDoing(async (_, { context }) => {
      caller.abort(left);
      return hang(context.signal);
    });
    await expect(exchange(contextOf(["*"], caller.signal), discover())).rejects.toBe(left);
    const [, answer] = (await records().list("default", { correlationId: "x", ownerId: undefined }, { limit: 9 }))!;
    expect(answer?.message.payload).toMatchObject({ case: "error", value: { code: 1, info: { reason: "CANCELLED" } } });
  });

  it("what nobody foresaw is masked; what was refused keeps its details", async () => {
    const bug = exchangesDoing(async () => {
      throw new Error("secret");
    });
    const masked = await bug.exchange(contextOf(), discover());
    expect(masked.payload).toMatchObject({ case: "error", value: { code: 13, info: { reason: "INTERNAL" } } });
    expect(JSON.stringify(masked.payload.value)).not.toContain("secret");
    const violations = [{ field: "f", description: "is wrong" }];
    const init = { code: "UNAVAILABLE", reason: "BUSY", message: "Later.", violations, retryAfterMs: 1500 } as const;
    const busy = exchangesDoing(async () => {
      throw new SignalboxError({ ...init, violations: [...violations] });
    });
    expect((await busy.exchange(contextOf(), discover())).payload.value).toMatchObject({
      code: 14,
      message: "Later.",
      info: { reason: "BUSY", domain: "signalbox" },
      badRequest: { fieldViolations: violations },
      retryInfo: { retryDelay: { seconds: 1n, nanos: 500_000_000 } },
    });
  });

  it("an answer that cannot be kept is given all the same; a message that cannot is not acted upon", async () => {
    let acted = 0;
    const act: Act<"discover"> = async () => {
      acted += 1;
      return { case: "discover", value: {} };
    };
    let working = 1;
    const failing = {
      ...records(),
      append: (...given: Parameters<ReturnType<typeof records>["append"]>) =>
        working-- > 0 ? records().append(...given) : Promise.reject(new Error("the database is gone")),
    };
    const { exchange } = exchangesDoing(act, { records: failing });
    expect(await exchange(contextOf(), discover())).toMatchObject({ success: true });
    expect(await kinds()).toEqual([ExchangeKind.DISCOVER]);
    await expect(exchange(contextOf(), discover())).rejects.toThrow("the database is gone");
    expect(acted).toBe(1);
  });

  it("old ones are swept in batches, at once and then every minute", async () => {
    const now = new Date("2026-01-10T00:00:00Z");
    const old = timestampFromDate(new Date("2026-01-01T00:00:00Z"));
    for (let i = 0; i < 25; i++) {
      const message = create(ExchangeMessageSchema, { correlationId: `old-${i}`, kind: 1, createTime: old });
      await records().append(
        "default",
        { message, principal: "p", taskId: undefined },
        { ownerId: "p", begins: true, most: 9 },
      );
    }
    const fresh = create(ExchangeMessageSchema, { correlationId: "x", kind: 1, createTime: timestampFromDate(now) });
    await records().append(
      "default",
      { message: fresh, principal: "p", taskId: undefined },
      { ownerId: "p", begins: true, most: 9 },
    );
    const waits: number[] = [];
    const minute = Promise.withResolvers<void>();
    const clock: Runtime = {
      ...runtime,
      now: () => now,
      wait: async (ms, signal) => {
        waits.push(ms);
        if (ms < 60_000) return;
        minute.resolve();
        await hang(signal);
      },
    };
    const retention = createExchangeRetention(backend.db);
    const sweep = startExchangeSweep({ retention, runtime: clock, log: silent, keepMs: 86_400_000 });
    await minute.promise;
    await sweep.stop();
    expect(waits).toEqual([50, 50, 60_000]);
    const left = await records().recent("default", undefined, { limit: 99 });
    expect(left.map(({ message }) => message.correlationId)).toEqual(["x"]);
  });

  it("a sweep that fails says so, unless the database was only away", async () => {
    const faults = [
      new SignalboxError({ code: "UNAVAILABLE", reason: "DATABASE_UNAVAILABLE", message: "Away." }),
      new Error("a bug"),
    ];
    const said: unknown[] = [];
    const looked = Promise.withResolvers<void>();
    const retention = { sweep: async () => Promise.reject(faults.shift()) };
    const clock: Runtime = {
      ...runtime,
      wait: async (_, signal) => {
        if (faults.length > 0) return;
        looked.resolve();
        await hang(signal);
      },
    };
    const log = { ...silent, error: (told: unknown) => said.push(told) } as unknown as typeof silent;
    const sweep = startExchangeSweep({ retention, runtime: clock, log, keepMs: 1 });
    await looked.promise;
    await sweep.stop();
    expect(said).toEqual([{ err: expect.objectContaining({ message: "a bug" }) }]);
  });
});
