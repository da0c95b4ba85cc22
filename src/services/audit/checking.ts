/**
 * Reads a log again and checks it against itself, a tile of entries at a time: each entry's hash is that of its leaf, each tile's root
 * that of the level above, the whole the root that was signed, and so was each checkpoint before.
 */
import { isSignedBy, keysAfter, originOf, verifierKey } from "../../domain/audit/checkpoint.ts";
import { checkpointFault, shrunkFault } from "../../domain/audit/checkpoint-faults.ts";
import { auditLine, lineHash } from "../../domain/audit/entry.ts";
import { entryFault, type Fault, gapFault, logFault, missingFault, TILES_MISSING } from "../../domain/audit/fault.ts";
import { createTree, HASH_BYTES } from "../../domain/audit/merkle.ts";
import {
  fullRoot,
  hashesOf,
  planRoot,
  planSubtrees,
  splitHashes,
  TILE_HASHES,
  tilesOf,
} from "../../domain/audit/tiles.ts";
import type { LogSpan } from "../../store/audit-fold-reads.ts";
import type { AuditKeyRepository } from "../../store/audit-key-repository.ts";
import type { AuditLogReads, CheckpointRecord, LogEntry } from "../../store/audit-log-reads.ts";

/** How far a check is, and what it has found since it told last. */
export interface CheckStep {
  /** Entries that were checked, of how many. */
  verified: number;
  total: number;
  faults: Fault[];
  /** What the step has cost, in entries: a signature takes as long as several. */
  cost: number;
}

export interface AuditCheckDeps {
  reads: AuditLogReads;
  keys: Pick<AuditKeyRepository, "keys">;
  /** What the logs are called. */
  origin: string;
  /** The key of this server, if it has one: of those after it, only what it has signed is believed. */
  own?: Uint8Array | undefined;
}

/** Checks the log of a workspace as it stands, from the tile with the entry `start` on. */
export type AuditCheck = (workspaceId: string, start: number) => AsyncGenerator<CheckStep>;

/** Checkpoints that are read at once. */
const PAGE = 100;
/** Entries that can be checked in the time that a signature takes. */
const SIGNATURE_COST = 50;

/** What a check has of the log before it, and of what it has read. */
interface Memory {
  size: number;
  root: Buffer;
}

export function createAuditCheck({ reads, keys, origin, own }: AuditCheckDeps): AuditCheck {
  /** What each log was when it was checked last: it only grows, as long as this process lives. */
  const known = new Map<string, Memory>();

  return async function* check(workspaceId, start) {
    const before = known.get(workspaceId);
    const had = Math.max(before?.size ?? 0, await reads.size(workspaceId));
    const latest = await reads.checkpoint(workspaceId);
    const last = latest?.size ?? 0;
    const shrunk = last < had ? [shrunkFault(had, last)] : [];
    if (!latest) {
      if (had > 0) yield { verified: 0, total: 0, faults: shrunk, cost: 1 };
      return;
    }
    const { size } = latest;
    const name = originOf(origin, workspaceId);
    const believed = (await believedKeys()).map((publicKey) => verifierKey(name, publicKey));
    const firstTile = Math.floor(Math.min(start, size) / TILE_HASHES);
    const from = firstTile * TILE_HASHES;
    const total = size - from;

    const faultOf = (stored: CheckpointRecord, treeRoot: Buffer): Fault | undefined =>
      checkpointFault(stored, treeRoot, name, (note) => believed.some((key) => isSignedBy(note, key)));

    const subtrees = await planned(planSubtrees(from), workspaceId);
    const root = await planned(planRoot(size), workspaceId);
    if (!subtrees || !root) {
      yield { verified: 0, total, faults: [logFault("TREE", 0, TILES_MISSING), ...shrunk], cost: 1 };
      return;
    }
    const signed = faultOf(latest, root[0]!);
    const ends = [signed, await forked(workspaceId, before, size), ...(await looseEnds(workspaceId, size)), ...shrunk];
    yield { verified: 0, total, faults: ends.filter((fault) => fault !== undefined), cost: SIGNATURE_COST };
    // Another check of this log may have seen more of it by now.
    if (!signed && size >= (known.get(workspaceId)?.size ?? 0)) known.set(workspaceId, { size, root: root[0]! });

    const tree = createTree(from, subtrees);
    const chains = createChainCheck(from > 0);
    let checkpoints = await reads.checkpoints(workspaceId, from, PAGE);
    for (let tile = firstTile; tile * TILE_HASHES < size; tile++) {
      const end = Math.min(size, (tile + 1) * TILE_HASHES);
      const { leaves, faults } = await checkTile(workspaceId, tile, end);
      faults.push(...chains.goOn(await reads.spans(workspaceId, tile * TILE_HASHES, end, TILE_HASHES)));
      let cost = end - tile * TILE_HASHES;
      for (const leaf of leaves) {
        tree.append(leaf);
        if (tree.size !== checkpoints[0]?.size) continue;
        const checkpoint = checkpoints[0];
        const fault = faultOf(checkpoint, tree.root());
        if (fault && tree.size < size) faults.push(fault);
        checkpoints = checkpoints.slice(1);
        cost += SIGNATURE_COST;
        if (checkpoints.length === 0) checkpoints = await reads.checkpoints(workspaceId, checkpoint.size, PAGE);
      }
      // Without the leaves of a tile nothing can be said of what comes behind them.
      if (tree.size < end) {
        yield { verified: tree.size - from, total, faults, cost };
        return;
      }
      yield { verified: end - from, total, faults, cost };
    }
  };

  async function planned(plan: ReturnType<typeof planRoot>, workspaceId: string): Promise<Buffer[] | undefined> {
    try {
      return hashesOf(plan, await reads.tiles(workspaceId, tilesOf(plan)));
    } catch (error) {
      if (error instanceof RangeError) return undefined;
      throw error;
    }
  }

  /** Where this server has a key, one that somebody has put behind it is not believed by that alone. */
  async function believedKeys(): Promise<Uint8Array[]> {
    const all = await keys.keys();
    const at = own ? all.findIndex(({ publicKey }) => Buffer.compare(publicKey, own) === 0) : -1;
    if (at < 0) return all.map(({ publicKey }) => publicKey);
    return [...all.slice(0, at).map(({ publicKey }) => publicKey), ...keysAfter(own!, all, origin)];
  }

  /** Whether the log begins with what it was when it was checked before. */
  async function forked(workspaceId: string, before: Memory | undefined, size: number): Promise<Fault | undefined> {
    if (!before || before.size > size) return undefined;
    const root = await planned(planRoot(before.size), workspaceId);
    if (root && Buffer.compare(root[0]!, before.root) === 0) return undefined;
    return logFault("TREE", 0, `The first ${before.size} entries are not those that were there before.`);
  }

  /** What is wrong with what is in no log yet. */
  async function looseEnds(workspaceId: string, size: number): Promise<Fault[]> {
    const found = await reads.beyondEnd(workspaceId);
    const missing = await reads.missing(workspaceId);
    return [
      ...(found
        ? [entryFault("INSERTED", size, found.chainId, found.number, "stands behind the end of its chain.")]
        : []),
      ...missing.map(({ chainId, number }) => missingFault(size, chainId, number)),
    ];
  }

  async function checkTile(workspaceId: string, index: number, end: number) {
    const start = index * TILE_HASHES;
    const upper = { level: 1, index: Math.floor(index / TILE_HASHES) };
    const tiles = await reads.tiles(workspaceId, [{ level: 0, index }, upper]);
    const leaves = splitHashes(tiles.find(({ level }) => level === 0)?.hashes ?? new Uint8Array());
    const faults: Fault[] = [];
    if (leaves.length < end - start) {
      faults.push(logFault("TREE", start, `The tile of the entries ${start} to ${end - 1} is not whole.`));
      return { leaves: [], faults };
    }
    const above = tiles.find(({ level }) => level === 1);
    if (end - start === TILE_HASHES && !isInUpper(leaves, index, above?.hashes)) {
      faults.push(logFault("TREE", start, `The tree above the entries ${start} to ${end - 1} is not theirs.`));
    }
    const hashes = leaves.slice(0, end - start);
    faults.push(...entryFaults(hashes, start, await reads.entries(workspaceId, start, end)));
    return { leaves: hashes, faults };
  }
}

