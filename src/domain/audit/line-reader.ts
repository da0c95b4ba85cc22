/**
 * Reads the beginnings of lines in bytes: `{"chain":"<id>","n":<number>,"prev":"<64 digits>",`. Nothing is parsed as JSON: what the next
 * line of a chain must begin with is known, and compared. Verifying a log costs little more than hashing it. Pure.
 */

/** What came last of a chain. */
export interface ChainState {
  readonly id: string;
  /** The bytes with which its lines begin. */
  readonly begin: Buffer;
  /** Number and place in the log of its last line; 0 and -1 before the first. */
  readonly number: number;
  readonly index: number;
  /** The hash of that line, as a string of bytes. */
  readonly hash: string;
  /** The bytes with which its next line must begin, up to that hash, and how many they are. */
  readonly next: Buffer;
  readonly nextLength: number;
}

/** Where a line stands in its chain, as it says itself. */
export interface LinePlace {
  chain: ChainState;
  number: number;
  /** Where the hash of the line before it begins, in hexadecimal. */
  previousAt: number;
}

export interface LineReader {
  /** The chain of the line before, if the bytes from `start` up to `end` begin as its next line must. */
  readNext(bytes: Buffer, start: number, end: number): ChainState | undefined;
  /** Undefined when the bytes from `start` up to `end` do not begin as an entry does. The answer is good until the next call. */
  read(bytes: Buffer, start: number, end: number): LinePlace | undefined;
  /** The last line of a chain is this one. */
  advance(chain: ChainState, number: number, index: number, hash: string): void;
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
  const chains = new Map<string, Chain>();
  let current: Chain | undefined;
  const place: { chain: Chain; number: number; previousAt: number } = {
    chain: undefined as never,
    number: 0,
    previousAt: 0,
  };

  function chainAt(bytes: Buffer, start: number, end: number): Chain | undefined {
    if (!hasAt(bytes, CHAIN, CHAIN.length, start, end)) return undefined;
    const idAt = start + CHAIN.length;
    const limit = Math.min(end, idAt + MOST_ID);
    let at = idAt;
    // Ids of chains need no escapes.
    while (at < limit && bytes[at] !== QUOTE && bytes[at] !== BACKSLASH) at += 1;
    if (!hasAt(bytes, NUMBER, NUMBER.length, at, end)) return undefined;
    const id = bytes.toString("utf8", idAt, at);
    const known = chains.get(id);
    if (known || chains.size >= MOST_CHAINS) return known;
    const begin = Buffer.from(bytes.subarray(start, at + NUMBER.length));
    const next = Buffer.concat([begin], begin.length + MOST_DIGITS + 1 + PREVIOUS.length);
    const made = { id, begin, number: 0, index: -1, hash: "", next, nextLength: 0, digits: 0 };
    chains.set(id, made);
    return made;
  }

  return {
    readNext(bytes, start, end) {
      if (!current) return undefined;
      const { next, nextLength } = current;
      const hashAt = start + nextLength;
      const isNext =
        nextLength > 0 &&
        hasAt(bytes, next, nextLength, start, end) &&
        hasAt(bytes, AFTER, AFTER.length, hashAt + HASH_DIGITS, end) &&
        isHexOf(bytes, hashAt, current.hash);
      return isNext ? current : undefined;
    },

    read(bytes, start, end) {
      const chain =
        current && hasAt(bytes, current.begin, current.begin.length, start, end) ? current : chainAt(bytes, start, end);
      if (!chain) return undefined;
      const digitsAt = start + chain.begin.length;
      let at = digitsAt;
      let number = 0;
      for (let digit = bytes[at]! - 48; at < end && digit >= 0 && digit <= 9; digit = bytes[at]! - 48) {
        number = number * 10 + digit;
        at += 1;
      }
      const isCanonical = at > digitsAt && at - digitsAt <= MOST_DIGITS && bytes[digitsAt] !== 48;
      if (!isCanonical || !hasAt(bytes, PREVIOUS, PREVIOUS.length, at, end)) return undefined;
      const previousAt = at + PREVIOUS.length;
      if (!hasAt(bytes, AFTER, AFTER.length, previousAt + HASH_DIGITS, end)) return undefined;
      current = chain;
      place.chain = chain;
      place.number = number;
      place.previousAt = previousAt;
      return place;
    },

    advance(given, number, index, hash) {
      const chain = given as Chain;
      const isNext = number === chain.number + 1;
      chain.number = number;
      chain.index = index;
      chain.hash = hash;
      if (!isNext || !countUp(chain)) writeNext(chain);
    },
  };
}

type Chain = { -readonly [K in keyof ChainState]: ChainState[K] } & {
  /** Digits of the next number. */
  digits: number;
};

/** What the next line begins with. */
function writeNext(chain: Chain): void {
  const { begin, next } = chain;
  const number = String(chain.number + 1);
  chain.digits = number.length;
  chain.nextLength = begin.length + next.write(`${number}${PREVIOUS}`, begin.length, "latin1");
}

/** Adds one to the number that stands there already. False when that takes a digit more. */
function countUp({ begin, next, digits }: Chain): boolean {
  let at = begin.length + digits - 1;
  while (at >= begin.length && next[at] === 57) {
    next[at] = 48;
    at -= 1;
  }
  if (at < begin.length) return false;
  next[at]! += 1;
  return true;
}

/** A loop: a call into the runtime takes longer than so few bytes. */
function hasAt(bytes: Buffer, wanted: Buffer, length: number, start: number, end: number): boolean {
  if (start + length > end) return false;
  for (let i = 0; i < length; i++) if (bytes[start + i] !== wanted[i]) return false;
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
