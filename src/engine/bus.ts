/** Which update bus this server has. */
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
  // Loaded by those alone that have it.
  const { natsBus } = await import("../outbound/nats-bus.ts");
  return { kind: "nats", open: natsBus({ url, installation: await installationName(db), runtime, log }) };
}
