/** Three replicas on one PostgreSQL, each with a way of its own to the database that can be cut. */
import { EventEmitter, once } from "node:events";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { A2AService } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { SignalboxClient } from "../../src/sdk/client.ts";
import { type ServerProcess, startServer } from "../fault/server-process.ts";
import { startTcpProxy, type TcpProxy } from "../fault/tcp-proxy.ts";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../setup/embedded-postgres.ts";
import { stablePort } from "../setup/stable-port.ts";
import type { LogLine } from "../store/log-lines.ts";

/** How long the tasks of a silent replica stay its own, in milliseconds. */
export const LEASE_MS = 2_000;

const SETTINGS = {
  "lease.ms": String(LEASE_MS),
  "log.level": "info",
  "drain.ms": "500",
  "limits.running-tasks": "24",
  "agent.timeout-ms": "3000",
  "agent.away-ms": "3000",
  "task.silence-ms": "50",
  "task.attempt-timeout-ms": "10000",
  "task.retry-min-ms": "50",
  "task.retry-max-ms": "1000",
  // Agents are killed again and again, and are back within seconds: their circuits must be as quick.
  "circuit.open-ms": "200",
  "circuit.open-max-ms": "1000",
  "health.interval-ms": "2000",
  "reputation.enforce": "false",
  "stream.poll-ms": "1000",
};

export interface ReplicaSlot {
  readonly number: number;
  /** The ways to call the replica that runs there now. */
  readonly lanes: readonly Client<typeof A2AService>[];
  readonly client: SignalboxClient;
  readonly wire: TcpProxy;
  /** The names in leases and logs of the process that runs there now. */
  replicaIds(): string[];
  signal(name: NodeJS.Signals): void;
  /** Kills it and starts another. Resolves when that one serves. */
  replace(): Promise<void>;
}

export interface Cluster {
  readonly slots: readonly ReplicaSlot[];
  readonly postgres: EmbeddedPostgres;
  /** All that all replicas have written to their logs, those that are gone included. */
  lines(): LogLine[];
  /** Resolves when some replica has written a line that matches, or when `signal` aborts. */
  untilLine(matches: (line: LogLine) => boolean, signal: AbortSignal): Promise<void>;
  stop(): Promise<void>;
}

export async function startCluster(replicas: number): Promise<Cluster> {
  const postgres = await startEmbeddedPostgres();
  const processes: ServerProcess[] = [];
  const written = new EventEmitter();
  const wires: TcpProxy[] = [];

  async function stop(): Promise<void> {
    for (const server of processes) {
      server.signal("SIGCONT");
      server.signal("SIGKILL");
    }
    await Promise.all(processes.map(({ exit }) => exit));
    await Promise.all(wires.map((wire) => wire.close()));
    await postgres.remove();
  }

  async function tellLines({ logged }: ServerProcess): Promise<void> {
    for (;;) {
      await logged.next();
      written.emit("line");
    }
  }

  async function openSlot(number: number): Promise<ReplicaSlot> {
    const url = new URL(postgres.url);
    const wire = await startTcpProxy(Number(url.port));
    wires.push(wire);
    url.port = String(wire.port);
    let server: ServerProcess;
    let lanes: Client<typeof A2AService>[];
    async function start(): Promise<void> {
      const ports = { "http.port": String(await stablePort()), "grpc.port": String(await stablePort()) };
      server = await startServer({ ...SETTINGS, ...ports, "database.url": url.href });
      processes.push(server);
      void tellLines(server);
      const grpc = createGrpcTransport({ baseUrl: `http://${server.grpcAddress}` });
      lanes = [server.client.a2a, createClient(A2AService, grpc)];
    }
    await start();
    return {
      number,
      wire,
      get lanes() {
        return lanes;
      },
      get client() {
        return server.client;
      },
      replicaIds: () => server.logged.lines.filter(({ msg }) => msg === "joined").map(({ replica }) => String(replica)),
      signal: (name) => server.signal(name),
      async replace() {
        const { exit } = server;
        server.signal("SIGKILL");
        await exit;
        await start();
      },
    };
  }

  const lines = () => processes.flatMap(({ logged }) => logged.lines);

  async function untilLine(matches: (line: LogLine) => boolean, signal: AbortSignal): Promise<void> {
    const aborted = new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    while (!signal.aborted && !lines().some(matches)) await Promise.race([aborted, once(written, "line")]);
  }

  try {
    // The first one makes the tables.
    const slots = [await openSlot(0)];
    slots.push(...(await Promise.all(Array.from({ length: replicas - 1 }, (_, i) => openSlot(i + 1)))));
    return { slots, postgres, stop, lines, untilLine };
  } catch (error) {
    await stop();
    throw error;
  }
}
