import { type Kysely, sql } from "kysely";

/** The audit log as it is written: chains of entries, each with the hash of the one before it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // How far each chain has come. Its row is the lock of its chain, too: who adds to it has it until the end of the transaction.
  await sql`
    create table audit_chains (
      workspace_id text collate "C" not null,
      chain_id text collate "C" not null,
      last_n bigint not null,
      last_hash bytea not null,
      primary key (workspace_id, chain_id)
    ) with (fillfactor = 50)`.execute(db);
  // `body` is what comes in the line after its place in the chain; `hash` is that of the whole line. No reference to tasks:
  // entries outlive them.
  await sql`
    create table audit_entries (
      workspace_id text collate "C" not null,
      chain_id text collate "C" not null,
      n bigint not null check (n >= 1),
      body text collate "C" not null,
      hash bytea not null,
      at timestamptz(3) not null,
      task_id text collate "C",
      primary key (workspace_id, chain_id, n)
    )`.execute(db);
  await sql`
    create index audit_entries_task on audit_entries (workspace_id, task_id) where task_id is not null`.execute(db);

  // Adds entries to the end of a chain, in the order of the arrays, and returns the number of the last. As it is volatile, each
  // of its statements sees what has been committed by then: where a statement of before, whose connection was lost, commits
  // late, this one waits for it and goes on behind it. So no chain forks, and no number is given twice.
  await sql`
    create function signalbox_audit(in_workspace text, in_chain text, in_at timestamptz[], in_task text[], in_body text[])
    returns bigint language plpgsql volatile as $$
    declare
      place text := '{"chain":' || to_json(in_chain)::text || ',"n":';
      first bigint;
      link bytea;
      links bytea[];
    begin
      select last_n, last_hash into first, link from audit_chains
      where workspace_id = in_workspace and chain_id = in_chain for update;
      if not found then
        insert into audit_chains values (in_workspace, in_chain, 0, decode(repeat('00', 32), 'hex')) on conflict do nothing;
        select last_n, last_hash into first, link from audit_chains
        where workspace_id = in_workspace and chain_id = in_chain for update;
      end if;
      for i in 1 .. cardinality(in_body) loop
        link := sha256('\\x00'::bytea || convert_to(
          place || first + i || ',"prev":"' || encode(link, 'hex') || '",' || in_body[i], 'UTF8'));
        links[i] := link;
      end loop;
      insert into audit_entries (workspace_id, chain_id, n, body, hash, at, task_id)
      select in_workspace, in_chain, first + e.i, e.body, e.link, e.at, e.task
      from unnest(in_body, links, in_at, in_task) with ordinality as e(body, link, at, task, i);
      update audit_chains set last_n = first + cardinality(in_body), last_hash = link
      where workspace_id = in_workspace and chain_id = in_chain;
      return first + cardinality(in_body);
    end $$`.execute(db);
}
