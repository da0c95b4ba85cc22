/** What can be wrong with a log, and how that is said. Pure. */

/**
 * - EDITED: an entry is not what was hashed.
 * - REMOVED: entries are missing in the middle.
 * - INSERTED: entries are there that were not, or twice.
 * - REORDERED: entries stand in another order.
 * - TRUNCATED: the end is missing.
 * - SIGNATURE: a checkpoint is not signed by a key that is believed, or is of another log.
 * - TREE: the tree, or a checkpoint, is not that of the entries.
 */
export type FaultKind = "EDITED" | "REMOVED" | "INSERTED" | "REORDERED" | "TRUNCATED" | "SIGNATURE" | "TREE";

/** The first thing that is wrong. */
export interface Fault {
  kind: FaultKind;
  /** Its place in the log. */
  index: number;
  /** The chain of the entry, and its number there; empty and 0 where no entry is to blame. */
  chainId: string;
  number: number;
  /** In a sentence. */
  description: string;
}

/** The fault at the least index; of several there, the first given. */
export function firstFault(faults: readonly (Fault | undefined)[]): Fault | undefined {
  let first: Fault | undefined;
  for (const fault of faults) if (fault && (!first || fault.index < first.index)) first = fault;
  return first;
}

export function entryFault(kind: FaultKind, index: number, chainId: string, number: number, what: string): Fault {
  return { kind, index, chainId, number, description: `Entry ${index} (${number} of chain ${chainId}) ${what}` };
}

export const logFault = (kind: FaultKind, index: number, description: string): Fault => ({
  kind,
  index,
  chainId: "",
  number: 0,
  description,
});

/** An entry of a chain that does not follow `last`, the number that came before it there. */
export function gapFault(index: number, chainId: string, last: number, number: number): Fault {
  return number > last
    ? entryFault("REMOVED", index, chainId, last + 1, "is missing: the next of its chain is there.")
    : entryFault("INSERTED", index, chainId, number, "is there a second time, or out of its place.");
}

/** An entry that was never put into the log, and is not there any more. */
export const missingFault = (index: number, chainId: string, number: number): Fault =>
  entryFault("REMOVED", index, chainId, number, "is missing, and was in no log yet.");

/** What is wrong with a tree that cannot go on. */
export const TILES_MISSING = "Tiles of the tree are missing.";
