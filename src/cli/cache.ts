/** `signalbox cache`: results of earlier tasks that are given again. */
import { toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { type CacheStats, CacheStatsSchema, ClearCacheResponseSchema } from "../../gen/signalbox/v1/cache_pb.ts";
import { json, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

export function addCacheCommands(program: Command, cli: Cli): void {
  const cache = program.command("cache").description("see and clear the results that are given again");
  const { io } = cli;

  const stats = cache
    .command("stats [capability]")
    .description("say how many results are kept, and how often one was asked for at this server since its start");
  withServer(stats).action((capabilityId: string | undefined, options: ServerOptions) =>
    callServer(cli, options, async (client) => {
      const found = await client.cache.getCacheStats({ capabilityId: capabilityId ?? "" });
      io.out(options.json ? json(toJson(CacheStatsSchema, found)) : statsTable(found));
    }),
  );

  const clear = cache
    .command("clear [capability]")
    .description("forget the results of a capability, or all; tasks stay as they are");
  withServer(clear).action((capabilityId: string | undefined, options: ServerOptions) =>
    callServer(cli, options, async (client) => {
      const done = await client.cache.clearCache({ capabilityId: capabilityId ?? "" });
      const results = done.cleared === 1n ? "1 result is" : `${done.cleared} results are`;
      io.out(options.json ? json(toJson(ClearCacheResponseSchema, done)) : `${results} forgotten.\n`);
    }),
  );
}

function statsTable({ entries, lookups, capabilities }: CacheStats): string {
  if (capabilities.length === 0) {
    return "No results. They are kept of capabilities with a cacheTtlMs: signalbox capabilities add.\n";
  }
  const row = (name: string, count: bigint, asked: CacheStats["lookups"]) => [
    name,
    String(count),
    String(asked?.hits ?? 0n),
    String(asked?.followed ?? 0n),
    String(asked?.misses ?? 0n),
  ];
  const rows = capabilities.map((one) => row(one.capabilityId, one.entries, one.lookups));
  if (capabilities.length > 1) rows.push(row("(all)", entries, lookups));
  return table(["CAPABILITY", "ENTRIES", "HITS", "FOLLOWED", "MISSES"], rows);
}
