/** Connections that are made while a listener begins to drain: one that speaks is answered, one that does not holds nothing up. */
import { once } from "node:events";
import net from "node:net";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { openHttpListener } from "../../src/transport/http-listener.ts";

test("a connection that was there before the drain is answered, and one that says nothing is ended", async () => {
  const listener = await openHttpListener({ host: "127.0.0.1", port: 0, handler: (_req, res) => res.end("answered") });
  const open = async () => {
    const socket = net.connect(listener.port, "127.0.0.1");
    await once(socket, "connect");
    return socket;
  };
  const [speaker, silent] = [await open(), await open()];
  // Both were taken, because this one, which came after them, is.
  const last = await open();
  last.write("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
  expect(await text(last)).toContain("answered");

  const drained = listener.drain();
  speaker.write("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
  // To its end: it is not kept for a second request.
  expect(await text(speaker)).toContain("answered");
  expect(await text(silent)).toBe("");
  await drained;
});
