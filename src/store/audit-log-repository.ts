/**
 * The audit log as it is proven: what chains have grown by is folded into the one order of their workspace, in one transaction with
 * the tree over it and the signed checkpoint. Whoever folds has the row of the log; so there is one order, and one root for a size.
 */
import { type Kysely, sql } from "kysely";
import { type Note, originOf } from "../domain/audit/checkpoint.ts";
import { checkpointFault, type StoredCheckpoint, shrunkFault } from "../domain/audit/checkpoint-faults.ts";
import type { Fault } from "../domain/audit/fault.ts";
import { edgeOf, grow, hashesOf, planRoot, type Tile } from "../domain/audit/tiles.ts";
import {
  type ChainGap,
  type GrownChain,
  grownChains,
  type LogSpan,
  readHashes,
  readTiles,
  type TakenChain,
} from "./audit-fold-reads.ts";
import type { Database, Row, Statement } from "./database.ts";
import { byteaArray, int2Array, int8Array, textArray } from "./pg-arrays.ts";
import type { Schema } from "./schema.ts";

/** Who signs checkpoints. */
export interface CheckpointSigner {
  /** The key that must be the one in use. */
  readonly publicKey: Uint8Array;
  /** What the logs are called. */
  readonly origin: string;
  /** Whether a checkpoint is signed by this key, or one that was in use before it. */
  believes(note: Note): boolean;
  /** The note for a log of that size and root. */
  sign(workspaceId: string, size: number, root: Uint8Array): string;
}

/**
 * - FOLDED: there is a new checkpoint. `more`: there may be more at once.
 * - IDLE: no chain has grown.
 * - BUSY: another replica folds.
 * - OTHER_KEY: another key is in use.
 * - DAMAGED: the log is not what was signed last, and nothing is signed that goes on from it.
 */
export type FoldOutcome =
  | { status: "FOLDED"; size: number; entries: number; more: boolean; gaps: ChainGap[] }
  | { status: "IDLE" | "BUSY" | "OTHER_KEY"; gaps: ChainGap[] }
  | { status: "DAMAGED"; fault: Fault; gaps: ChainGap[] };

/** How far the logs are behind their chains. */
export interface AuditLag {
  /** Entries that are in no log yet. */
  entries: number;
  /** Age of the oldest of them, by the database's clock. */
  seconds: number;
}

export interface AuditLogRepository {
  /** The workspaces that have chains with entries that are in no log, unless there was a checkpoint a moment ago. */
  grown(): Promise<string[]>;
  /** Folds at most `most` entries into the log of a workspace. */
  fold(workspaceId: string, signer: CheckpointSigner, most: number): Promise<FoldOutcome>;
  lag(): Promise<AuditLag>;
  /** Seals the chains of replicas that are gone, once all of them is in the log. One that grows after all is open again at once. */
  seal(): Promise<void>;
}

/** How long after its end a replica may still have a statement under way. */
const LATE = sql.raw("interval '10 minutes'");
/** Logs whose last note is remembered. */
const MOST_NOTES = 10_000;

/** Shortest time between the checkpoints of a log, however many replicas look, while nothing is left over from the last. */
const REST = "interval '300 milliseconds'";

const GROWN: Statement = {
  name: "audit-grown-v2",
  // A checkpoint of the future is one of before the clock was set back.
  text: `
    select distinct c.workspace_id from audit_chains c
    left join audit_log_chains f on f.workspace_id = c.workspace_id and f.chain_id = c.chain_id
    where not c.sealed and c.last_n > coalesce(f.folded_n, 0) and not exists (
      select from (
        select created_at from audit_checkpoints p where p.workspace_id = c.workspace_id order by size desc limit 1
      ) l where l.created_at > clock_timestamp() - ${REST} and l.created_at <= clock_timestamp())`,
};

const LAG: Statement = {
  name: "audit-lag-v1",
  text: `
    select coalesce(sum(c.last_n - coalesce(f.folded_n, 0)), 0)::bigint as entries,
           coalesce(extract(epoch from clock_timestamp() - min(e.at)), 0)::float8 as seconds
    from audit_chains c
    left join audit_log_chains f on f.workspace_id = c.workspace_id and f.chain_id = c.chain_id
    left join audit_entries e
      on e.workspace_id = c.workspace_id and e.chain_id = c.chain_id and e.n = coalesce(f.folded_n, 0) + 1
    where not c.sealed and c.last_n > coalesce(f.folded_n, 0)`,
};

