/** The order in which the entries of chains stand in a log, in short: as it was found, beside as it was. Pure. */
import type { Span } from "./export.ts";
import { entryFault, type Fault } from "./fault.ts";
import type { ChainState } from "./line-reader.ts";

/** Entries of one chain, found together. A line that is no entry has no chain, and the number 0. */
interface FoundSpan {
  chainId: string;
  firstNumber: number;
  count: number;
  /** The hash of the last, as a string of bytes. */
  lastHash: string;
}

export interface SpanRecord {
  /** The next entry, before its chain has moved on to it. Kept as a new span only where it does not go on with the last. */
  add(chain: ChainState, number: number): void;
  /** A line that is no entry. */
  addStray(): void;
  /** How the entries up to here stood, after what was expected before: what is as it was need not be kept. */
  expect(spans: readonly Span[]): void;
  /** What was done at the first place where another entry stands than did; undefined where the order is what it was, or not known. */
  orderFault(start: number): Fault | undefined;
  /** Whether the entry at this place is another than it was; undefined where that is not known: it is known of the last of a span. */
  differs(place: number): boolean | undefined;
  /** The first entry that is last in a span and is not what it was, where all spans are as they were. */
  firstDifference(start: number): Fault | undefined;
}

/** Spans that are kept of a log that is not what it was. Where there are more, only the first of them are compared. */
const MOST_KEPT = 1_000_000;

export function createSpanRecord(): SpanRecord {
  /** Both without the first `passed` entries, which are as they were. */
  const found: FoundSpan[] = [];
  const expected: Span[] = [];
  let passed = 0;
  /** Whether there is an order to compare with. */
  let isKnown = false;
  let isTooLong = false;
  /** The last span as long as it may grow. The hash of its last entry is that of its chain by then. */
  let open: (FoundSpan & { chain: ChainState }) | undefined;

  function keep<T>(spans: T[], span: T): void {
    if (spans.length < MOST_KEPT) spans.push(span);
    else isTooLong = true;
  }

  function close(): void {
    if (open) open.lastHash = open.chain.hash;
    open = undefined;
  }

  function pass(): void {
    let same = 0;
    for (const span of expected) {
      const here = found[same];
      if (!here || !isSame(here, span)) break;
      passed += span.count;
      same += 1;
    }
    found.splice(0, same);
    expected.splice(0, same);
  }

  return {
    add(chain, number) {
      if (open && open.chain === chain && number === open.firstNumber + open.count) {
        open.count += 1;
        return;
      }
      close();
      open = { chain, chainId: chain.id, firstNumber: number, count: 1, lastHash: "" };
      keep(found, open);
    },
    addStray() {
      close();
      keep(found, { chainId: "", firstNumber: 0, count: 1, lastHash: "" });
    },
    expect(spans) {
      isKnown = true;
      close();
      for (const span of spans) keep(expected, span);
      pass();
    },
    orderFault(start) {
      close();
      return isKnown && !isTooLong ? orderFault(found, expected, start + passed) : undefined;
    },
    differs(place) {
      let end = passed;
      for (const [i, span] of expected.entries()) {
        end += span.count;
        if (end <= place) continue;
        const same = found[i];
        if (end !== place + 1 || !same || same.count !== span.count) return undefined;
        return isOther(same, span);
      }
      return undefined;
    },
    firstDifference(start) {
      let end = start + passed;
      for (const [i, span] of expected.entries()) {
        end += span.count;
        const same = found[i];
        if (!same || same.count !== span.count) return undefined;
        if (isOther(same, span)) {
          const number = span.firstNumber + span.count - 1;
          return entryFault("EDITED", end - 1, span.chainId, number, "was edited: its hash is another one.");
        }
      }
      return undefined;
    },
  };
}

const isSame = (found: FoundSpan, wanted: Span): boolean =>
  found.chainId === wanted.chainId &&
  found.firstNumber === wanted.firstNumber &&
  found.count === wanted.count &&
  !isOther(found, wanted);

const isOther = (found: FoundSpan, wanted: Span): boolean =>
  found.lastHash !== Buffer.from(wanted.lastHash).toString("binary");

function orderFault(found: readonly FoundSpan[], expected: readonly Span[], start: number): Fault | undefined {
  const total = (spans: readonly { count: number }[]) => spans.reduce((sum, { count }) => sum + count, 0);
  const [size, wanted] = [total(found), total(expected)];
  let [i, j] = [0, 0];
  let [used, passed] = [0, 0];
  let at = start;
  while (i < found.length && j < expected.length) {
    const [here, there] = [found[i]!, expected[j]!];
    const number = there.firstNumber + passed;
    if (here.chainId !== there.chainId || here.firstNumber + used !== number) break;
    const both = Math.min(here.count - used, there.count - passed);
    at += both;
    used += both;
    passed += both;
    if (used === here.count) [i, used] = [i + 1, 0];
    if (passed === there.count) [j, passed] = [j + 1, 0];
  }
  const [here, there] = [found[i], expected[j]];
  if (!here && !there) return undefined;
  if (here && (size > wanted || !there)) {
    const what = "was not there, or stands here a second time.";
    return entryFault("INSERTED", at, here.chainId, here.firstNumber + used, what);
  }
  const number = there!.firstNumber + passed;
  const fault = (kind: Fault["kind"], what: string) => entryFault(kind, at, there!.chainId, number, what);
  if (!here) return fault("TRUNCATED", "is missing, and all that came after it.");
  if (size < wanted) return fault("REMOVED", "is missing.");
  const elsewhere = found.slice(i).some((span) => {
    return span.chainId === there!.chainId && span.firstNumber <= number && number < span.firstNumber + span.count;
  });
  return elsewhere
    ? fault("REORDERED", "stands in another place.")
    : fault("EDITED", "was edited: another chain or number stands there.");
}
