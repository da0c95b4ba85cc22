/** The limit on Node: an HTTP/2 server that answers with what it was sent, and does nothing else. */
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
    stream.end(Buffer.concat(chunks));
  });
  stream.on("error", () => {});
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
announce({ authority: `127.0.0.1:${(server.address() as AddressInfo).port}` });
