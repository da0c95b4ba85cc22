/**
 * Whose the rows of a database are, and what they say. Each workspace has two marks that its people and its agents write into
 * whatever they can name: rows that hold a mark of another workspace than their own are leaks, and so are rows that change when their
 * workspace does nothing.
 */
import { HOME_WORKSPACE } from "../../../src/domain/identity/principal.ts";
import type { Database, Row } from "../../../src/store/database.ts";
import { raw } from "../../store/tables.ts";

/** A workspace and its marks, none of which is a part of another. */
export interface Marked {
  readonly workspaceId: string;
  /** What nobody but the workspace may ever read. */
  readonly mark: string;
  /** What its agents say, of themselves and in answers: whoever is lent one reads it. */
  readonly agentMark: string;
}

export interface StoredRow {
  readonly table: string;
  /** One workspace; both sides of a grant. */
  readonly owners: readonly string[];
  /** By column, as text in which marks can be found. */
  readonly columns: Readonly<Record<string, string>>;
}

/** A place in a table that holds what a workspace may not have. */
export interface Leak {
  readonly table: string;
  readonly column: string;
  readonly owner: string;
  readonly of: string;
  readonly text: string;
}

/** Not a workspace's, though it names one: how far a duty has read the logs of all. */
const OF_NO_WORKSPACE = ["outbox_cursors"];

/** Tables whose rows change while nobody calls, each for a reason. Marks are looked for in them all the same. */
export const RESTLESS: Readonly<Record<string, string>> = {
  audit_chains: "a log is folded and signed after the fact, and agreeing to a grant is an entry of both sides",
  audit_entries: "as audit_chains",
  audit_logs: "as audit_chains",
  audit_log_chains: "as audit_chains",
  audit_spans: "as audit_chains",
  audit_tiles: "as audit_chains",
  audit_checkpoints: "as audit_chains",
  agent_signals: "servers tell every second what they have seen of agents; those of a lent agent are shared",
  allotments: "servers draw and give back by themselves; the limit of a lent agent is shared",
  budget_slices: "servers draw and give back by themselves, seconds after the task",
  budget_settlements: "as budget_slices",
  open_streams: "servers tell of them every second",
  workspace_usage: "stored bytes are counted once in a while",
};

/** Columns that are written after the fact. */
const RESTLESS_COLUMNS: Readonly<Record<string, readonly string[]>> = { api_keys: ["last_used_at"] };

/** Where an agent that was lent writes at its borrower's: into the tasks that it has, and the exchanges about them. */
export const WRITTEN_BY_LENT: Readonly<Record<string, readonly string[]>> = {
  tasks: ["status", "metadata"],
  task_updates: ["body"],
  held_updates: ["body"],
  exchange_messages: ["body"],
  exchange_quotes: ["body"],
};

/** Every row of every table that has workspaces, and of the grants between them. */
export async function readRows(db: Database): Promise<StoredRow[]> {
  const tables = await raw(
    db,
    `select table_name from information_schema.columns
     where table_schema = 'public' and column_name = 'workspace_id' order by table_name`,
  );
  const rows: StoredRow[] = [];
  for (const table of tables.map(({ table_name }) => String(table_name))) {
    if (OF_NO_WORKSPACE.includes(table)) continue;
    for (const row of await raw(db, `select * from ${table}`)) {
      rows.push({ table, owners: [String(row.workspace_id)], columns: texts(row) });
    }
  }
  for (const row of await raw(db, "select * from grants")) {
    const owners = [String(row.provider_workspace_id), String(row.consumer_workspace_id)];
    rows.push({ table: "grants", owners, columns: texts(row) });
  }
  return rows;
}

const texts = (row: Row): Record<string, string> =>
  Object.fromEntries(Object.entries(row).map(([name, value]) => [name, textOf(value)]));

/** Bytes as they are, so that texts in them stay texts. */
function textOf(value: unknown): string {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("latin1");
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "");
}

