import { once } from "node:events";
import net from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { framesOf, PROTOCOLS } from "./http-fixture.ts";
import { expectError, type HttpJsonServer, JSON_HEADERS, message, serveHttpJson } from "./http-json-server.ts";

describe.each(PROTOCOLS)("HTTP+JSON streams over %s", (protocol) => {
  let server: HttpJsonServer;

  beforeEach(async () => {
    server = await serveHttpJson(protocol);
  });

  afterEach(() => server.close());

  describe("streams", () => {
    test("one item a frame, with its sequence number", async () => {
      const reply = await server.post("/message:stream", message("go"));
      expect(reply.status).toBe(200);
      expect(reply.headers).toMatchObject({
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
      });
      const frames = framesOf(reply.text);
      expect(frames.map(({ id, event }) => [id, event])).toEqual([
        ["1", undefined],
        ["2", undefined],
      ]);
      expect(JSON.parse(frames[0]!.data!)).toHaveProperty("task.id", "t1");
      expect(JSON.parse(frames[1]!.data!)).toHaveProperty("statusUpdate.status.state", "TASK_STATE_COMPLETED");
    });

    test.each([{ method: "GET" }, { method: "POST", headers: JSON_HEADERS }, { method: "POST" }])(
      "subscribing by %j",
      async (how) => {
        const reply = await server.send({ path: "/tasks/t1:subscribe", ...how });
        expect(framesOf(reply.text)).toHaveLength(1);
        expect(server.lastRequest()).toEqual({ id: "t1" });
      },
    );

    test("an error before the first item is an ordinary error", async () => {
      expectError(await server.post("/message:stream", message("first")), 404, "NOT_FOUND", "TASK_NOT_FOUND");
    });

    test.each([
      ["second", "NOT_FOUND", "TASK_NOT_FOUND"],
      ["crash", "INTERNAL", "INTERNAL"],
    ])("an error after the first item (%s) is the last frame", async (text, status, reason) => {
      const reply = await server.post("/message:stream", message(text));
      expect(reply.status).toBe(200);
      const frames = framesOf(reply.text);
      expect(frames).toHaveLength(2);
      expect(frames[1]!.event).toBe("error");
      expect(JSON.parse(frames[1]!.data!).error).toMatchObject({ status, details: [{ reason }] });
      expect(reply.text).not.toContain("secret");
    });

    test("a stream without items", async () => {
      const reply = await server.post("/message:stream", message("none"));
      expect([reply.status, reply.headers["content-type"], reply.text]).toEqual([200, "text/event-stream", ""]);
    });

    test("a silent stream says that it lives, and ends when its watcher leaves", async () => {
      const pending = server.start({ path: "/tasks/endless:subscribe" });
      let text = "";
      for await (const chunk of pending.chunks) {
        text += chunk;
        if (text.match(/: keep-alive\n\n/g)?.length === 2) break;
      }
      pending.leave();
      expect(await server.service.endlessLeft.promise).toMatchObject({ code: "CANCELLED" });
      await Promise.all(server.answered);
    });

    test("goes no faster than its reader, and stops when the reader leaves", async () => {
      const pending = server.start({ path: "/tasks/flood:subscribe" });
      const chunks = pending.chunks[Symbol.asyncIterator]();
      await chunks.next();
      // Other calls go on meanwhile; the flood waits for a reader who reads no more.
      for (let i = 0; i < 20; i++) await server.get("/tasks/t1");
      expect(server.service.flooded).toBeLessThan(1000);
      pending.leave();
      await server.service.endlessLeft.promise;
      expect(server.service.flooded).toBeLessThan(1000);
      await Promise.all(server.answered);
      expect(server.errors).toEqual([]);
    });
  });

  test("a client that leaves aborts its call", async () => {
    const pending = server.start({
      method: "POST",
      path: "/message:send",
      body: JSON.stringify(message("wait")),
      headers: JSON_HEADERS,
    });
    const signal = await server.service.waiting.promise;
    expect(signal.aborted).toBe(false);
    pending.leave();
    if (!signal.aborted) await once(signal, "abort");
    await Promise.all(server.answered);
    expect(server.errors).toEqual([]);
  });

  test("a client that leaves in its body is forgotten", async () => {
    if (protocol !== "HTTP/1.1") return;
    const socket = net.connect(server.port, "127.0.0.1");
    socket.write(
      "POST /message:send HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
    );
    await expect.poll(() => server.answered.length).toBe(1);
    socket.destroy();
    await Promise.all(server.answered);
    expect([server.service.seen, server.errors]).toEqual([[], []]);
  });
});
