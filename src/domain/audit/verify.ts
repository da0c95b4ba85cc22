/**
 * Verifies an exported log as it is read: each line's hash, each chain, the tree over all, the checkpoint, and one that was seen before.
 * Where something was done to the log, the first entry is named, and what was done to it. Pure.
 */
import { hash } from "node:crypto";
import { type Note, readNote } from "./checkpoint.ts";
import { pinnedFault, signatureFault, sizeFault, type TrustedKey } from "./checkpoint-faults.ts";
import {
  ORDER_BEGIN,
  readOrderLine,
  readSealLine,
  readStartLine,
  SEAL_BEGIN,
  type Seal,
  START_BEGIN,
} from "./export.ts";
import { entryFault, type Fault, firstFault, gapFault, logFault } from "./fault.ts";
import { type ChainState, createLineReader, isHexOf, type LinePlace } from "./line-reader.ts";
import { createFastTree, type FastTree, HASH_BYTES } from "./merkle.ts";
import { isConsistent } from "./proofs.ts";
import { createSpanRecord } from "./span-record.ts";

/** Longest line, in bytes. */
const MOST_LINE_BYTES = 1024 * 1024;
/** Room for a line that two chunks share, until it needs more. */
const FIRST_BYTES = 16 * 1024;
const LINE_FEED = 0x0a;
/** What the first line of a chain names as the hash before it, as a string of bytes. */
const NO_HASH_BYTES = "\0".repeat(HASH_BYTES);

export interface VerifyOptions {
  /** None: the checkpoint's key is only what the export itself says. */
  trusted?: TrustedKey | undefined;
  /** A checkpoint that was seen before: the log must begin with that one. */
  pinned?: Note | undefined;
}

/** What a verification came to. */
export interface Verdict {
  intact: boolean;
  fault: Fault | undefined;
  /** Entries that were read. */
  entries: number;
  /** The checkpoint, as far as there is one that can be read. */
  checkpoint: Note | undefined;
}

export interface LogVerifier {
  /** Takes more of the export. It must be memory that can be written to: it is changed and put back meanwhile. */
  feed(chunk: Uint8Array): void;
  /** Entries that were read by now. */
  readonly entries: number;
  end(): Verdict;
}

/** Two lines of a chain that do not fit together. Which of them was edited the line after them tells. */
interface BrokenLink {
  chain: ChainState;
  number: number;
  index: number;
  indexBefore: number;
  /** Undefined as long as it is not known. */
  isLater: boolean | undefined;
}