/** What rows hold of workspaces that are not theirs. */
export function leaksIn(rows: readonly StoredRow[], workspaces: readonly Marked[]): Leak[] {
  const lent = lendingsIn(rows);
  const agents = agentsOfTasks(rows);
  const leaks: Leak[] = [];
  for (const row of rows) {
    for (const other of workspaces) {
      if (row.owners.includes(other.workspaceId) || isMakingOf(row, other.workspaceId)) continue;
      for (const [column, text] of Object.entries(row.columns)) {
        const isLeak =
          text.includes(other.mark) ||
          (text.includes(other.agentMark) && !isOfLent(row, column, other.workspaceId, lent, agents));
        if (isLeak) leaks.push({ table: row.table, column, owner: row.owners.join(), of: other.workspaceId, text });
      }
    }
  }
  return leaks;
}

/** Who runs the router has made the workspace and given it its name: that is an entry of the router's own log. */
const isMakingOf = ({ table, owners, columns }: StoredRow, workspaceId: string): boolean =>
  table === "audit_entries" &&
  owners.includes(HOME_WORKSPACE) &&
  columns.body!.includes(`"action":"workspace.create","target":"workspace","id":"${workspaceId}"`);

const three = (...parts: readonly (string | undefined)[]): string => parts.join("\n");

/** The agents that were ever lent, as `borrower, alias, lender`, and the pairs of which one has lent to the other. */
function lendingsIn(rows: readonly StoredRow[]): ReadonlySet<string> {
  const accepted = rows.filter(({ table, columns }) => table === "grants" && columns.accepted_at !== "null");
  return new Set(
    accepted.flatMap(({ columns }) => {
      const { consumer_workspace_id, alias_agent_id, provider_workspace_id } = columns;
      return [
        three(consumer_workspace_id, alias_agent_id, provider_workspace_id),
        three(consumer_workspace_id, provider_workspace_id),
      ];
    }),
  );
}

/** All agents that each task has had. */
function agentsOfTasks(rows: readonly StoredRow[]): ReadonlyMap<string, readonly string[]> {
  const tasks = rows.filter(({ table }) => table === "tasks");
  return new Map(
    tasks.map(({ columns }) => {
      const earlier = (JSON.parse(columns.earlier_agent_ids!) ?? []) as string[];
      return [three(columns.workspace_id, columns.task_id), [columns.agent_id!, ...earlier]];
    }),
  );
}

function isOfLent(
  row: StoredRow,
  column: string,
  lender: string,
  lent: ReadonlySet<string>,
  agents: ReadonlyMap<string, readonly string[]>,
): boolean {
  if (!WRITTEN_BY_LENT[row.table]?.includes(column)) return false;
  const [borrower] = row.owners;
  // What was found out of agents by an exchange is of no task.
  if (row.table.startsWith("exchange_")) return lent.has(three(borrower, lender));
  const had = agents.get(three(borrower, row.columns.task_id)) ?? [];
  return had.some((agentId) => lent.has(three(borrower, agentId, lender)));
}

/** The rows that must not change by themselves of those workspaces, each as one text. A grant counts when both its sides do. */
export function restingRows(rows: readonly StoredRow[], workspaceIds: readonly string[]): Set<string> {
  const resting = rows.filter(
    ({ table, owners }) => !(table in RESTLESS) && owners.every((owner) => workspaceIds.includes(owner)),
  );
  return new Set(
    resting.map(({ table, columns }) => {
      const kept = Object.entries(columns).filter(([name]) => !RESTLESS_COLUMNS[table]?.includes(name));
      return `${table} ${JSON.stringify(kept)}`;
    }),
  );
}

/** What became of rows: those that are gone, and those that have come; a row that has changed is both. */
export function changes(before: ReadonlySet<string>, after: ReadonlySet<string>): { gone: string[]; come: string[] } {
  return { gone: [...before.difference(after)], come: [...after.difference(before)] };
}
