/** Reads of the audit log: entries in its order, checkpoints, and tiles of its tree. */
import { type Kysely, type RawBuilder, sql } from "kysely";
import { NO_HASH } from "../domain/audit/entry.ts";
import { HASH_BYTES } from "../domain/audit/merkle.ts";
import { TILE_HASHES, type Tile, type TileKey } from "../domain/audit/tiles.ts";
import { type LogSpan, missingEntries, readTiles } from "./audit-fold-reads.ts";
import type { Database, Row } from "./database.ts";
import { int8Array } from "./pg-arrays.ts";
import type { Schema } from "./schema.ts";

export interface CheckpointRecord {
  size: number;
  root: Uint8Array;
  note: string;
  createdAt: Date;
}

/** An entry as it is stored. */
export interface LogEntry {
  /** Its place in the log; undefined as long as it is in none. */
  index: number | undefined;
  chainId: string;
  number: number;
  /** The hash of the entry before it in its chain, in hexadecimal; undefined when that one is not there. */
  previous: string | undefined;
  body: string;
  hash: Uint8Array;
}

/** In statements. */
const [HASHES, BYTES] = [sql.raw(String(TILE_HASHES)), sql.raw(String(HASH_BYTES))];

/** Entries that are in no log yet and can be looked at for one page. */
const MOST_PENDING = 20_000;

/** What entries must have to be listed; absent: whatever. */
export interface EntryFilter {
  taskId?: string;
  actor?: string;
  action?: string;
  targetType?: string;
  targetId?: string;
  result?: string;
  start?: Date;
  end?: Date;
}

export interface AuditLogReads {
  /** The latest checkpoint, or that of a size. */
  checkpoint(workspaceId: string, size?: number): Promise<CheckpointRecord | undefined>;
  /** The checkpoints of sizes greater than `after`, the smallest first. */
  checkpoints(workspaceId: string, after: number, limit: number): Promise<CheckpointRecord[]>;
  /** Those of the tiles that there are. */
  tiles(workspaceId: string, keys: readonly TileKey[]): Promise<Tile[]>;
  /** The order of the log from `start` up to `end`, of at most so many spans. */
  spans(workspaceId: string, start: number, end: number, limit: number): Promise<LogSpan[]>;
  /** The entries from `start` up to `end` that fit, in the order of the log; those that are missing are left out. */
  entries(workspaceId: string, start: number, end: number, filter?: EntryFilter): Promise<LogEntry[]>;
  /** At most `limit` entries that fit and are in no log yet, the latest first; none while there are more than can be looked at. */
  pending(workspaceId: string, filter: EntryFilter, limit: number): Promise<LogEntry[]>;
  /** At most `limit` entries about a task that fit, the latest first: those that are in no log yet, and those before the place. */
  ofTask(workspaceId: string, filter: EntryFilter, before: number | undefined, limit: number): Promise<LogEntry[]>;
  /** The place of an entry of a chain. */
  placeOf(workspaceId: string, chainId: string, number: number): Promise<number | undefined>;
  /** The place of the entry with that hash, among the last `tiles` tiles of leaves. */
  placeOfHash(workspaceId: string, hash: Uint8Array, size: number, tiles: number): Promise<number | undefined>;
  /** The leaf hashes at these places, as the tree has them; undefined for one that it has not. */
  leaves(workspaceId: string, indexes: readonly number[]): Promise<(Uint8Array | undefined)[]>;
  /** Whether a chain has an entry of that number, in the log or not. */
  hasEntry(workspaceId: string, chainId: string, number: number): Promise<boolean>;
  /** An entry behind the end of its chain, or of a chain that nobody began. */
  beyondEnd(workspaceId: string): Promise<{ chainId: string; number: number } | undefined>;
  /** The first entry of a chain that is in no log and is missing, for chains of which one is. */
  missing(workspaceId: string): Promise<{ chainId: string; number: number }[]>;
  /** Entries of the log, as its own row says. */
  size(workspaceId: string): Promise<number>;
  /** The workspaces that have logs. */
  workspaces(): Promise<string[]>;
}

