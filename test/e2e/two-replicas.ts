/** Two servers on one PostgreSQL, A and B, and an agent that both of them reach over a socket. */

import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { type RemotePuppet, startRemotePuppet } from "../agents/remote-puppet.ts";
import { startTcpProxy, type TcpProxy } from "../fault/tcp-proxy.ts";
import { createDatabase } from "../store/backends.ts";
import { type LogLines, logLines } from "../store/log-lines.ts";
import { startTestApp } from "./running-app.ts";

export interface Replica {
  readonly client: SignalboxClient;
  readonly httpUrl: string;
  readonly grpcAddress: string;
  readonly logged: LogLines;
  /** Its way to the database. */
  readonly wire: TcpProxy;
  /** What it is called in leases and in the log, as long as nobody declares it dead. */
  readonly id: string;
  /** Stops it in order. */
  stop(): Promise<void>;
}

export interface TwoReplicas {
  readonly a: Replica;
  readonly b: Replica;
  /** Registered as "puppet", and the default. */
  readonly puppet: RemotePuppet;
  readonly databaseUrl: string;
  close(): Promise<void>;
}

export interface TwoReplicasOptions {
  /** Of both; `flagsOfA` are over them. */
  flags?: Readonly<Record<string, string>>;
  flagsOfA?: Readonly<Record<string, string>>;
  /** Whether the agent is registered as safe to repeat. */
  safeToRepeat?: boolean;
  answersCancels?: boolean;
}

export async function startTwoReplicas(options: TwoReplicasOptions = {}): Promise<TwoReplicas> {
  const { flags = {}, flagsOfA = {}, safeToRepeat = false, answersCancels = true } = options;
  const database = await createDatabase();
  const puppet = await startRemotePuppet({ answersCancels });
  const a = await startReplica(database.url, { ...flags, ...flagsOfA });
  const b = await startReplica(database.url, flags);
  await a.client.registry.registerAgent({
    agentId: "puppet",
    source: { case: "card", value: puppet.card },
    safeToRepeat,
  });
  return {
    a,
    b,
    puppet,
    databaseUrl: database.url,
    async close() {
      await Promise.all([a.stop(), b.stop()]);
      await puppet.close();
      await Promise.all([a.wire.close(), b.wire.close()]);
      await database.drop();
    },
  };
}

async function startReplica(databaseUrl: string, flags: Readonly<Record<string, string>>): Promise<Replica> {
  const url = new URL(databaseUrl);
  const wire = await startTcpProxy(Number(url.port || 5432));
  url.hostname = "127.0.0.1";
  url.port = String(wire.port);
  const logged = logLines();
  const app = await startTestApp({ flags: { "database.url": url.href, ...flags }, log: logged.log });
  let stopped: Promise<void> | undefined;
  return {
    client: createSignalboxClient({ baseUrl: app.httpUrl, reconnects: 0 }),
    httpUrl: app.httpUrl,
    grpcAddress: app.grpcAddress,
    logged,
    wire,
    id: String(logged.lines.find(({ msg }) => msg === "joined")?.replica),
    stop() {
      stopped ??= app.stop();
      return stopped;
    },
  };
}
