/**
 * Entries of the audit log within other statements: what is recorded and its entries are one statement, and one commit.
 *
 * The statement of a batch has the entries of each item as one text, a body a line (no body holds a line feed), so that an item
 * that is refused takes its own with it, and no join has to find them.
 */
import { type AuditEvent, auditBody } from "../domain/audit/entry.ts";

/** The entries of one item, for `chained`; null where it has none. */
export const entriesText = (events: readonly AuditEvent[]): string | null =>
  events.length === 0 ? null : events.map(auditBody).join("\n");

/**
 * The expression `chained`, of one row, which the statement's last part must read, or it would not be run. `items` gives
 * workspace_id, task_id, at, entries and ord, by which they are ordered; `chain` is the chain's id. Workspaces come in one order,
 * so that nobody waits for a chain of another who waits for his.
 */
export const chained = (chain: string, items: string): string => `chained as (
      select count(signalbox_audit(g.workspace_id, ${chain}, g.at, g.task, g.body)) as chains
      from (
        select e.workspace_id, array_agg(e.at) as at, array_agg(e.task_id) as task, array_agg(e.body) as body
        from (
          select c.workspace_id, c.task_id, c.at, l.body
          from (${items}) c cross join lateral string_to_table(c.entries, e'\\n') with ordinality as l(body, position)
          order by c.workspace_id, c.ord, l.position
        ) e group by e.workspace_id order by e.workspace_id
      ) g
    )`;