export function createAuditLogReads(db: Database): AuditLogReads {
  const { kysely } = db;
  const spansWithin = (workspaceId: string, start: number, end: number) => sql`
    select first_index, chain_id, first_n, count from audit_spans
    where workspace_id = ${workspaceId} and first_index < ${end} and first_index >= coalesce((
      select max(first_index) from audit_spans where workspace_id = ${workspaceId} and first_index <= ${start}), 0)`;

  async function entries(
    workspaceId: string,
    start: number,
    end: number,
    filter: EntryFilter = {},
  ): Promise<LogEntry[]> {
    const query = sql<Row>`
      select s.first_index + e.n - s.first_n as index, e.chain_id, e.n, e.body, e.hash, p.hash as previous
      from (${spansWithin(workspaceId, start, end)}) s
      join audit_entries e on e.workspace_id = ${workspaceId} and e.chain_id = s.chain_id
        and e.n >= s.first_n + greatest(0, ${start} - s.first_index)
        and e.n < s.first_n + least(s.count, ${end} - s.first_index)
      left join audit_entries p on p.workspace_id = ${workspaceId} and p.chain_id = e.chain_id and p.n = e.n - 1
      where true ${conditions(filter)}
      order by 1`;
    const { rows } = await db.reading(workspaceId, (reader) => query.execute(reader.kysely));
    return rows.map(entry);
  }

  return {
    async checkpoint(workspaceId, size) {
      const query = checkpointsOf(kysely, workspaceId);
      const row = await (size === undefined
        ? query.orderBy("size", "desc").limit(1)
        : query.where("size", "=", size)
      ).executeTakeFirst();
      return row && checkpoint(row);
    },

    async checkpoints(workspaceId, after, limit) {
      const query = checkpointsOf(kysely, workspaceId).where("size", ">", after).orderBy("size").limit(limit);
      return (await query.execute()).map(checkpoint);
    },

    tiles: (workspaceId, keys) => readTiles(kysely, workspaceId, keys),

    async spans(workspaceId, start, end, limit) {
      const { rows } = await sql<Row>`
        select * from (${spansWithin(workspaceId, start, end)}) s
        where first_index + count > ${start} order by first_index limit ${limit}`.execute(kysely);
      return rows.map((row) => clipped(span(row), start, end));
    },

    entries,

    async pending(workspaceId, filter, limit) {
      const { rows } = await sql<Row>`
        select null as index, e.chain_id, e.n, e.body, e.hash, p.hash as previous
        from (
          select c.chain_id, coalesce(f.folded_n, 0) as folded, sum(c.last_n - coalesce(f.folded_n, 0)) over () as waiting
          from audit_chains c
          left join audit_log_chains f on f.workspace_id = c.workspace_id and f.chain_id = c.chain_id
          where c.workspace_id = ${workspaceId} and not c.sealed and c.last_n > coalesce(f.folded_n, 0)
        ) c
        join audit_entries e on c.waiting <= ${MOST_PENDING}
          and e.workspace_id = ${workspaceId} and e.chain_id = c.chain_id and e.n > c.folded
        left join audit_entries p on p.workspace_id = ${workspaceId} and p.chain_id = e.chain_id and p.n = e.n - 1
        where true ${conditions(filter)}
        order by e.at desc, e.chain_id, e.n desc limit ${limit}`.execute(kysely);
      return rows.map(entry);
    },

    async ofTask(workspaceId, filter, before, limit) {
      const { rows } = await sql<Row>`
        select * from (
          select s.first_index + e.n - s.first_n as index, e.chain_id, e.n, e.body, e.hash, e.at, p.hash as previous
          from audit_entries e
          left join lateral (
            select first_index, first_n, count from audit_spans s
            where s.workspace_id = ${workspaceId} and s.chain_id = e.chain_id and s.first_n <= e.n
            order by s.first_n desc limit 1
          ) s on e.n < s.first_n + s.count
          left join audit_entries p on p.workspace_id = ${workspaceId} and p.chain_id = e.chain_id and p.n = e.n - 1
          left join audit_chains c on c.workspace_id = ${workspaceId} and c.chain_id = e.chain_id
          where e.workspace_id = ${workspaceId} and (s.first_index is not null or e.n <= c.last_n) ${conditions(filter)}
        ) e
        where ${before ?? null}::int8 is null or index < ${before ?? null}
        order by index desc nulls first, at desc, n desc limit ${limit}`.execute(kysely);
      return rows.map(entry);
    },

    async placeOf(workspaceId, chainId, number) {
      const { rows } = await sql<Row>`
        select first_index, chain_id, first_n, count from audit_spans
        where workspace_id = ${workspaceId} and chain_id = ${chainId} and first_n <= ${number}
        order by first_n desc limit 1`.execute(kysely);
      const found = rows[0] && span(rows[0]);
      if (!found || number >= found.firstNumber + found.count) return undefined;
      return found.firstIndex + number - found.firstNumber;
    },

    async placeOfHash(workspaceId, hash, size, tiles) {
      const { rows } = await sql<Row>`
        select index, position(${hash}::bytea in hashes) - 1 as at from audit_tiles
        where workspace_id = ${workspaceId} and level = 0 and index >= ${Math.ceil(size / TILE_HASHES) - tiles}
          and position(${hash}::bytea in hashes) % ${HASH_BYTES} = 1
        order by index desc limit 1`.execute(kysely);
      const [row] = rows;
      return row && (row.index as number) * TILE_HASHES + (row.at as number) / HASH_BYTES;
    },

    async leaves(workspaceId, indexes) {
      const { rows } = await sql<Row>`
        select substr(t.hashes, (i.place % ${HASHES})::int4 * ${BYTES} + 1, ${BYTES}) as hash
        from unnest(${int8Array(indexes, (i) => i)}::int8[]) with ordinality as i(place, ord)
        left join audit_tiles t on t.workspace_id = ${workspaceId} and t.level = 0 and t.index = i.place / ${HASHES}
        order by i.ord`.execute(kysely);
      return rows.map((row) => {
        const hash = row.hash as Uint8Array | null;
        return hash?.length === HASH_BYTES ? hash : undefined;
      });
    },

    async hasEntry(workspaceId, chainId, number) {
      const row = await kysely
        .selectFrom("audit_entries")
        .select("n")
        .where("workspace_id", "=", workspaceId)
        .where("chain_id", "=", chainId)
        .where("n", "=", number)
        .executeTakeFirst();
      return row !== undefined;
    },

    async beyondEnd(workspaceId) {
      // From each chain to the next, by the key: entries are never read through.
      const { rows } = await sql<Row>`
        with recursive chains(chain_id) as (
          (select chain_id from audit_entries where workspace_id = ${workspaceId} order by chain_id limit 1)
          union all
          select (
            select e.chain_id from audit_entries e
            where e.workspace_id = ${workspaceId} and e.chain_id > i.chain_id order by e.chain_id limit 1
          ) from chains i where i.chain_id is not null
        )
        select i.chain_id, e.n from chains i
        left join audit_chains c on c.workspace_id = ${workspaceId} and c.chain_id = i.chain_id
        cross join lateral (
          select n from audit_entries e
          where e.workspace_id = ${workspaceId} and e.chain_id = i.chain_id and e.n > coalesce(c.last_n, 0)
          order by n limit 1
        ) e limit 1`.execute(kysely);
      return rows[0] && { chainId: rows[0].chain_id as string, number: rows[0].n as number };
    },

    missing: async (workspaceId) =>
      [...(await missingEntries(kysely, workspaceId))].map(([chainId, number]) => ({ chainId, number })),

    async size(workspaceId) {
      const query = kysely.selectFrom("audit_logs").select("size").where("workspace_id", "=", workspaceId);
      return (await query.executeTakeFirst())?.size ?? 0;
    },

    async workspaces() {
      const rows = await kysely.selectFrom("audit_logs").select("workspace_id").orderBy("workspace_id").execute();
      return rows.map((row) => row.workspace_id);
    },
  };
}

