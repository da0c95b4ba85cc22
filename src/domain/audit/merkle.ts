/**
 * Merkle trees after RFC 6962, section 2.1: the hash of a tree over the hashes of its leaves, in the order in which they come, without
 * keeping them. What is kept of `size` leaves is the root of a full subtree for each bit of that number. Pure.
 */
import { hash } from "node:crypto";
import { createNodeHasher, MOST_NODES, type NodeHasher } from "./node-hashes.ts";

/** Bytes of a SHA-256. */
export const HASH_BYTES = 32;

/** The root of a tree without leaves: SHA-256 over nothing. */
export const EMPTY_ROOT: Buffer = hash("sha256", "", "buffer");

const pair = Buffer.alloc(1 + 2 * HASH_BYTES);
pair[0] = 1;

/** The hash of an inner node: SHA-256 over a byte of 1 and the hashes of both its sides. */
export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  pair.set(left, 1);
  pair.set(right, 1 + HASH_BYTES);
  // A string of bytes is made in a fifth of the time that a buffer takes.
  return Buffer.from(hash("sha256", pair, "binary"), "binary");
}

/** The root of a tree whose leaves have these hashes. */
export function rootOf(leaves: readonly Uint8Array[]): Buffer {
  const tree = createTree();
  for (const leaf of leaves) tree.append(leaf);
  return tree.root();
}

/** The roots of the full subtrees that a tree consists of, from the left, come to its own root. */
export function foldedRoot(subtrees: readonly Uint8Array[]): Buffer {
  if (subtrees.length === 0) return EMPTY_ROOT;
  return Buffer.from(subtrees.reduceRight((right, left) => nodeHash(left, right)));
}

/** How many full subtrees a tree of that many leaves consists of: the ones of the number. */
export function subtreeCount(size: number): number {
  let ones = 0;
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) ones += rest % 2;
  return ones;
}

/** A tree that grows at its right end. */
export interface Tree {
  readonly size: number;
  append(leaf: Uint8Array): void;
  /** The root by now. */
  root(): Buffer;
  /** The roots of the full subtrees that it consists of, from the left: all that is needed to go on with it. */
  subtrees(): Buffer[];
}

/** A tree that has `size` leaves already, of which nothing but `subtrees` is known. */
export function createTree(size = 0, subtrees: readonly Uint8Array[] = []): Tree {
  const stack: Buffer[] = subtrees.map((subtree) => Buffer.from(subtree));
  let count = size;
  return {
    get size() {
      return count;
    },
    append(leaf) {
      let top: Buffer = Buffer.from(leaf);
      for (let rest = count; rest % 2 === 1; rest = (rest - 1) / 2) top = nodeHash(stack.pop()!, top);
      stack.push(top);
      count += 1;
    },
    root: () => foldedRoot(stack),
    subtrees: () => [...stack],
  };
}

/** Leaves in a block of a `FastTree`. */
const BLOCK = 2 * MOST_NODES;

/** A tree that is given very many leaves: it hashes the inner nodes of a block of them together. */
export interface FastTree {
  readonly size: number;
  /** The hash of a leaf, as a string of 32 characters, each a byte: that is made faster than a buffer. */
  append(leaf: string): void;
  root(): Buffer;
}

/** As `createTree`. */
export function createFastTree(size = 0, subtrees: readonly Uint8Array[] = []): FastTree {
  /** Leaves before the first block, one by one. */
  const before = createTree(size, subtrees);
  /** The roots of whole blocks, as leaves of a tree: its subtrees are those of the whole one. */
  let blocks: { hasher: NodeHasher; whole: Tree; open: number } | undefined;

  return {
    get size() {
      return blocks ? blocks.whole.size * BLOCK + blocks.open : before.size;
    },
    append(leaf) {
      if (!blocks) {
        before.append(Buffer.from(leaf, "binary"));
        if (before.size % BLOCK !== 0) return;
        blocks = { hasher: createNodeHasher(), whole: createTree(before.size / BLOCK, before.subtrees()), open: 0 };
        return;
      }
      const { hashes, reduce } = blocks.hasher;
      hashes.write(leaf, blocks.open * HASH_BYTES, "latin1");
      blocks.open += 1;
      if (blocks.open < BLOCK) return;
      for (let nodes = MOST_NODES; nodes >= 1; nodes /= 2) reduce(nodes);
      blocks.whole.append(hashes.subarray(0, HASH_BYTES));
      blocks.open = 0;
    },
    root() {
      if (!blocks) return before.root();
      const { whole, open, hasher } = blocks;
      const all = createTree(whole.size * BLOCK, whole.subtrees());
      for (let i = 0; i < open; i++) all.append(hasher.hashes.subarray(i * HASH_BYTES, (i + 1) * HASH_BYTES));
      return all.root();
    },
  };
}
