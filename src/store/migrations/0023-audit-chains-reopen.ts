import { type Kysely, sql } from "kysely";

/** A chain that was sealed is open as soon as something is added to it: late entries are missed nowhere. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // As in 0014, but for `sealed`.
  await sql`
    create or replace function signalbox_audit(in_workspace text, in_chain text, in_at timestamptz[], in_task text[], in_body text[])
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
      update audit_chains set last_n = first + cardinality(in_body), last_hash = link, sealed = false
      where workspace_id = in_workspace and chain_id = in_chain;
      return first + cardinality(in_body);
    end $$`.execute(db);
  await sql`
    update audit_chains c set sealed = false from audit_log_chains f
    where c.sealed and f.workspace_id = c.workspace_id and f.chain_id = c.chain_id and f.folded_n < c.last_n`.execute(
    db,
  );
}