const checkpointsOf = (kysely: Kysely<Schema>, workspaceId: string) =>
  kysely.selectFrom("audit_checkpoints").selectAll().where("workspace_id", "=", workspaceId);

const checkpoint = (row: { size: number; root: Uint8Array; note: string; created_at: Date }): CheckpointRecord => ({
  size: row.size,
  root: row.root,
  note: row.note,
  createdAt: row.created_at,
});

const span = (row: Row): LogSpan => ({
  firstIndex: row.first_index as number,
  chainId: row.chain_id as string,
  firstNumber: row.first_n as number,
  count: row.count as number,
});

function clipped({ firstIndex, chainId, firstNumber, count }: LogSpan, start: number, end: number): LogSpan {
  const skipped = Math.max(0, start - firstIndex);
  const left = Math.min(count, end - firstIndex) - skipped;
  return { firstIndex: firstIndex + skipped, chainId, firstNumber: firstNumber + skipped, count: left };
}

const entry = (row: Row): LogEntry => {
  const previous = row.previous as Uint8Array | null;
  const isFirst = row.n === 1;
  return {
    index: (row.index as number | null) ?? undefined,
    chainId: row.chain_id as string,
    number: row.n as number,
    previous: isFirst ? NO_HASH : previous ? Buffer.from(previous).toString("hex") : undefined,
    body: row.body as string,
    hash: row.hash as Uint8Array,
  };
};

/** Members of the line that entries can be chosen by, by their names there. */
const MEMBERS = [
  ["actor", "actor"],
  ["action", "action"],
  ["targetType", "target"],
  ["targetId", "id"],
  ["result", "result"],
] as const;

/** An entry that is not JSON any more, because somebody edited it, fits no filter, and stands in the way of no other. */
function conditions(filter: EntryFilter): RawBuilder<unknown> {
  const found = MEMBERS.flatMap(([field, member]) => {
    const wanted = filter[field];
    // Members stand in one order and are written in one way, so the text itself can be searched; no value has an unescaped quote.
    return wanted === undefined ? [] : sql`and position(${`"${member}":${JSON.stringify(wanted)},`} in ${head}) > 0`;
  });
  const { taskId, start, end } = filter;
  if (taskId !== undefined) found.push(sql`and e.task_id = ${taskId}`);
  if (start) found.push(sql`and e.at >= ${start}`);
  if (end) found.push(sql`and e.at < ${end}`);
  return sql`${sql.join(found, sql` `)}`;
}

/** The members of a line before its detail, and a comma at their end. */
const head = sql.raw(`(split_part(rtrim(e.body, '}'), ',"detail":{', 1) || ',')`);
