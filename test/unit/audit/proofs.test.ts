/** Proofs from tiles: each is proven, and nothing else is. */
import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { rootOf } from "../../../src/domain/audit/merkle.ts";
import { isConsistent, isIncluded } from "../../../src/domain/audit/proofs.ts";
import {
  edgeOf,
  grow,
  hashesOf,
  planConsistency,
  planInclusion,
  planRoot,
  type Tile,
  tilesOf,
} from "../../../src/domain/audit/tiles.ts";

const MOST = 600;
const leaves = Array.from({ length: MOST }, (_, i) => createHash("sha256").update(`leaf ${i}`).digest());
const roots = Array.from({ length: MOST + 1 }, (_, size) => rootOf(leaves.slice(0, size)));
const { tiles } = grow(0, [], leaves);

/** The hashes of a plan, from no more than the tiles that it names. */
function proofOf(plan: ReturnType<typeof planInclusion>): Buffer[] {
  const wanted = tilesOf(plan).map(({ level, index }) => tiles.find((t) => t.level === level && t.index === index)!);
  return hashesOf(plan, wanted);
}

const flipped = (hash: Uint8Array, byte: number): Buffer => {
  const other = Buffer.from(hash);
  other[byte % other.length]! ^= 1 << (byte % 8);
  return other;
};

test("the root of every size comes from its tiles, and every tree grows from its edge", () => {
  for (let size = 0; size <= MOST; size++) {
    expect(proofOf(planRoot(size))[0]!.equals(roots[size]!), `size ${size}`).toBe(true);
  }
  fc.assert(
    fc.property(fc.nat(MOST - 1), fc.integer({ min: 1, max: MOST }), (size, more) => {
      const to = Math.min(MOST, size + more);
      const before: readonly Tile[] = grow(0, [], leaves.slice(0, size)).tiles;
      const edge = edgeOf(size).map(({ level, index }) => before.find((t) => t.level === level && t.index === index)!);
      expect(grow(size, edge, leaves.slice(size, to)).root.equals(roots[to]!)).toBe(true);
    }),
  );
});

/** Sizes with a place in them, or a size before them: all of the small ones, and some of all. */
const small = Array.from({ length: 40 }, (_, size) => Array.from({ length: size }, (_, at) => ({ size, at }))).flat();
const pairs = fc
  .integer({ min: 1, max: MOST })
  .chain((size) => fc.record({ size: fc.constant(size), at: fc.nat(size - 1) }));

test("an entry is proven to be where it is, and nowhere else", () => {
  const check = ({ size, at }: { size: number; at: number }, byte: number, elsewhere: number) => {
    const proof = proofOf(planInclusion(at, size));
    const place = { index: at, size, proof, root: roots[size]! };
    const leaf = leaves[at]!;
    expect(isIncluded(leaf, place), `${at} of ${size}`).toBe(true);
    expect(isIncluded(flipped(leaf, byte), place)).toBe(false);
    expect(isIncluded(leaf, { ...place, root: flipped(roots[size]!, byte) })).toBe(false);
    const other = elsewhere % (size + 1);
    if (other !== at) expect(isIncluded(leaf, { ...place, index: other }), `${at} as ${other} of ${size}`).toBe(false);
    expect(isIncluded(leaf, { ...place, proof: [...proof, leaf] })).toBe(false);
    expect(isIncluded(leaf, { ...place, index: -1 })).toBe(false);
    for (const [i, hash] of proof.entries()) {
      expect(isIncluded(leaf, { ...place, proof: proof.with(i, flipped(hash, byte)) })).toBe(false);
      expect(isIncluded(leaf, { ...place, proof: proof.toSpliced(i, 1) })).toBe(false);
    }
  };
  for (const pair of small) check(pair, pair.at, pair.at + 1);
  fc.assert(fc.property(pairs, fc.nat(), fc.nat(), check), { numRuns: 300 });
});

test("a log is proven to begin with what it was, and with nothing else", () => {
  const check = ({ size, at }: { size: number; at: number }, byte: number) => {
    const growth = { firstSize: at, firstRoot: roots[at]!, secondSize: size, secondRoot: roots[size]! };
    const proof = proofOf(planConsistency(at, size));
    expect(isConsistent(growth, proof), `${at} and ${size}`).toBe(true);
    expect(isConsistent({ ...growth, firstRoot: flipped(roots[at]!, byte) }, proof)).toBe(false);
    expect(isConsistent(growth, [...proof, leaves[0]!])).toBe(false);
    expect(isConsistent({ ...growth, firstSize: size, secondSize: at }, proof)).toBe(false);
    // Every log begins with that of no entries.
    if (at > 0) expect(isConsistent({ ...growth, secondRoot: flipped(roots[size]!, byte) }, proof)).toBe(false);
    for (const [i, hash] of proof.entries()) {
      expect(isConsistent(growth, proof.with(i, flipped(hash, byte)))).toBe(false);
      expect(isConsistent(growth, proof.toSpliced(i, 1))).toBe(false);
    }
  };
  for (const pair of small) check(pair, pair.at);
  for (const size of [0, 1, 255, 256, 600]) {
    const same = { firstSize: size, firstRoot: roots[size]!, secondSize: size, secondRoot: roots[size]! };
    expect(isConsistent(same, proofOf(planConsistency(size, size)))).toBe(true);
    expect(isConsistent({ ...same, secondRoot: flipped(roots[size]!, size) }, [])).toBe(false);
  }
  fc.assert(fc.property(pairs, fc.nat(), check), { numRuns: 300 });
});

test("a tile that is missing or short is told", () => {
  expect(() =>
    hashesOf(
      planRoot(300),
      tiles.filter(({ level }) => level !== 0),
    ),
  ).toThrow(RangeError);
  expect(() => grow(300, [], leaves.slice(0, 1))).toThrow(RangeError);
});
