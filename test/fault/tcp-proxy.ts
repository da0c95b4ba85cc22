/** The wire between two programs, which a test can cut. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface TcpProxy {
  readonly port: number;
  /** Breaks every connection; new ones work. */
  cut(): void;
  /** Lets nothing through the connections there are, without breaking them, as a way that is gone without a word. */
  hush(): void;
  /** Breaks every connection, and new ones at once, until `mend`. */
  sever(): void;
  /** Lets connections pass again, to the same port or another. */
  mend(targetPort?: number): void;
  close(): Promise<void>;
}

/** Passes everything on to a port of 127.0.0.1, from a port of its own or the given one. */
export async function startTcpProxy(firstPort: number, port = 0): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let targetPort = firstPort;
  let severed = false;
  const server = createServer((from) => {
    if (severed) return void from.resetAndDestroy();
    const to = connect(targetPort, "127.0.0.1");
    for (const [a, b] of [
      [from, to],
      [to, from],
    ] as const) {
      sockets.add(a);
      a.on("error", () => {});
      a.once("close", () => {
        sockets.delete(a);
        b.destroy();
      });
      a.pipe(b);
    }
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const cut = () => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    cut,
    hush() {
      for (const socket of sockets) {
        socket.unpipe();
        socket.resume();
      }
    },
    sever() {
      severed = true;
      cut();
    },
    mend(port = targetPort) {
      targetPort = port;
      severed = false;
    },
    async close() {
      server.close();
      cut();
      await once(server, "close");
    },
  };
}
