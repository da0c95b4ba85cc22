/**
 * Entries of the audit log within other statements: what is recorded and its entries are one statement, and one commit.
 *
 * The statement of a batch has the entries of each item as one text, a body a line (no body holds a line feed), so that an item
 * that is refused takes its own with it, and no join has to find them.
 */
import { type AuditEvent, auditBody } from "../domain/audit/entry.ts";
import { EngineState, engineStateName } from "../domain/task-state.ts";

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

/** The time of what the database does by its own clock: entries hold milliseconds. */
export const NOW = "date_trunc('milliseconds', clock_timestamp())";

/** The lane of what is neither a task that begins nor an append, as SQL; `replica` is the replica's id. */
export const otherLane = (replica: string): string => `${replica}::text || '/x'`;

/**
 * As `auditBody` writes it, of a task of which only the database knows that something is done to it. All but `action` are
 * expressions of SQL; `detail` has its members in the order of their names, each an expression of JSON.
 */
export const taskBody = (of: {
  at: string;
  workspace: string;
  actor: string;
  action: string;
  task: string;
  detail?: Readonly<Record<string, string>>;
  /** In the place of `detail`: an expression of the member as JSON, with a comma before it, or of an empty text. */
  detailMember?: string;
}): string => {
  const task = json(of.task);
  const members = Object.entries(of.detail ?? {}).map(([name, value]) => `'"${name}":' || ${value}`);
  const given = of.detailMember === undefined ? "" : ` || ${of.detailMember}`;
  const detail = members.length === 0 ? given : ` || ',"detail":{' || ${members.join(" || ',' || ")} || '}'`;
  return (
    `'"time":"' || to_char(${of.at} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '","workspace":' || ` +
    `${json(of.workspace)} || ',"actor":' || ${json(of.actor)} || ',"action":"${of.action}","target":"task","id":' || ` +
    `${task} || ',"task":' || ${task} || ',"result":"OK"'${detail} || '}'`
  );
};

/** A text as JSON. PostgreSQL escapes what ECMAScript does, in the same way. */
export const json = (text: string): string => `to_json(${text}::text)::text`;

/** The name of a state, as JSON, by its number. */
export const stateJson = (state: string): string => `'"' || ('{${STATE_NAMES.join(",")}}'::text[])[${state}] || '"'`;

const STATE_NAMES = Object.values(EngineState)
  .toSorted((a, b) => a - b)
  .map(engineStateName);