export function createAuditLogRepository(db: Database): AuditLogRepository {
  const { kysely } = db;
  /** The last note of each log that was signed here: it need not be checked. */
  const ownNotes = new Map<string, string>();

  function remember(workspaceId: string, note: string): void {
    ownNotes.delete(workspaceId);
    ownNotes.set(workspaceId, note);
    if (ownNotes.size > MOST_NOTES) ownNotes.delete(ownNotes.keys().next().value!);
  }

  /** Whoever has the database can write entries, tiles and sizes; what goes on from them is signed only if they were signed, too. */
  function faultOf(workspaceId: string, { size, last }: LockedLog, edge: readonly Tile[], signer: CheckpointSigner) {
    if (size === 0 && !last) return undefined;
    if (size !== last?.size) return shrunkFault(size, last?.size ?? 0);
    const [root] = hashesOf(planRoot(size), edge);
    const isBelieved = (note: Note) => ownNotes.get(workspaceId) === last.note || signer.believes(note);
    return checkpointFault(last, root!, originOf(signer.origin, workspaceId), isBelieved);
  }

  return {
    grown: async () => (await db.query(GROWN, [])).map((row) => row.workspace_id as string),

    async fold(workspaceId, signer, most) {
      let signed = "";
      const outcome = await kysely.transaction().execute<FoldOutcome>(async (tx) => {
        const log = await lockLog(tx, workspaceId, signer.publicKey);
        if (log.status !== "LOCKED") return { status: log.status, gaps: [] };
        const { size, lastSpan } = log;
        const chains = await grownChains(tx, workspaceId);
        const shares = sharesOf(chains, most);
        const { taken, gaps } = await readHashes(tx, workspaceId, shares, size);
        const entries = taken.reduce((sum, { hashes }) => sum + hashes.length, 0);
        if (entries === 0) return { status: "IDLE", gaps };
        const edge = await readTiles(tx, workspaceId, edgeOf(size));
        const fault = faultOf(workspaceId, log, edge, signer);
        if (fault) return { status: "DAMAGED", fault, gaps };
        const grown = grow(
          size,
          edge,
          taken.flatMap(({ hashes }) => hashes),
        );
        const note = signer.sign(workspaceId, grown.size, grown.root);
        signed = note;
        const { spans, extended } = spansOf(size, taken, lastSpan);
        await sql`
          with tiles as (
            insert into audit_tiles (workspace_id, level, index, hashes)
            select ${workspaceId}, * from unnest(
              ${int2Array(grown.tiles, (t) => t.level)}::int2[], ${int8Array(grown.tiles, (t) => t.index)}::int8[],
              ${byteaArray(grown.tiles, (t) => t.hashes)}::bytea[])
            on conflict (workspace_id, level, index) do update set hashes = excluded.hashes
          ), chains as (
            insert into audit_log_chains (workspace_id, chain_id, folded_n)
            select ${workspaceId}, * from unnest(
              ${textArray(taken, (t) => t.chainId)}::text[], ${int8Array(taken, (t) => t.last)}::int8[])
            on conflict (workspace_id, chain_id) do update set folded_n = excluded.folded_n
          ), spans as (
            insert into audit_spans (workspace_id, first_index, chain_id, first_n, count)
            select ${workspaceId}, * from unnest(
              ${int8Array(spans, (s) => s.firstIndex)}::int8[], ${textArray(spans, (s) => s.chainId)}::text[],
              ${int8Array(spans, (s) => s.firstNumber)}::int8[], ${int8Array(spans, (s) => s.count)}::int8[])
          ), last_span as (
            update audit_spans set count = count + ${extended}
            where workspace_id = ${workspaceId} and first_index = ${lastSpan?.firstIndex ?? -1} and ${extended}::int8 > 0
          ), log as (
            update audit_logs set size = ${grown.size} where workspace_id = ${workspaceId}
          )
          insert into audit_checkpoints (workspace_id, size, root, note, created_at)
          values (${workspaceId}, ${grown.size}, ${grown.root}, ${note}, clock_timestamp())`.execute(tx);
        const pending = chains.reduce((sum, { last, folded }) => sum + last - folded, 0);
        return { status: "FOLDED", size: grown.size, entries, more: pending > entries && gaps.length === 0, gaps };
      });
      if (outcome.status === "FOLDED") remember(workspaceId, signed);
      return outcome;
    },

    async lag() {
      const [row] = await db.query(LAG, []);
      return { entries: row!.entries as number, seconds: Math.max(0, row!.seconds as number) };
    },

    async seal() {
      await sql`
        update audit_chains c set sealed = true from audit_log_chains f
        where not c.sealed and f.workspace_id = c.workspace_id and f.chain_id = c.chain_id and f.folded_n = c.last_n
          and not exists (
            select from replicas r where r.replica_id = split_part(c.chain_id, '/', 1)
              and (r.died_at is null or r.died_at > clock_timestamp() - ${LATE}))`.execute(kysely);
    },
  };
}

