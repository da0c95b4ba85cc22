/** Unix sockets of listeners: who may connect, and what is found at their path. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rm, stat, writeFile } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { openGrpcListener } from "../../src/transport/grpc/grpc-listener.ts";
import { openHttpListener } from "../../src/transport/http-listener.ts";
import { temporaryDirectory } from "../setup/pglite-template.ts";
import { MemoryService } from "./memory-service.ts";

let folder: string;
beforeAll(async () => {
  folder = await temporaryDirectory();
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const OPEN = [
  ["http", (socketPath: string) => openHttpListener({ ...LOCAL, socketPath, handler: (_, res) => void res.end("ok") })],
  [
    "grpc",
    (socketPath: string) =>
      openGrpcListener({ ...LOCAL, socketPath, rpcs: new MemoryService().rpcs(), maxBytes: 1_000, onError() {} }),
  ],
] as const;
const LOCAL = { host: "127.0.0.1", port: 0 };

test.each(OPEN)("of %s are for the user and the group, and gone with the server", async (name, open) => {
  const path = join(folder, `${name}.sock`);
  const listener = await open(path);
  expect((await stat(path)).mode & 0o777).toBe(0o660);
  const socket = net.connect(path);
  await once(socket, "connect");
  socket.destroy();
  if (name === "http") {
    const [response] = (await once(http.request({ socketPath: path }).end(), "response")) as [http.IncomingMessage];
    expect(await text(response)).toBe("ok");
  }
  listener.close();
  await expect.poll(() => stat(path).catch((error: NodeJS.ErrnoException) => error.code)).toBe("ENOENT");
});

test.each(OPEN)("of %s that a dead server left are replaced", async (name, open) => {
  const path = join(folder, `${name}-dead.sock`);
  const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => console.log("up"))`;
  const dead = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "ignore"] });
  await once(dead.stdout, "data");
  dead.kill("SIGKILL");
  await once(dead, "exit");
  expect((await stat(path)).isSocket()).toBe(true);
  const listener = await open(path);
  onTestFinished(() => listener.close());
  const socket = net.connect(path);
  await once(socket, "connect");
  socket.destroy();
});

test.each(OPEN)("of %s where a server lives, or something else is, are refused", async (name, open) => {
  const path = join(folder, `${name}-living.sock`);
  const listener = await open(path);
  onTestFinished(() => listener.close());
  await expect(open(path)).rejects.toThrow(new RegExp(`another server listens there.*${name}\\.socket`));
  const file = join(folder, `${name}.txt`);
  await writeFile(file, "precious");
  await expect(open(file)).rejects.toThrow(/something else of that name/);
  expect((await stat(file)).size).toBe(8);
  await expect(open(join(folder, "x".repeat(120)))).rejects.toThrow(/103 bytes at most/);
});
