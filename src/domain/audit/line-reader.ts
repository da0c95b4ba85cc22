/**
 * Reads the beginnings of lines in bytes: `{"chain":"<id>","n":<number>,"prev":"<64 digits>",`. Nothing is parsed as JSON, and nothing
 * copied: verifying a log costs little more than hashing it. Pure.
 */

/** What came last of a chain. */
export interface ChainState {
  readonly id: string;
  /** The bytes with which its lines begin. */
  readonly begin: Buffer;
  /** Number and place in the log of its last line; 0 and -1 before the first. */
  number: number;
  index: number;
  /** The hash of that line, as a string of bytes. */
  hash: string;
}

/** Where a line stands in its chain, as it says itself. */
export interface LinePlace {
  chain: ChainState;
  number: number;
  /** Where the hash of the line before it begins, in hexadecimal. */
  previousAt: number;
}

export interface LineReader {
  /** Undefined when the bytes from `start` up to `end` do not begin as an entry does. The answer is good until the next call. */
  read(bytes: Buffer, start: number, end: number): LinePlace | undefined;
}

const CHAIN = Buffer.from('{"chain":"');
const NUMBER = Buffer.from('","n":');
const PREVIOUS = Buffer.from(',"prev":"');
const AFTER = Buffer.from('",');
const HASH_DIGITS = 64;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** Longest id of a chain, in bytes, and most digits of a number. */
const MOST_ID = 256;
const MOST_DIGITS = 15;
/** Chains that are told apart at most. */
const MOST_CHAINS = 1_000_000;

export function createLineReader(): LineReader {
  const chains = new Map<string, ChainState>();
  let current: ChainState | undefined;
  const place: { chain: ChainState; number: number; previousAt: number } = {
    chain: undefined as never,
    number: 0,
    previousAt: 0,
  };

  function chainAt(bytes: Buffer, start: number, end: number): ChainState | undefined {
    if (!hasAt(bytes, CHAIN, start, end)) return undefined;
    const idAt = start + CHAIN.length;
    const limit = Math.min(end, idAt + MOST_ID);
    let at = idAt;
    // Ids of chains need no escapes.
    while (at < limit && bytes[at] !== QUOTE && bytes[at] !== BACKSLASH) at += 1;
    if (!hasAt(bytes, NUMBER, at, end)) return undefined;
    const id = bytes.toString("utf8", idAt, at);
    const known = chains.get(id);
    if (known || chains.size >= MOST_CHAINS) return known;
    const begin = Buffer.from(bytes.subarray(start, at + NUMBER.length));
    const made = { id, begin, number: 0, index: -1, hash: "" };
    chains.set(id, made);
    return made;
  }

  return {
    read(bytes, start, end) {
      const chain = current && hasAt(bytes, current.begin, start, end) ? current : chainAt(bytes, start, end);
      if (!chain) return undefined;
      const digitsAt = start + chain.begin.length;
      let at = digitsAt;
      let number = 0;
      for (let digit = bytes[at]! - 48; at < end && digit >= 0 && digit <= 9; digit = bytes[at]! - 48) {
        number = number * 10 + digit;
        at += 1;
      }
      const isCanonical = at > digitsAt && at - digitsAt <= MOST_DIGITS && bytes[digitsAt] !== 48;
      if (!isCanonical || !hasAt(bytes, PREVIOUS, at, end)) return undefined;
      const previousAt = at + PREVIOUS.length;
      if (!hasAt(bytes, AFTER, previousAt + HASH_DIGITS, end)) return undefined;
      current = chain;
      place.chain = chain;
      place.number = number;
      place.previousAt = previousAt;
      return place;
    },
  };
}

/** A loop: a call into the runtime takes longer than so few bytes. */
function hasAt(bytes: Buffer, wanted: Buffer, start: number, end: number): boolean {
  if (start + wanted.length > end) return false;
  for (let i = 0; i < wanted.length; i++) if (bytes[start + i] !== wanted[i]) return false;
  return true;
}

/** The two digits of each byte, as one number. */
const DIGITS = Uint16Array.from({ length: 256 }, (_, byte) => {
  const text = byte.toString(16).padStart(2, "0");
  return (text.charCodeAt(0) << 8) | text.charCodeAt(1);
});

/** Whether the hexadecimal digits at `at` are those of a hash, which is a string of bytes. */
export function isHexOf(bytes: Buffer, at: number, hash: string): boolean {
  if (hash.length * 2 !== HASH_DIGITS) return false;
  for (let i = 0; i < hash.length; i++) {
    const found = (bytes[at + 2 * i]! << 8) | bytes[at + 2 * i + 1]!;
    if (found !== DIGITS[hash.charCodeAt(i)]) return false;
  }
  return true;
}
