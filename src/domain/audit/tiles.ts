/**
 * A Merkle tree in tiles, as C2SP's tlog-tiles has it: a tile of level 0 holds the hashes of 256 leaves, one of level 1 the roots of
 * 256 full tiles of level 0, and so on. Every root and every proof is made of a few of them. Here is which, and how. Pure.
 */
import { foldedRoot, HASH_BYTES, nodeHash } from "./merkle.ts";

/** Hashes in a full tile. */
export const TILE_HASHES = 256;
const TILE_HEIGHT = 8;

export interface TileKey {
  level: number;
  index: number;
}

/** The hashes of a tile, one after the other. The last tile of a level may have fewer than 256. */
export interface Tile extends TileKey {
  hashes: Uint8Array;
}

/** A full subtree: the leaves from `index * 2 ** height` on, `2 ** height` of them. */
interface Subtree {
  height: number;
  index: number;
}

/** The hashes of a proof, or one that is a root: each the subtrees, from the left, that come to it. */
export type Plan = readonly (readonly Subtree[])[];

/** The full subtrees of the leaves from `start` up to `end`, largest first. `start` must be a multiple of the largest one's size. */
function subtreesOf(start: number, end: number): Subtree[] {
  const found: Subtree[] = [];
  for (let at = start; at < end; ) {
    const height = Math.floor(Math.log2(end - at));
    const width = 2 ** height;
    found.push({ height, index: at / width });
    at += width;
  }
  return found;
}

/** The greatest power of two below a size of two or more. */
const splitOf = (size: number): number => 2 ** Math.ceil(Math.log2(size) - 1);

/** What the root of the tree of that size is made of. */
export const planRoot = (size: number): Plan => [subtreesOf(0, size)];

/** What the roots are made of from which a tree of that size goes on. */
export const planSubtrees = (size: number): Plan => subtreesOf(0, size).map((subtree) => [subtree]);

/** What proves that the leaf `index` is in the tree of `size` leaves (RFC 6962, section 2.1.1). */
export function planInclusion(index: number, size: number): Plan {
  const plan: Subtree[][] = [];
  for (let [start, end] = [0, size]; end - start > 1; ) {
    const middle = start + splitOf(end - start);
    if (index < middle) {
      plan.unshift(subtreesOf(middle, end));
      end = middle;
    } else {
      plan.unshift(subtreesOf(start, middle));
      start = middle;
    }
  }
  return plan;
}

/** What proves that the tree of `second` leaves begins with that of `first` (RFC 6962, section 2.1.2). */
export function planConsistency(first: number, second: number): Plan {
  if (first === 0 || first === second) return [];
  const plan: Subtree[][] = [];
  let [start, end] = [0, second];
  while (end !== first) {
    const middle = start + splitOf(end - start);
    if (first <= middle) {
      plan.unshift(subtreesOf(middle, end));
      end = middle;
    } else {
      plan.unshift(subtreesOf(start, middle));
      start = middle;
    }
  }
  // Whoever has the first root has this one, if it is all of the first tree.
  return start === 0 ? plan : [subtreesOf(start, end), ...plan];
}

const tileOf = ({ height, index }: Subtree) => {
  const level = Math.floor(height / TILE_HEIGHT);
  const count = 2 ** (height % TILE_HEIGHT);
  const first = index * count;
  return { level, index: Math.floor(first / TILE_HASHES), from: first % TILE_HASHES, count };
};

const nameOf = ({ level, index }: TileKey): string => `${level}/${index}`;

/** The tiles that a plan reads, each once. */
export function tilesOf(plan: Plan): TileKey[] {
  const tiles = new Map<string, TileKey>();
  for (const subtree of plan.flat()) {
    const { level, index } = tileOf(subtree);
    tiles.set(nameOf({ level, index }), { level, index });
  }
  return [...tiles.values()];
}

/** The hashes that were planned. Throws RangeError when a tile is missing, or too short: the log is damaged. */
export function hashesOf(plan: Plan, tiles: readonly Tile[]): Buffer[] {
  const byName = new Map(tiles.map((tile) => [nameOf(tile), tile.hashes]));
  function subtreeHash(subtree: Subtree): Buffer {
    const { from, count, ...key } = tileOf(subtree);
    const hashes = byName.get(nameOf(key))?.subarray(from * HASH_BYTES, (from + count) * HASH_BYTES);
    if (hashes?.length !== count * HASH_BYTES) throw new RangeError(`tile ${nameOf(key)} of the tree is not whole`);
    return fullRoot(hashes);
  }
  return plan.map((subtrees) => foldedRoot(subtrees.map(subtreeHash)));
}

/** The root over a power of two of hashes, as those of a full tile. */
export function fullRoot(hashes: Uint8Array): Buffer {
  let level = splitHashes(hashes);
  while (level.length > 1) {
    const above: Uint8Array[] = [];
    for (let i = 0; i < level.length; i += 2) above.push(nodeHash(level[i]!, level[i + 1]!));
    level = above;
  }
  return Buffer.from(level[0]!);
}

/** Hashes that stand one after the other, one by one; without copying them. */
export function splitHashes(hashes: Uint8Array): Uint8Array[] {
  return Array.from({ length: hashes.length / HASH_BYTES }, (_, i) =>
    hashes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES),
  );
}

/** The last tile of each level of a tree of that size, those that are full too; what a tree grows on from. */
export function edgeOf(size: number): TileKey[] {
  const edge: TileKey[] = [];
  for (let [level, width] = [0, size]; width > 0; level++) {
    if (width % TILE_HASHES !== 0) edge.push({ level, index: Math.floor(width / TILE_HASHES) });
    width = Math.floor(width / TILE_HASHES);
  }
  return edge;
}

/** What a tree of tiles became. */
export interface Grown {
  size: number;
  root: Buffer;
  /** All tiles that are new or longer, whole. */
  tiles: Tile[];
}

/** Adds leaves to a tree of `size` leaves, of which `edge` are the tiles that `edgeOf` names. Throws as `hashesOf` does. */
export function grow(size: number, edge: readonly Tile[], leaves: readonly Uint8Array[]): Grown {
  const changed = new Map<string, Tile>();
  const lasts = new Map<string, Uint8Array>();
  for (const key of edgeOf(size)) {
    const tile = edge.find(({ level, index }) => level === key.level && index === key.index);
    const wanted = (Math.floor(size / TILE_HASHES ** key.level) % TILE_HASHES) * HASH_BYTES;
    if (tile?.hashes.length !== wanted) throw new RangeError(`tile ${nameOf(key)} of the tree is not whole`);
    lasts.set(nameOf(key), tile.hashes);
  }
  let added = leaves;
  for (let level = 0; added.length > 0; level++) {
    const above: Uint8Array[] = [];
    let width = Math.floor(size / TILE_HASHES ** level);
    for (let at = 0; at < added.length; ) {
      const key = { level, index: Math.floor(width / TILE_HASHES) };
      const room = TILE_HASHES - (width % TILE_HASHES);
      const taken = added.slice(at, at + room);
      const hashes = Buffer.concat([lasts.get(nameOf(key)) ?? Buffer.alloc(0), ...taken]);
      changed.set(nameOf(key), { ...key, hashes });
      if (hashes.length === TILE_HASHES * HASH_BYTES) above.push(fullRoot(hashes));
      at += taken.length;
      width += taken.length;
    }
    added = above;
  }
  const grown = size + leaves.length;
  const tiles = [...changed.values()];
  // Beside what has changed, the root takes what has not at the right edge.
  const [root] = hashesOf(planRoot(grown), [...edge, ...tiles]);
  return { size: grown, root: root!, tiles };
}
