/** The limit on this machine: an HTTP/2 server of Node that answers with what it was sent, and does nothing else. */
import { once } from "node:events";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { announce } from "./announce.ts";

const server = createServer();
server.on("stream", (stream) => {
  const chunks: Buffer[] = [];
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  stream.on("end", () => {
    stream.respond({ ":status": 200 });
    stream.end(chunks.length === 1 ? chunks[0] : Buffer.concat(chunks));
  });
  // A client that leaves.
  stream.on("error", () => {});
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
announce({ authority: `127.0.0.1:${(server.address() as AddressInfo).port}` });
