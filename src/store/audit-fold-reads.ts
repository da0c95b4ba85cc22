/** What a fold of the audit log reads: how far chains have grown, the hashes of their entries, and tiles of the tree. */
import { type Kysely, sql } from "kysely";
import { HASH_BYTES } from "../domain/audit/merkle.ts";
import { splitHashes, type Tile, type TileKey } from "../domain/audit/tiles.ts";
import type { Row } from "./database.ts";
import { int2Array, int8Array, textArray } from "./pg-arrays.ts";
import type { Schema } from "./schema.ts";

/** Chains that one fold takes at most. */
const MOST_CHAINS = 256;

/** Entries of one chain that stand together in the log. */
export interface LogSpan {
  firstIndex: number;
  chainId: string;
  firstNumber: number;
  count: number;
}

/** A chain that cannot be folded any further, because this entry is not there. */
export interface ChainGap {
  chainId: string;
  number: number;
  /** The size of the log. */
  index: number;
}

export interface GrownChain {
  chainId: string;
  folded: number;
  last: number;
}

/** In the order in which they are folded. */
export async function grownChains(tx: Kysely<Schema>, workspaceId: string): Promise<GrownChain[]> {
  const { rows } = await sql<Row>`
    select c.chain_id, coalesce(f.folded_n, 0) as folded, c.last_n from audit_chains c
    left join audit_log_chains f on f.workspace_id = c.workspace_id and f.chain_id = c.chain_id
    where c.workspace_id = ${workspaceId} and not c.sealed and c.last_n > coalesce(f.folded_n, 0)
    order by c.chain_id limit ${MOST_CHAINS}`.execute(tx);
  return rows.map((row) => ({
    chainId: row.chain_id as string,
    folded: row.folded as number,
    last: row.last_n as number,
  }));
}

export interface TakenChain {
  chainId: string;
  folded: number;
  last: number;
  hashes: Uint8Array[];
}

/** The hashes of the entries, of each chain up to the first that is missing. */
export async function readHashes(tx: Kysely<Schema>, workspaceId: string, shares: readonly GrownChain[], size: number) {
  const { taken, torn } = await readWhole(tx, workspaceId, shares);
  if (torn.length === 0) return { taken, gaps: [] };
  const missing = await missingEntries(tx, workspaceId);
  const before = torn.flatMap((share) => {
    const number = missing.get(share.chainId);
    return number !== undefined && number > share.folded + 1 ? [{ ...share, last: number - 1 }] : [];
  });
  const rest = await readWhole(tx, workspaceId, before);
  const all = [...taken, ...rest.taken].sort((a, b) => (a.chainId < b.chainId ? -1 : 1));
  const end = all.reduce((sum, { hashes }) => sum + hashes.length, size);
  const gaps = torn.map(({ chainId, folded }) => ({ chainId, number: missing.get(chainId) ?? folded + 1, index: end }));
  return { taken: all, gaps };
}

/** Entries in which a missing one is looked for, of each chain; more than one fold takes. */
const MOST_LOOKED = 8_192;

/** The first entry of each chain that is in no log and not there, though its chain goes on behind it. */
export async function missingEntries(from: Kysely<Schema>, workspaceId: string): Promise<Map<string, number>> {
  const { rows } = await sql<Row>`
    select c.chain_id, m.n from audit_chains c
    left join audit_log_chains f on f.workspace_id = c.workspace_id and f.chain_id = c.chain_id
    cross join lateral (
      select n from generate_series(coalesce(f.folded_n, 0) + 1, least(c.last_n, coalesce(f.folded_n, 0) + ${MOST_LOOKED})) as n
      where not exists (
        select from audit_entries e where e.workspace_id = c.workspace_id and e.chain_id = c.chain_id and e.n = n.n
          and length(e.hash) = ${HASH_BYTES}
      ) order by n limit 1
    ) m
    where c.workspace_id = ${workspaceId} and not c.sealed and c.last_n > coalesce(f.folded_n, 0)`.execute(from);
  return new Map(rows.map((row) => [row.chain_id as string, row.n as number]));
}

/** The hashes of the entries, and the shares that are not whole. */
async function readWhole(tx: Kysely<Schema>, workspaceId: string, shares: readonly GrownChain[]) {
  const { rows } = await sql<Row>`
    select c.chain_id, c.folded, c.last, string_agg(e.hash, ''::bytea order by e.n) as hashes,
           count(*)::int4 as count, min(e.n) as first, max(e.n) as found
    from unnest(
      ${textArray(shares, (s) => s.chainId)}::text[], ${int8Array(shares, (s) => s.folded)}::int8[],
      ${int8Array(shares, (s) => s.last)}::int8[]) as c(chain_id, folded, last)
    left join lateral (
      select n, hash from audit_entries e
      where e.workspace_id = ${workspaceId} and e.chain_id = c.chain_id and e.n > c.folded and e.n <= c.last
    ) e on true
    group by c.chain_id, c.folded, c.last order by c.chain_id`.execute(tx);
  const taken: TakenChain[] = [];
  const torn: GrownChain[] = [];
  for (const row of rows) {
    const [chainId, folded, last] = [row.chain_id as string, row.folded as number, row.last as number];
    if (last === folded) continue;
    const hashes = (row.hashes ?? new Uint8Array()) as Uint8Array;
    const isWhole = row.count === last - folded && row.first === folded + 1 && row.found === last;
    if (isWhole && hashes.length === (last - folded) * HASH_BYTES) {
      taken.push({ chainId, folded, last, hashes: splitHashes(hashes) });
    } else {
      torn.push({ chainId, folded, last });
    }
  }
  return { taken, torn };
}

/** Those of the tiles that there are. */
export async function readTiles(from: Kysely<Schema>, workspaceId: string, keys: readonly TileKey[]): Promise<Tile[]> {
  if (keys.length === 0) return [];
  const { rows } = await sql<Row>`
    select t.level, t.index, t.hashes
    from unnest(${int2Array(keys, (k) => k.level)}::int2[], ${int8Array(keys, (k) => k.index)}::int8[]) as k(level, index)
    join audit_tiles t on t.workspace_id = ${workspaceId} and t.level = k.level and t.index = k.index`.execute(from);
  return rows.map((row) => ({
    level: row.level as number,
    index: row.index as number,
    hashes: row.hashes as Uint8Array,
  }));
}