/** Follows the numbers of chains through the log. `isPart`: it does not begin with the log, and chains may have begun before. */
function createChainCheck(isPart: boolean) {
  const lasts = new Map<string, number>();
  return {
    goOn: (spans: readonly LogSpan[]): Fault[] =>
      spans.flatMap(({ firstIndex, chainId, firstNumber, count }) => {
        const last = lasts.get(chainId) ?? (isPart ? firstNumber - 1 : 0);
        lasts.set(chainId, firstNumber + count - 1);
        if (firstNumber === last + 1) return [];
        return gapFault(firstIndex, chainId, last, firstNumber);
      }),
  };
}

function isInUpper(leaves: readonly Uint8Array[], index: number, upper: Uint8Array | undefined): boolean {
  const at = (index % TILE_HASHES) * HASH_BYTES;
  const stored = upper?.subarray(at, at + HASH_BYTES);
  return stored?.length === HASH_BYTES && Buffer.compare(fullRoot(Buffer.concat(leaves)), stored) === 0;
}

/** What is wrong with the entries whose leaves these are. */
function entryFaults(leaves: readonly Uint8Array[], start: number, entries: readonly LogEntry[]): Fault[] {
  const byIndex = new Map(entries.map((entry) => [entry.index!, entry]));
  const known = new Set(leaves.map((leaf) => Buffer.from(leaf).toString("hex")));
  /** What the entry after each faulty one calls it: its own line cannot be made again. */
  const faulty = new Set<string>();
  return leaves.flatMap((leaf, i) => {
    const index = start + i;
    const entry = byIndex.get(index);
    if (!entry) return logFault("REMOVED", index, `Entry ${index} is missing.`);
    const { chainId, number, previous, body, hash } = entry;
    const isStored = Buffer.compare(hash, leaf) === 0;
    const found = previous === undefined ? undefined : lineHash(auditLine(chainId, number, previous, body));
    const isHashed = found !== undefined && Buffer.compare(found, leaf) === 0;
    if (isStored && (isHashed || !found || faulty.has(`${chainId} ${number}`))) return [];
    faulty.add(`${chainId} ${number + 1}`);
    const fault = (kind: Fault["kind"], what: string) => entryFault(kind, index, chainId, number, what);
    if (isHashed) return fault("EDITED", "was edited: the hash that is stored with it is another one.");
    if (found && known.has(found.toString("hex"))) return fault("REORDERED", "stands in another place.");
    return fault("EDITED", "was edited: it does not come to its hash.");
  });
}
