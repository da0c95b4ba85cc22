/** Which update bus this server has. */
import { natsBus } from "../outbound/nats-bus.ts";
import type { OpenUpdateBus } from "../services/background/update-bus.ts";
import { installationName } from "../store/installation.ts";
import type { EngineBase } from "./options.ts";

export type BusKind = "in-process" | "postgres" | "nats";

export async function chooseBus({
  db,
  config,
  log,
  runtime,
}: Pick<EngineBase, "db" | "config" | "log" | "runtime">): Promise<{ kind: BusKind; open: OpenUpdateBus }> {
  const { url } = config.nats;
  if (db.backend === "pglite") {
    if (url !== undefined) log.warn("nats.url is of no use with PGlite, which one server has alone");
    return { kind: "in-process", open: db.listen };
  }
  if (url === undefined) return { kind: "postgres", open: db.listen };
  return { kind: "nats", open: natsBus({ url, installation: await installationName(db), runtime, log }) };
}
