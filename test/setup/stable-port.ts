/**
 * Ports for servers that go away and come back. One of the system's own choosing will not do: it may be given to somebody's
 * outgoing connection meanwhile, even to one that tries to reach the server that is gone, which then speaks to itself.
 */
import { once } from "node:events";
import { createServer } from "node:net";

/** Below what Linux (32768), macOS and Windows (49152) give to outgoing connections. */
const [FIRST, LAST] = [12_000, 32_000] as const;

/** A port of 127.0.0.1 at which nothing listens, and which no outgoing connection gets. */
export async function stablePort(): Promise<number> {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    const server = createServer().listen(port, "127.0.0.1");
    try {
      await once(server, "listening");
    } catch {
      // Somebody has it.
      continue;
    }
    server.close();
    await once(server, "close");
    return port;
  }
}
