import { type Kysely, sql } from "kysely";

/** The audit log as it is proven: the chains of a workspace folded into one order, a Merkle tree over it, and signed checkpoints. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Chains end with the replicas that write them. Those that will not grow are sealed, and not looked at any more.
  await sql`alter table audit_chains add column sealed boolean not null default false`.execute(db);
  await sql`create index audit_chains_open on audit_chains (workspace_id, chain_id) where not sealed`.execute(db);

  // One row a workspace: the lock of its log, and how many entries are in it.
  await sql`
    create table audit_logs (
      workspace_id text collate "C" primary key references workspaces,
      size bigint not null default 0 check (size >= 0)
    )`.execute(db);
  await sql`
    create table audit_log_chains (
      workspace_id text collate "C" not null,
      chain_id text collate "C" not null,
      folded_n bigint not null,
      primary key (workspace_id, chain_id)
    )`.execute(db);
  // The order of the log: entries of one chain that stand together are one row.
  await sql`
    create table audit_spans (
      workspace_id text collate "C" not null,
      first_index bigint not null check (first_index >= 0),
      chain_id text collate "C" not null,
      first_n bigint not null check (first_n >= 1),
      count bigint not null check (count >= 1),
      primary key (workspace_id, first_index),
      unique (workspace_id, chain_id, first_n)
    )`.execute(db);
  await sql`
    create table audit_tiles (
      workspace_id text collate "C" not null,
      level smallint not null check (level between 0 and 6),
      index bigint not null check (index >= 0),
      hashes bytea not null check (length(hashes) between 32 and 8192 and length(hashes) % 32 = 0),
      primary key (workspace_id, level, index)
    )`.execute(db);
  // Hashes do not compress: nobody need try.
  await sql`alter table audit_tiles alter column hashes set storage external`.execute(db);
  await sql`
    create table audit_checkpoints (
      workspace_id text collate "C" not null,
      size bigint not null check (size >= 1),
      root bytea not null check (length(root) = 32),
      note text not null,
      created_at timestamptz(3) not null,
      primary key (workspace_id, size)
    )`.execute(db);
  await sql`
    create table audit_keys (
      number integer primary key check (number >= 1),
      public_key bytea not null unique check (length(public_key) = 32),
      signed_by_previous bytea,
      created_at timestamptz(3) not null
    )`.execute(db);
  // What the logs of this database are called, once and for all.
  await sql`
    create table audit_origin (
      is_one boolean primary key default true check (is_one),
      origin text not null
    )`.execute(db);

  // A size has one root for ever, an entry one place, and what was signed stays: nobody changes it by mistake. Who means to is found by
  // the signatures.
  await sql`
    create function signalbox_audit_keep() returns trigger language plpgsql as $$
    begin
      if tg_op = 'UPDATE' and tg_table_name = 'audit_logs' then
        if new.size >= old.size then return new; end if;
      elsif tg_op = 'UPDATE' and tg_table_name = 'audit_tiles' then
        if substr(new.hashes, 1, length(old.hashes)) = old.hashes then return new; end if;
      elsif tg_op = 'UPDATE' and tg_table_name = 'audit_spans' then
        if (new.workspace_id, new.first_index, new.chain_id, new.first_n)
          = (old.workspace_id, old.first_index, old.chain_id, old.first_n) and new.count >= old.count then return new; end if;
      elsif tg_op = 'INSERT' then
        if new.size > coalesce((select max(size) from audit_checkpoints where workspace_id = new.workspace_id), 0) then
          return new;
        end if;
      end if;
      raise exception '% of % would change what the audit log has proven', tg_op, tg_table_name using errcode = '23514';
    end $$`.execute(db);
  for (const [table, events] of [
    ["audit_entries", "update or delete"],
    ["audit_logs", "update or delete"],
    ["audit_tiles", "update or delete"],
    ["audit_spans", "update or delete"],
    ["audit_checkpoints", "insert or update or delete"],
    ["audit_keys", "update or delete"],
    ["audit_origin", "update or delete"],
  ] as const) {
    await sql`
      create trigger audit_keep before ${sql.raw(events)} on ${sql.table(table)}
      for each row execute function signalbox_audit_keep()`.execute(db);
  }
}
