/**
 * A full-text index over things that have a name, a description, tags and examples. Ranked by BM25+ (Lv and Zhai, "Lower-Bounding
 * Term Frequency Normalization", CIKM 2011), as MiniSearch does it. A query looks at a bounded number of documents for each
 * word: of a long text, the rarest words are looked up, because they tell most, and the commonest would cost most.
 */
import MiniSearch from "minisearch";
import { STOP_WORDS } from "./stop-words.ts";

/** What of a query is read, in characters; how many different words of it, and how many of these are looked up. */
export const MAX_QUERY_LENGTH = 1024;
const MAX_WORDS = 64;
const MAX_CHOSEN = 16;
/** How many documents the words of a query may hit together; a lone word may hit more. */
const MAX_HITS = 300;
/** Words that no document holds and that may be misspelt: how many of them are looked for, and from which length on. */
const MAX_MISSPELT = 4;
const MIN_MISSPELT_LENGTH = 4;
/** How many words one that is misspelt may stand for. */
const MAX_GUESSES = 4;
/** From which length on a word also stands for those that it begins. */
const MIN_PREFIX_LENGTH = 3;
const MAX_WORD_LENGTH = 32;
/** How much less a word counts that may have been meant. */
const BOOST_OF_GUESS = 0.45;
/** How much more a word counts in a name or a tag. */
const BOOST = { name: 3, tags: 2, examples: 1, description: 1 };

export interface Searchable {
  readonly name: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly examples: readonly string[];
}

export interface TextMatch {
  id: string;
  /** Above 0; more is better. Compares within the answer to one query only. */
  score: number;
}

export interface TextIndex {
  /** Adds a text, in the place of one of the same id. */
  put(id: string, text: Searchable): void;
  remove(id: string): void;
  /** The texts that hold words of `query`, or words nearly like them, the best first; of equal ones, by id. At most `most`. */
  matches(query: string, most: number): TextMatch[];
}

interface IndexedText {
  id: string;
  name: string;
  description: string;
  tags: string;
  examples: string;
}

const tokenize = MiniSearch.getDefault("tokenize") as (text: string) => string[];

/** The word as it is indexed; undefined for one that says nothing. */
function normalWord(word: string): string | undefined {
  const bare = ASCII.test(word) ? word : word.normalize("NFKD").replace(/\p{M}/gu, "");
  const plain = bare.toLowerCase().slice(0, MAX_WORD_LENGTH);
  return plain.length < 2 || STOP_WORDS.has(plain) ? undefined : plain;
}

/** Letters without marks, as nearly all are. */
const ASCII = /^[a-z0-9]*$/i;

const wordsOf = (text: string): Set<string> =>
  new Set(
    tokenize(text)
      .map(normalWord)
      .filter((word) => word !== undefined),
  );

export function createTextIndex(): TextIndex {
  const index = new MiniSearch<IndexedText>({
    fields: ["name", "description", "tags", "examples"],
    processTerm: (word) => normalWord(word) ?? null,
  });
  const indexed = new Map<string, IndexedText>();
  const vocabulary = createVocabulary();

  function remove(id: string): void {
    const text = indexed.get(id);
    if (!text) return;
    indexed.delete(id);
    index.remove(text);
    vocabulary.count(wordsOf(allOf(text)), -1);
  }

  return {
    put(id, { name, description, tags, examples }) {
      remove(id);
      const text = { id, name, description, tags: tags.join(" "), examples: examples.join("\n") };
      indexed.set(id, text);
      index.add(text);
      vocabulary.count(wordsOf(allOf(text)), 1);
    },
    remove,
    matches(query, most) {
      const { words, prefixes, guesses } = vocabulary.choose([...wordsOf(query.slice(0, MAX_QUERY_LENGTH))]);
      if (words.length === 0) return [];
      const found = index.search(words.join(" "), {
        boost: BOOST,
        tokenize: (text) => text.split(" "),
        processTerm: (word) => word,
        prefix: (word) => prefixes.has(word),
        boostTerm: (word) => (guesses.has(word) ? BOOST_OF_GUESS : 1),
      });
      return found
        .map(({ id, score }): TextMatch => ({ id, score }))
        .sort((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1))
        .slice(0, most);
    },
  };
}

