import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { beginCall, listen } from "../../src/outbound/agent-call.ts";
import { createAbortGroup } from "../../src/services/abort-group.ts";

const never = new AbortController().signal;
const nobody = createAbortGroup();

describe("beginCall", () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => {
    expect(vi.getTimerCount()).toBe(0);
    vi.useRealTimers();
  });

  test("ends after so much silence, and is begun with the agent to speak", () => {
    const call = beginCall("GetTask", { signal: never, timeoutMs: 100 }, nobody);
    vi.advanceTimersByTime(99);
    expect(call.signal.aborted).toBe(false);
    vi.advanceTimersByTime(1);
    expect(call.signal.reason).toMatchObject({
      kind: "timeout",
      message: expect.stringContaining("100 ms during GetTask"),
    });
    call.end();
  });

  test("time counts only while the agent is listened to", async () => {
    const call = beginCall("SubscribeToTask", { signal: never, timeoutMs: 100 }, nobody);
    async function* agent() {
      yield 1;
      yield 2;
    }
    const items = listen(call, agent());
    for (const expected of [1, 2]) {
      expect((await items.next()).value).toBe(expected);
      vi.advanceTimersByTime(1000);
    }
    expect((await items.next()).done).toBe(true);
    expect(call.signal.aborted).toBe(false);
    call.end();
  });

  test.each(["caller", "shutdown"])("ends with the %s's reason", (who) => {
    const caller = new AbortController();
    const shutdown = createAbortGroup();
    const call = beginCall("GetTask", { signal: caller.signal, timeoutMs: 100 }, shutdown);
    const reason = new Error("enough");
    (who === "caller" ? caller : shutdown).abort(reason);
    expect(call.signal.reason).toBe(reason);
    call.end();
    const late = beginCall("GetTask", { signal: caller.signal, timeoutMs: 100 }, shutdown);
    expect(late.signal.reason).toBe(reason);
    late.end();
  });

  test("carries version, extensions and trace context, and nothing that no header can hold", () => {
    const options = {
      signal: never,
      timeoutMs: 1,
      extensions: ["urn:a", "bad\r\nx: y", "urn:b"],
      traceparent: "00-ab",
    };
    const call = beginCall("GetTask", options, nobody);
    expect(call.headers).toEqual({ "a2a-version": "1.0", "a2a-extensions": "urn:a,urn:b", traceparent: "00-ab" });
    call.end();
  });
});
