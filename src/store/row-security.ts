/**
 * The second wall between workspaces: a role that sees the rows of one workspace and nothing else, whatever a statement asks for. What
 * lists and shows one workspace's things reads in this role (`Database.reading`), so that a forgotten condition shows nothing, rather
 * than what is others'. The owner of the tables, who writes and who works for all workspaces at once, is exempt.
 */
import { type Kysely, sql } from "kysely";
import type { Logger } from "pino";
import { SignalboxError } from "../domain/errors.ts";
import type { Database } from "./database.ts";
import type { Schema } from "./schema.ts";

/** The role, one for all databases of a server. It cannot log in. */
export const READER = "signalbox_reader";
/** The setting that names the workspace whose rows it sees. */
export const READER_WORKSPACE = "signalbox.workspace";

export type RowSecurity = "auto" | "required" | "off";

/** How long a table is waited for that others use, in milliseconds: they go on, and the wall is tried again at the next start. */
const LOCK_MS = 5_000;

/** The tables with workspaces in their rows that lack something of the wall, and the columns that say who may see a row. */
const UNGUARDED = sql<{ name: string; columns: string[] }>`
  select c.relname as name, array_agg(a.attname::text) as columns
  from pg_class c join pg_attribute a on a.attrelid = c.oid and not a.attisdropped
    and a.attname in ('workspace_id', 'provider_workspace_id', 'consumer_workspace_id')
  where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
    and not (c.relrowsecurity and has_table_privilege(${READER}, c.oid, 'select') and exists (
      select from pg_policy p where p.polrelid = c.oid and p.polname = 'signalbox_workspace'
    ))
  group by c.relname order by c.relname`;

/**
 * Sees to it that the role is there and each table with a workspace has its policy, and lets the database read in it. Where the user
 * of the database may not make roles, `auto` goes without, and says so once.
 *
 * @throws SignalboxError ROW_SECURITY_MISSING where it is required and cannot be had.
 */
export async function raiseWall(db: Database, wanted: RowSecurity, log: Logger): Promise<void> {
  db.readAs(undefined);
  if (wanted === "off") return;
  try {
    await db.maintain((kysely) => kysely.transaction().execute(build));
    db.readAs(READER);
    await db.reading("", (reader) => reader.query({ name: "row-security-check-v1", text: "select 1" }, []));
  } catch (error) {
    db.readAs(undefined);
    if (wanted === "required") throw missing(error);
    log.warn(
      { err: error },
      `the database is read without row-level security: ${(error as Error).message}. Let its user make roles, or make ${READER} and grant it to that user`,
    );
  }
}

async function build(tx: Kysely<Schema>): Promise<void> {
  await sql`select set_config('lock_timeout', ${String(LOCK_MS)}, true)`.execute(tx);
  // Whoever starts at the same time waits, and finds it done.
  await sql`select pg_advisory_xact_lock(hashtextextended(${READER}, 0))`.execute(tx);
  await makeRole(tx);
  const { rows } = await UNGUARDED.execute(tx);
  for (const { name, columns } of rows) {
    const table = sql.table(name);
    const own = columns.map((column) => sql`${sql.ref(column)} = current_setting(${sql.lit(READER_WORKSPACE)}, true)`);
    await sql`alter table ${table} enable row level security`.execute(tx);
    await sql`drop policy if exists signalbox_workspace on ${table}`.execute(tx);
    await sql`
      create policy signalbox_workspace on ${table} for select to ${sql.ref(READER)}
      using (${sql.join(own, sql` or `)})`.execute(tx);
    await sql`grant select on ${table} to ${sql.ref(READER)}`.execute(tx);
  }
  if (rows.length > 0) {
    const { rows: found } = await sql<{ name: string }>`select current_schema() as name`.execute(tx);
    await sql`grant usage on schema ${sql.ref(found[0]!.name)} to ${sql.ref(READER)}`.execute(tx);
  }
}

/** Another database of the same server may make it at the same moment. */
async function makeRole(tx: Kysely<Schema>): Promise<void> {
  await sql`
    do $$
    begin
      if not exists (select from pg_roles where rolname = 'signalbox_reader') then
        begin
          create role signalbox_reader nologin;
        exception when duplicate_object or unique_violation then null;
        end;
      end if;
      if not (select rolsuper from pg_roles where rolname = current_user)
        and not exists (
          select from pg_auth_members m
          where m.roleid = 'signalbox_reader'::regrole and m.member = current_user::regrole
            and coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
        )
      then
        execute format('grant signalbox_reader to %I', current_user);
      end if;
    end $$`.execute(tx);
}

const missing = (cause: unknown) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "ROW_SECURITY_MISSING",
    message:
      `database.row-level-security is required, and cannot be had: ${(cause as Error).message}. Let the database's user make roles, ` +
      `make the role ${READER} and grant it to that user, or set it to auto.`,
    cause,
  });
