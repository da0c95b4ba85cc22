/** Chance that can be repeated. Not for secrets. */

/**
 * Mulberry32 (Tommy Ettinger, 2017): numbers from 0 up to but not including 1, the same for the same seed on every machine.
 * Its state has 32 bits, which is plenty for the few numbers of a decision. Of the seed, the lowest 32 bits count.
 */
export function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
