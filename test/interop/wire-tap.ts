/** The wire between clients and the server, with a record of every byte that came back over it. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface WireTap {
  /** `127.0.0.1:port`: known before the server has a port of its own. */
  readonly address: string;
  /** Everything goes on to this address from now on. */
  lead(to: string): void;
  /** Which of these texts came over the wire, in any answer. */
  carried(texts: Iterable<string>): string[];
  /** How many bytes came back. */
  readonly size: number;
  close(): Promise<void>;
}

export async function startWireTap(): Promise<WireTap> {
  const sockets = new Set<Socket>();
  const answers: Buffer[][] = [];
  let port = 0;
  const server = createServer((client) => {
    const upstream = connect(port, "127.0.0.1");
    const answer: Buffer[] = [];
    answers.push(answer);
    upstream.on("data", (chunk) => answer.push(chunk));
    pass(client, upstream);
    pass(upstream, client);
  });

  function pass(from: Socket, to: Socket): void {
    sockets.add(from);
    from.on("error", () => {});
    from.once("close", () => {
      sockets.delete(from);
      to.destroy();
    });
    from.pipe(to);
  }

  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    lead(to) {
      port = Number(to.split(":").at(-1));
    },
    carried(texts) {
      const all = answers.map((answer) => Buffer.concat(answer));
      return [...texts].filter((text) => all.some((bytes) => bytes.includes(text)));
    },
    get size() {
      return answers.flat().reduce((size, chunk) => size + chunk.length, 0);
    },
    async close() {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, "close");
    },
  };
}