const allOf = ({ name, description, tags, examples }: IndexedText): string =>
  `${name}\n${description}\n${tags}\n${examples}`;

/** How many documents hold each word. */
function createVocabulary() {
  const documents = new Map<string, number>();
  /** All words in order, and how many documents hold those before each, counted once for each word. */
  let sorted: { words: string[]; before: Float64Array } | undefined;

  function count(words: Iterable<string>, by: 1 | -1): void {
    sorted = undefined;
    for (const word of words) {
      const now = (documents.get(word) ?? 0) + by;
      if (now > 0) documents.set(word, now);
      else documents.delete(word);
    }
  }

  function sort() {
    const words = [...documents.keys()].sort();
    const before = new Float64Array(words.length + 1);
    words.forEach((word, i) => {
      before[i + 1] = before[i]! + documents.get(word)!;
    });
    return { words, before };
  }

  /** How many hits a word has together with all that it begins. */
  function hitsOfPrefix(prefix: string): number {
    sorted ??= sort();
    const { words, before } = sorted;
    return before[place(words, `${prefix}\uffff`)]! - before[place(words, prefix)]!;
  }

  /**
   * The words to look up, rarest first, within what a query may cost. MiniSearch would look for words like those that are
   * misspelt by itself, but takes all that it finds.
   */
  function choose(all: readonly string[]) {
    const chosen = new Set<string>();
    const prefixes = new Set<string>();
    const guesses = new Set<string>();
    let left = MAX_HITS;
    const hitsOf = (word: string) => documents.get(word) ?? 0;
    const byHits = (words: readonly string[]) => words.toSorted((a, b) => hitsOf(a) - hitsOf(b));
    const misspelt: string[] = [];
    for (const word of byHits(all.slice(0, MAX_WORDS))) {
      const hits = hitsOf(word);
      if ((hits > left && chosen.size > 0) || chosen.size === MAX_CHOSEN) break;
      const withPrefix = word.length >= MIN_PREFIX_LENGTH ? hitsOfPrefix(word) : hits;
      const takesPrefix = withPrefix > hits && withPrefix <= left;
      if (hits === 0 && !takesPrefix) {
        if (word.length >= MIN_MISSPELT_LENGTH) misspelt.push(word);
        continue;
      }
      left -= takesPrefix ? withPrefix : hits;
      chosen.add(word);
      if (takesPrefix) prefixes.add(word);
    }
    for (const word of misspelt.slice(0, MAX_MISSPELT)) {
      const meant = byHits(neighbours(word).filter((other) => documents.has(other) && !chosen.has(other)));
      for (const other of meant.slice(0, MAX_GUESSES)) {
        const hits = hitsOf(other);
        if (hits > left && chosen.size > 0) break;
        left -= hits;
        chosen.add(other);
        guesses.add(other);
      }
    }
    return { words: [...chosen], prefixes, guesses };
  }

  return { count, choose };
}

/** All words that are one letter, or two letters in the wrong order, away from a word. */
function neighbours(word: string): string[] {
  const found = new Set<string>();
  for (let at = 0; at <= word.length; at++) {
    const head = word.slice(0, at);
    const tail = word.slice(at);
    found.add(head + tail.slice(1));
    if (tail.length > 1) found.add(head + tail[1] + tail[0] + tail.slice(2));
    for (const letter of LETTERS) {
      found.add(head + letter + tail);
      if (tail !== "") found.add(head + letter + tail.slice(1));
    }
  }
  found.delete(word);
  return [...found];
}

const LETTERS = "abcdefghijklmnopqrstuvwxyz";

/** Where `word` stands, or would stand, in words that are in order. */
function place(words: readonly string[], word: string): number {
  let low = 0;
  let high = words.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle]! < word) low = middle + 1;
    else high = middle;
  }
  return low;
}
