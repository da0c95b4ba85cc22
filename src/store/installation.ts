/** What a database is called where several meet, as on one NATS. */
import { createHash } from "node:crypto";
import type { Database } from "./database.ts";
import { isUnavailable } from "./database-errors.ts";

const FIND = { name: "installation-v1", text: "select installation_id::text as id from installation" };

/** Where the database is: the cluster and its number there. Copies of it are elsewhere, though their tables are the same. */
const PLACE = {
  name: "installation-place-v1",
  text: `
    select (select system_identifier from pg_control_system())::text || '/' || oid as place
    from pg_database where datname = current_database()`,
};

/**
 * A name that all replicas of one database find, and those of no other, also when one is a dump of the other: 32 hexadecimal
 * digits. Standbys have that of their primary. Rejects as `query` does.
 */
export async function installationName(db: Database): Promise<string> {
  const [found] = await db.query(FIND, []);
  // Some hosts of PostgreSQL do not let everybody ask.
  const [there] = await db.query(PLACE, []).catch((error: unknown) => {
    if (isUnavailable(error)) throw error;
    return [];
  });
  return createHash("sha256").update(`${found?.id} ${there?.place}`).digest("hex").slice(0, 32);
}
