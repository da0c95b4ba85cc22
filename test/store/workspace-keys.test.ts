/**
 * The rows of one workspace lie together, and could lie on one of many databases: the primary key of each table leads with the workspace, and
 * what is unique, or refers to another table, is so within it. Read from the catalog, so that no table that comes later is forgotten.
 */
import { expect, test } from "vitest";
import { describeEachBackend } from "./backends.ts";
import { raw } from "./tables.ts";

/** Of tables whose rows belong to two workspaces: the one that says where they are kept. */
const OWNER: Readonly<Record<string, string>> = {
  // What a workspace lends is its own; the other one reads it.
  grants: "provider_workspace_id",
};

/** Tables that no workspace has, and why. */
const OF_ALL: Readonly<Record<string, string>> = {
  audit_keys: "the server's keys, which sign the logs of all workspaces",
  audit_origin: "the one name of this installation in its logs",
  installation: "what tells this database from others",
  first_key: "the one place that says whether the first key was made",
  kysely_migration: "what the tables are",
  kysely_migration_lock: "who changes the tables",
  outbox_cursors: "how far a duty has read the logs of all workspaces; its workspace is a place in that order",
  rate_windows: "points of the running second, by keys that name what is limited; the workspace is part of some",
  replicas: "the servers",
  retention_turn: "the one replica that removes what was kept long enough",
  signed_nonces: "what was signed with a key, whose id is unique and names the workspace's row in api_keys",
};

/** What is unique in all workspaces, and why; on a database that is divided by workspaces it would need a table of its own, kept whole. */
const UNIQUE_IN_ALL: Readonly<Record<string, string>> = {
  api_keys_key_id_key: "a key tells which workspace it is of, so it is found by its id alone",
  grants_alias: "no two that lend may take one name in the workspace that borrows",
  grants_grant_id_key: "who borrows names a grant by its id alone",
};

const COLUMNS = `
  select c.relname as name, coalesce(array_agg(a.attname::text) filter (where a.attname like '%workspace_id'), '{}') as columns
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p') group by c.relname order by c.relname`;

const UNIQUE = `
  select c.relname as name, i.indexrelid::regclass::text as index, i.indisprimary as is_primary,
         array_agg(a.attname::text order by k.place) as columns
  from pg_index i join pg_class c on c.oid = i.indrelid
  cross join lateral unnest(i.indkey) with ordinality k(number, place)
  left join pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
  where c.relnamespace = current_schema()::regnamespace and i.indisunique group by 1, 2, 3 order by 1, 2`;

const REFERENCES = `
  select f.conrelid::regclass::text as name, f.confrelid::regclass::text as other, array_agg(a.attname::text) as columns
  from pg_constraint f cross join lateral unnest(f.conkey) k(number)
  join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.number
  where f.contype = 'f' and f.connamespace = current_schema()::regnamespace group by f.oid, 1, 2 order by 1, 2`;

describeEachBackend("tables", (ctx) => {
  const ownerOf = (table: unknown): string => OWNER[table as string] ?? "workspace_id";

  test("belong to a workspace each, or are named here with the reason why not", async () => {
    const tables = await raw(ctx.db, COLUMNS);
    const without = tables.filter(({ name, columns }) => !(columns as string[]).includes(ownerOf(name)));
    expect(without.map(({ name }) => name).filter((name) => !(String(name) in OF_ALL))).toEqual([]);
    // Nobody is named for nothing.
    const names = new Set(tables.map(({ name }) => name));
    expect([...Object.keys(OF_ALL), ...Object.keys(OWNER)].filter((name) => !names.has(name))).toEqual([]);
  });

  test("have primary keys that lead with their workspace", async () => {
    const keys = (await raw(ctx.db, UNIQUE)).filter(({ is_primary, name }) => is_primary && !(String(name) in OF_ALL));
    expect(keys.filter(({ name, columns }) => (columns as string[])[0] !== ownerOf(name))).toEqual([]);
    const keyed = new Set(keys.map(({ name }) => name));
    const tables = (await raw(ctx.db, COLUMNS)).map(({ name }) => String(name));
    expect(tables.filter((name) => !keyed.has(name) && !(name in OF_ALL))).toEqual([]);
  });

  test("have nothing that must be unique beyond its workspace, and refer to nothing of another", async () => {
    const ofWorkspaces = ({ name, columns }: Record<string, unknown>) =>
      !(String(name) in OF_ALL) && !(columns as string[]).includes(ownerOf(name));
    const beyond = (await raw(ctx.db, UNIQUE)).filter(ofWorkspaces);
    expect(beyond.map(({ index }) => index)).toEqual(Object.keys(UNIQUE_IN_ALL));
    expect((await raw(ctx.db, REFERENCES)).filter(ofWorkspaces)).toEqual([]);
  });
});