interface LockedLog {
  status: "LOCKED";
  size: number;
  lastSpan: LogSpan | undefined;
  /** The last checkpoint. */
  last: StoredCheckpoint | undefined;
}

async function lockLog(
  tx: Kysely<Schema>,
  workspaceId: string,
  publicKey: Uint8Array,
): Promise<LockedLog | { status: "BUSY" | "OTHER_KEY" }> {
  const lock = async () => {
    const { rows } = await sql<Row>`
      select l.size, k.public_key, s.first_index, s.chain_id, s.first_n, s.count, p.size as last_size, p.root, p.note
      from (select size from audit_logs where workspace_id = ${workspaceId} for no key update skip locked) l
      left join lateral (select public_key from audit_keys order by number desc limit 1) k on true
      left join lateral (
        select * from audit_spans where workspace_id = ${workspaceId} order by first_index desc limit 1
      ) s on true
      left join lateral (
        select size, root, note from audit_checkpoints where workspace_id = ${workspaceId} order by size desc limit 1
      ) p on true`.execute(tx);
    return rows[0];
  };
  let row = await lock();
  if (!row) {
    await sql`insert into audit_logs (workspace_id) values (${workspaceId}) on conflict do nothing`.execute(tx);
    row = await lock();
  }
  // What stands beside the row was read before it was locked: another may have folded in between.
  if (row && row.size !== (row.last_size ?? 0)) row = await lock();
  if (!row) return { status: "BUSY" };
  const active = row.public_key as Uint8Array | null;
  if (!active || Buffer.compare(active, publicKey) !== 0) return { status: "OTHER_KEY" };
  return {
    status: "LOCKED",
    size: row.size as number,
    lastSpan:
      row.first_index === null
        ? undefined
        : {
            firstIndex: row.first_index as number,
            chainId: row.chain_id as string,
            firstNumber: row.first_n as number,
            count: row.count as number,
          },
    last:
      row.last_size === null
        ? undefined
        : { size: row.last_size as number, root: row.root as Uint8Array, note: row.note as string },
  };
}

/** How much of each chain is taken: all, or where that is too much, of each as much as of the others. */
function sharesOf(chains: readonly GrownChain[], most: number): GrownChain[] {
  let left = most;
  const byLength = chains.toSorted((a, b) => a.last - a.folded - (b.last - b.folded));
  const upTo = new Map<string, number>();
  for (const [i, { chainId, folded, last }] of byLength.entries()) {
    const take = Math.min(last - folded, Math.floor(left / (chains.length - i)));
    left -= take;
    upTo.set(chainId, folded + take);
  }
  return chains.map((chain) => ({ ...chain, last: upTo.get(chain.chainId)! }));
}

/** The new spans, and by how much the last one there is grows. */
function spansOf(size: number, taken: readonly TakenChain[], last: LogSpan | undefined) {
  const spans: LogSpan[] = [];
  let extended = 0;
  let index = size;
  for (const { chainId, folded, hashes } of taken) {
    const isLast = index === size && last && last.firstIndex + last.count === size;
    const goesOn = isLast && last.chainId === chainId && last.firstNumber + last.count === folded + 1;
    if (goesOn) extended = hashes.length;
    else spans.push({ firstIndex: index, chainId, firstNumber: folded + 1, count: hashes.length });
    index += hashes.length;
  }
  return { spans, extended };
}
