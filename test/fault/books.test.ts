/** The server is killed with -9 under load: what tasks may cost is charged or free again, and each end counts once for its agent. */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { isAgentsFault } from "../../src/domain/cause.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import { createBudgetUsageReads } from "../../src/store/budget-usage-reads.ts";
import type { Database } from "../../src/store/database.ts";
import { openPglite } from "../../src/store/pglite.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createReputationRepository } from "../../src/store/reputation-repository.ts";
import { startTestAgent } from "../agents/test-agent.ts";
import { createDatabase, pgliteDirectory, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";
import { randomFrom } from "./random.ts";
import { type ServerProcess, startServer } from "./server-process.ts";

const POLICY = {
  version: 1,
  budgets: [{ id: "talk", capability_id: "talk", monthly_limit: 100, monthly_tasks: 1000 }],
};
const COST = 100_000;
const RESERVED = 'signalbox_budget_reserved{workspace="default",budget="talk",period="MONTHLY",unit="TASKS",share=""}';
const LAG = 'signalbox_outbox_lag_rows{duty="reputation"}';
const KILLS = { pglite: 1, postgres: 3 };

test.each(["pglite", "postgres"] as const)(
  "after kill -9 on %s the books add up",
  async (backend) => {
    const seed = Number(process.env.FAULT_SEED ?? Math.floor(Math.random() * 2 ** 32));
    console.log(`books on ${backend}: FAULT_SEED=${seed}`);
    const random = randomFrom(seed);
    const database = backend === "postgres" ? await createDatabase() : undefined;
    const dataDir = await pgliteDirectory();
    const policyPath = join(dataDir, "policy.json");
    await writeFile(policyPath, JSON.stringify(POLICY));
    const agent = await startTestAgent();
    const start = () =>
      startServer({
        "data.dir": dataDir,
        "policy.path": policyPath,
        "lease.ms": "1000",
        ...(database && { "database.url": database.url }),
      });
    let server: ServerProcess = await start();
    try {
      await server.client.registry.registerAgent({
        agentId: "talker",
        source: { case: "cardUrl", value: agent.cardUrl },
      });
      await server.client.registry.addCapability({
        agentId: "talker",
        capability: { capabilityId: "talk", costPerTask: "0.1" },
      });
      for (let kill = 0; kill < KILLS[backend]; kill++) {
        const { client } = server;
        const moment = Math.floor(random() * 25);
        const isTime = Promise.withResolvers<void>();
        let ended = 0;
        const sends = Array.from({ length: 30 }, async () => {
          await client.send(random() < 0.3 ? "fail" : "complete", { capability: "talk" }).catch(() => {});
          if (++ended > moment) isTime.resolve();
        });
        await isTime.promise;
        server.signal("SIGKILL");
        await Promise.all([server.exit, ...sends]);
        server = await start();
      }
      await server.client.send("complete", { capability: "talk" });
      // The tasks of a server that died are taken over when its lease has run out.
      await expect.poll(() => metric(server, RESERVED), { timeout: 20_000, interval: 50 }).toBe("0");
      await expect.poll(() => metric(server, LAG), { timeout: 10_000, interval: 50 }).toBe("0");
      server.signal("SIGTERM");
      expect(await server.exit).toEqual({ code: 0, signal: null });
      const db = database
        ? openPostgres({ url: database.url, poolSize: 3, log: silent })
        : await openPglite({ dataDir, log: silent });
      try {
        await checkBooks(db);
      } finally {
        await db.close();
      }
    } finally {
      server.signal("SIGKILL");
      await server.exit;
      await agent.close();
      await database?.drop();
      await rm(dataDir, { recursive: true, force: true });
    }
  },
  150_000,
);

async function checkBooks(db: Database): Promise<void> {
  const ends = await raw(
    db,
    "select t.task_id, u.state, split_part(u.cause, E'\\n', 1) as cause from tasks t join task_updates u using (workspace_id, task_id) where u.seq = t.last_seq",
  );
  const completed = ends.filter(({ state }) => state === EngineState.COMPLETED).length;
  const failed = ends.filter(({ state, cause }) => state === EngineState.FAILED && isAgentsFault(String(cause))).length;
  console.log(`${ends.length} tasks, ${completed} completed, ${failed} failed by their agent`);
  const windows = await createBudgetUsageReads(db).windows("default", {
    from: "",
    to: "~",
    order: "ascending",
    limit: 100,
  });
  // Two of each where a month has ended meanwhile.
  const sum = (unit: string) => {
    const some = windows.filter(({ key }) => key.endsWith(unit));
    const used = some.reduce((all, window) => all + window.used, 0);
    return { used, reserved: some.reduce((all, { reserved }) => all + reserved, 0) };
  };
  expect(sum("MONEY")).toEqual({ used: completed * COST, reserved: 0 });
  expect(sum("TASKS")).toEqual({ used: completed, reserved: 0 });
  const standings = await createReputationRepository(db).ofAgent("default", "talker");
  expect(standings.map(({ capabilityId, standing }) => [capabilityId, standing.succeeded, standing.failed])).toEqual([
    ["", completed, failed],
    ["talk", completed, failed],
  ]);
}

async function metric({ httpUrl }: ServerProcess, name: string): Promise<string | undefined> {
  const text = await (await fetch(`${httpUrl}/metrics`)).text();
  return text
    .split("\n")
    .find((line) => line.startsWith(`${name} `))
    ?.slice(name.length + 1);
}