export function createLogVerifier({ trusted, pinned }: VerifyOptions = {}): LogVerifier {
  /** The line that is open at the end of a chunk, behind a byte for its hash. */
  let open = Buffer.alloc(FIRST_BYTES);
  let filled = 1;
  /** In the middle of a line that is too long to be one. */
  let skipping = false;

  const reader = createLineReader();
  const observed = createSpanRecord();
  let tree: FastTree | undefined;
  let start = 0;
  let index = 0;
  let broken: BrokenLink | undefined;
  let gap: Fault | undefined;
  let seal: Seal | undefined;
  let hasMore = false;
  let pinnedRoot: Buffer | undefined;

  function takeLine(bytes: Buffer, from: number, to: number): void {
    if (seal) {
      hasMore = true;
      return;
    }
    const next = reader.readNext(bytes, from, to);
    const place = next ? undefined : reader.read(bytes, from, to);
    if (!next && !place && takeOther(bytes, from, to)) return;
    tree ??= createFastTree();
    if (pinned && index === pinned.size) pinnedRoot = tree.root();
    const before = bytes[from - 1]!;
    bytes[from - 1] = 0;
    // A bare view is made faster than a Buffer.
    const line = new Uint8Array(bytes.buffer, bytes.byteOffset + from - 1, to - from + 1);
    const digest = hash("sha256", line, "binary");
    bytes[from - 1] = before;
    if (next) takeNext(next, next.number + 1, true, digest);
    else if (place) link(bytes, place, digest);
    else observed.addStray();
    tree.append(digest);
    index += 1;
  }

  function takeOther(bytes: Buffer, from: number, to: number): boolean {
    const begins = (text: string) => bytes.toString("latin1", from, Math.min(to, from + text.length)) === text;
    if (begins(SEAL_BEGIN)) {
      seal = readSealLine(bytes.toString("utf8", from, to));
      return seal !== undefined;
    }
    if (begins(ORDER_BEGIN)) {
      observed.expect(readOrderLine(bytes.toString("utf8", from, to)) ?? []);
      return true;
    }
    if (begins(START_BEGIN) && !tree) {
      const found = readStartLine(bytes.toString("utf8", from, to));
      if (!found) return false;
      start = found.start;
      index = start;
      tree = createFastTree(start, found.before);
      return true;
    }
    return false;
  }

  function link(bytes: Buffer, { chain, number, previousAt }: LinePlace, digest: string): void {
    const isFirst = chain.index < 0;
    if (number === chain.number + 1) {
      takeNext(chain, number, isHexOf(bytes, previousAt, isFirst ? NO_HASH_BYTES : chain.hash), digest);
      return;
    }
    if (!(isFirst && start > 0) && !gap) gap = gapFault(index, chain.id, chain.number, number);
    take(chain, number, digest);
  }

  function take(chain: ChainState, number: number, digest: string): void {
    observed.add(chain, number);
    reader.advance(chain, number, index, digest);
  }

  /** The line that comes next in its chain; whether it names the hash of the one before it. */
  function takeNext(chain: ChainState, number: number, fits: boolean, digest: string): void {
    if (broken && broken.isLater === undefined && broken.chain === chain && broken.number === number - 1) {
      broken.isLater = !fits;
    } else if (!fits && !broken) {
      // Nothing comes before the first line, which could be to blame.
      const isLater = chain.index < 0 ? true : undefined;
      broken = { chain, number, index, indexBefore: chain.index, isLater };
    }
    take(chain, number, digest);
  }

  /** Takes what belongs to the line that is open, up to its line feed, and returns where the next line begins. */
  function closeLine(chunk: Buffer): number {
    const at = chunk.indexOf(LINE_FEED);
    const end = at < 0 ? chunk.length : at;
    keep(chunk.subarray(0, end));
    if (at < 0) return end;
    if (!skipping) takeLine(open, 1, filled);
    skipping = false;
    filled = 1;
    return end + 1;
  }

  /** Keeps a piece of the line that is open. No line of a log is longer than MOST_LINE_BYTES: what is counts as one entry. */
  function keep(piece: Buffer): void {
    if (skipping) return;
    if (filled + piece.length > MOST_LINE_BYTES) {
      takeLine(open, 1, 1);
      skipping = true;
      return;
    }
    if (filled + piece.length > open.length) open = Buffer.concat([open], 2 * (filled + piece.length));
    filled += piece.copy(open, filled);
  }

  function linkFault(order?: Fault): Fault | undefined {
    if (!broken) return undefined;
    const { chain, number, index: later, indexBefore, isLater } = broken;
    // A line that was made one of this chain is no reason to blame its last.
    if (isLater === undefined && order && order.index <= later) return undefined;
    const blamed = isLater ?? observed.differs(later - start) ?? false;
    return blamed
      ? entryFault("EDITED", later, chain.id, number, "was edited: it does not name the hash of the entry before it.")
      : entryFault("EDITED", indexBefore, chain.id, number - 1, "was edited: the entry after it names another hash.");
  }

  function verdict(): { fault: Fault | undefined; checkpoint: Note | undefined } {
    const size = index;
    if (!seal) {
      const end = logFault("TRUNCATED", size, `The log ends after entry ${size - 1}, without its checkpoint.`);
      return { fault: firstFault([linkFault(), gap, end]), checkpoint: undefined };
    }
    const checkpoint = readNote(seal.checkpoint);
    const order = observed.orderFault(start) ?? gap;
    if (!checkpoint) {
      const unreadable = logFault("SIGNATURE", size, "The checkpoint in the last line is none.");
      return { fault: firstFault([order, linkFault(order), unreadable]), checkpoint };
    }
    tree ??= createFastTree();
    const root = tree.root();
    const growth = { firstSize: size, firstRoot: root, secondSize: checkpoint.size, secondRoot: checkpoint.root };
    const isWhole = size === seal.end && isConsistent(growth, seal.consistency);
    // Entries that come to what was signed are what they were, whatever the rest of the file says of them; yet chains have no gaps.
    const found = isWhole ? [gap] : [order, sizeFault(size, seal.end), observed.firstDifference(start)];
    found.push(linkFault(order));
    if (hasMore) found.push(logFault("INSERTED", size, "Something follows the line with the checkpoint."));
    // What is wrong with an entry says more than that the whole is.
    const kept = pinned && { pinned, rootThen: pinned.size === size ? root : pinnedRoot };
    const fault =
      firstFault(found) ??
      signatureFault(checkpoint, seal, trusted) ??
      (kept && pinnedFault(kept, { start, size, checkpoint, seal, trusted })) ??
      (isWhole ? undefined : treeFault());
    return { fault, checkpoint };
  }

  /** Where the tree is wrong and nobody knows why: what was seen before narrows it down. */
  function treeFault(): Fault {
    const isBefore = pinned && pinnedRoot && Buffer.compare(pinnedRoot, pinned.root) === 0;
    const from = isBefore ? pinned.size : start;
    return logFault("TREE", from, `The entries from ${from} on do not come to the root that was signed.`);
  }

  return {
    get entries() {
      return index - start;
    },
    feed(given) {
      const chunk = Buffer.from(given.buffer, given.byteOffset, given.length);
      // A line is hashed where it lies, behind a byte that is set to 0: the line feed before it.
      let from = closeLine(chunk);
      for (let to = chunk.indexOf(LINE_FEED, from); to >= 0; to = chunk.indexOf(LINE_FEED, from)) {
        takeLine(chunk, from, to);
        from = to + 1;
      }
      if (from < chunk.length) keep(chunk.subarray(from));
    },
    end() {
      // An editor may have taken the last line feed away; anything else that is cut off is missing.
      if (!skipping && !seal && open.toString("latin1", 1, Math.min(filled, 1 + SEAL_BEGIN.length)) === SEAL_BEGIN) {
        seal = readSealLine(open.toString("utf8", 1, filled));
      }
      const { fault, checkpoint } = verdict();
      return { intact: fault === undefined, fault, entries: index - start, checkpoint };
    },
  };
}
