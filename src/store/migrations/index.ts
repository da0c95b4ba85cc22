/** All migrations in their order. A migration that was released never changes: a later one mends it. */
import type { Migration } from "kysely/migration";
import { up as foundation } from "./0001-foundation.ts";

export const migrations: Record<string, Migration> = {
  "0001-foundation": { up: foundation },
};
