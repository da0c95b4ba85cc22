import { once } from "node:events";
import net from "node:net";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type SendMessageRequest, StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { PROTOCOLS } from "./http-fixture.ts";
import {
  expectError,
  expectViolation,
  type HttpJsonServer,
  JSON_HEADERS,
  MAX_BYTES,
  message,
  serveHttpJson,
} from "./http-json-server.ts";

describe.each(PROTOCOLS)("HTTP+JSON limits over %s", (protocol) => {
  let server: HttpJsonServer;

  beforeEach(async () => {
    server = await serveHttpJson(protocol);
  });

  afterEach(() => server.close());

  describe("limits", () => {
    test("the largest body passes, one byte more does not", async () => {
      const frame = JSON.stringify(message(""));
      const text = "x".repeat(MAX_BYTES - frame.length);
      expect((await server.post("/message:send", message(text))).status).toBe(200);
      const reply = await server.post("/message:send", message(`${text}x`));
      expectError(reply, 413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE");
      expect(reply.json.error.message).toMatch(/65536.*limits\.message-bytes/);
    });

    test("a large body of unknown length is refused while it comes", async () => {
      const body = "x".repeat(MAX_BYTES + 1);
      const reply = await server
        .start({
          method: "POST",
          path: "/message:send",
          body,
          headers: JSON_HEADERS,
          unfinished: true,
        })
        .reply();
      expectError(reply, 413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE");
    });

    test("a large body is answered, not cut off", async () => {
      const reply = await server.post("/message:send", "x".repeat(8 * 1024 * 1024));
      expectError(reply, 413, "RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE");
    });

    test("a body that does not come", async () => {
      const slow = server.start({
        method: "POST",
        path: "/message:send",
        body: "{",
        headers: JSON_HEADERS,
        unfinished: true,
      });
      expectError(await slow.reply(), 408, "DEADLINE_EXCEEDED", "BODY_TIMEOUT");
    });

    test.each(["[", '{"message":', '{"metadata":{"a":[', '{"\\\\":["\\"[",'])("nesting bomb of %j", async (piece) => {
      expectViolation(await server.post("/message:send", piece.repeat(Math.floor(MAX_BYTES / piece.length))), "");
    });

    test("brackets in strings are no nesting", async () => {
      expect((await server.post("/message:send", message(`\\"${"[{".repeat(500)}\\`))).status).toBe(200);
    });

    test.each([
      ["[", "", "]"],
      ['{"a":', "1", "}"],
    ])("data of %j nests as deep as can be stored, and no deeper", async (open, middle, close) => {
      const nested = (levels: number) => {
        const data = `${open.repeat(levels)}${middle}${close.repeat(levels)}`;
        return server.post("/message:send", `{"message":{"parts":[{"data":${data}}]}}`);
      };
      expect((await nested(40)).status).toBe(200);
      const history = [(server.service.last.request as SendMessageRequest).message!];
      const stored = create(StreamResponseSchema, { payload: { case: "task", value: { history } } });
      const bytes = toBinary(StreamResponseSchema, stored);
      expect(toBinary(StreamResponseSchema, fromBinary(StreamResponseSchema, bytes))).toEqual(bytes);
      expectViolation(await nested(50), "message.parts[0].data");
    });

    test.each([
      [0xff, 0xfe],
      [0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d],
      [0x22, 0xed, 0xa0, 0x80, 0x22],
    ])("bytes that are no UTF-8: %j, ...", async (...bytes) => {
      const reply = await server.post("/message:send", Uint8Array.from(bytes));
      expectViolation(reply, "");
      expect(reply.json.error.message).toContain("UTF-8");
    });

    test("who goes on sending after the answer is cut off", async () => {
      if (protocol !== "HTTP/1.1") return;
      const socket = net.connect(server.port, "127.0.0.1");
      socket.resume();
      const closed = once(socket, "close");
      socket.write("POST /message:send HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\n{");
      await closed;
      await Promise.all(server.answered);
    });
  });
});
