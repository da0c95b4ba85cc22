/**
 * The whole server in several processes, as `signalbox serve --workers N` runs it, with one agent in each of them. Arguments: the
 * name of the agent, the PostgreSQL database to use, and how many workers.
 */
import cluster from "node:cluster";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { openWorkerLink } from "../../src/app/workers/link.ts";
import type { ServingAt } from "../../src/app/workers/messages.ts";
import { superviseWorkers } from "../../src/app/workers/supervisor.ts";
import { startApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { inProcessCard } from "../../test/e2e/running-app.ts";
import { clerk, scribe } from "./agents.ts";
import { announce } from "./announce.ts";

const [agent = "", databaseUrl = "", workers = "2"] = process.argv.slice(2);
const handlers = { scribe, clerk };

if (cluster.isWorker) await work();
else await supervise();

async function work(): Promise<void> {
  // Ctrl-C reaches every process of a terminal; the first process ends its workers in order.
  process.on("SIGINT", () => {});
  const link = await openWorkerLink(new AbortController().signal);
  const log = pino({ level: "silent" });
  const app = await startApp(link.config, { inProcess: new Map(Object.entries(handlers)), worker: link, log });
  link.serving(app);
  if (!link.drain.aborted) await once(link.drain, "abort");
  await app.drain();
  link.close();
}

async function supervise(): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), "signalbox-bench-"));
  const config = loadConfig({
    flags: {
      "http.port": "0",
      "grpc.port": "0",
      "data.dir": dataDir,
      "drain.ms": "1000",
      "database.url": databaseUrl,
      "health.interval-ms": "0",
      "reputation.enforce": "false",
      workers,
    },
    env: {},
    cwd: dataDir,
  });
  const stop = new AbortController();
  const at = Promise.withResolvers<ServingAt>();
  const all = Promise.withResolvers<void>();
  // The log tells when all of them serve.
  const log = pino({ level: "info" }, { write: (line) => void (line.includes("all workers serve") && all.resolve()) });
  const supervisor = superviseWorkers({ config, log, stop: stop.signal, onServing: at.resolve });
  const early = supervisor.ended.then((code) => Promise.reject(new Error(`the workers ended with code ${code}`)));
  const { httpUrl, grpcAddress } = await Promise.race([at.promise, early]);
  await Promise.race([all.promise, early]);
  early.catch(() => {});
  const response = await fetch(`${httpUrl}/v1/agents`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ agentId: agent, card: inProcessCard(agent) }),
  });
  if (!response.ok) throw new Error(`${agent} was not registered: ${await response.text()}`);
  announce(
    { authority: grpcAddress, httpUrl },
    {
      async stop() {
        stop.abort();
        await supervisor.ended;
        await rm(dataDir, { recursive: true, force: true });
      },
    },
  );
}
