/** What a benchmark of several parts shares: cores, a database server, a load generator, and the processes under test. */
import { type Cores, divideCores } from "./cores.ts";
import { type DatabaseServer, openDatabaseServer } from "./database.ts";
import { createLoadGenerator, type LoadGenerator } from "./load.ts";
import type { Report } from "./report.ts";
import { type ServerProcess, startServer } from "./server-process.ts";

export interface Lab extends AsyncDisposable {
  readonly cores: Cores;
  readonly database: DatabaseServer;
  readonly load: LoadGenerator;
  /** Ends the benchmark early. */
  readonly signal: AbortSignal;
  /** Starts `bench/servers/<name>.ts` on the servers' core. */
  start<Address extends object>(name: string, ...args: string[]): Promise<ServerProcess<Address>>;
}

/** What one part of a benchmark has found. */
export type Findings = Pick<Report, "goals" | "figures">;

export async function openLab(signal: AbortSignal): Promise<Lab> {
  // First: what is started from here on inherits the cores.
  const cores = divideCores();
  await using stack = new AsyncDisposableStack();
  const load = stack.use(await createLoadGenerator());
  const database = stack.use(await openDatabaseServer());
  const owned = stack.move();
  return {
    cores,
    database,
    load,
    signal,
    start: (name, ...args) => startServer(name, { cores, args, signal }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
