/** Clients that leave streams of which they have read nothing: nobody waits for what would have come, or for why it did not. */
import { once } from "node:events";
import http2 from "node:http2";
import { expect, it, onTestFinished } from "vitest";
import { createPuppet } from "../fault/puppet.ts";
import { startTestApp } from "./running-app.ts";

// Longer than the window of a stream: the first item cannot be sent whole.
const params = {
  message: { messageId: "m", role: "ROLE_USER", parts: [{ text: "x".repeat(1_000_000) }] },
  configuration: { returnImmediately: true },
};
const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "SendStreamingMessage", params });

// What is rejected and held by nobody fails the run of all tests by itself, and ends a server.
it.each(["leaves", "stays until the server stops"])("a client that %s", async (how) => {
  const puppet = createPuppet();
  const app = await startTestApp({ agents: { puppet: puppet.handler } });
  const session = http2.connect(app.httpUrl);
  onTestFinished(() => session.destroy());
  session.on("error", () => {});
  const stream = session.request({ ":method": "POST", ":path": "/agents/puppet", "content-type": "application/json" });
  stream.on("error", () => {});
  const answered = once(stream, "response");
  stream.end(body);
  const turn = await puppet.turn();
  await answered;
  if (how === "leaves") {
    const closed = once(stream, "close");
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await closed;
    expect((await fetch(`${app.httpUrl}/healthz`)).status).toBe(200);
  }
  turn.task();
  turn.end();
  const stopped = app.stop();
  session.destroy();
  await stopped;
});
