/** Checks that an entry is in a log, and that one log begins with another: RFC 9162, sections 2.1.3.2 and 2.1.4.2. Pure. */
import { EMPTY_ROOT, nodeHash } from "./merkle.ts";

const half = (number: number): number => Math.floor(number / 2);
const isOdd = (number: number): boolean => number % 2 === 1;
const isSame = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** Whether the leaf with this hash is at `index` of the tree of `size` leaves that has this root. */
export function isIncluded(
  leaf: Uint8Array,
  { index, size, proof, root }: { index: number; size: number; proof: readonly Uint8Array[]; root: Uint8Array },
): boolean {
  if (index < 0 || index >= size) return false;
  let [place, last] = [index, size - 1];
  let found: Uint8Array = leaf;
  for (const sibling of proof) {
    if (last === 0) return false;
    if (isOdd(place) || place === last) {
      found = nodeHash(sibling, found);
      while (!isOdd(place) && place !== 0) [place, last] = [half(place), half(last)];
    } else {
      found = nodeHash(found, sibling);
    }
    [place, last] = [half(place), half(last)];
  }
  return last === 0 && isSame(found, root);
}

/** Two sizes of a log and its roots at them, the smaller one first. */
export interface Growth {
  firstSize: number;
  firstRoot: Uint8Array;
  secondSize: number;
  secondRoot: Uint8Array;
}

/** Whether the tree of the second size begins with that of the first. */
export function isConsistent(
  { firstSize, firstRoot, secondSize, secondRoot }: Growth,
  proof: readonly Uint8Array[],
): boolean {
  if (firstSize < 0 || firstSize > secondSize) return false;
  if (firstSize === secondSize) return proof.length === 0 && isSame(firstRoot, secondRoot);
  if (firstSize === 0) return proof.length === 0 && isSame(firstRoot, EMPTY_ROOT);
  let [place, last] = [firstSize - 1, secondSize - 1];
  while (isOdd(place)) [place, last] = [half(place), half(last)];
  // A first tree that is one full subtree is its own first hash.
  const hashes = place === 0 ? [firstRoot, ...proof] : proof;
  const [start, ...rest] = hashes;
  if (!start) return false;
  let [first, second] = [start, start];
  for (const sibling of rest) {
    if (last === 0) return false;
    if (isOdd(place) || place === last) {
      [first, second] = [nodeHash(sibling, first), nodeHash(sibling, second)];
      while (!isOdd(place) && place !== 0) [place, last] = [half(place), half(last)];
    } else {
      second = nodeHash(second, sibling);
    }
    [place, last] = [half(place), half(last)];
  }
  return last === 0 && isSame(first, firstRoot) && isSame(second, secondRoot);
}
