/**
 * What a search over 10,000 skills costs. Their words are made up, and drawn as those of a language are: few words very often,
 * most of them seldom (Zipf's law). The seed is fixed, so every run has the same skills and queries.
 */
import { availableParallelism } from "node:os";
import { createTextIndex, type Searchable } from "../src/domain/routing/text-match.ts";
import { type Benchmark, below, median } from "./lab/report.ts";
import { versions } from "./lab/versions.ts";

const SKILLS = 10_000;
const QUERIES = 1_000;
const VOCABULARY = 20_000;
const SEED = 7;
const SYLLABLES = "ta ri mo ne lu ka si po ve da ran tion ing ment pro con ter al".split(" ");

export const bench: Benchmark = async (signal) => {
  const random = chance(SEED);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
  const vocabulary = Array.from({ length: VOCABULARY }, () =>
    Array.from({ length: 2 + Math.floor(random() * 3) }, () => pick(SYLLABLES)).join(""),
  );
  const word = () => vocabulary[Math.floor(VOCABULARY ** random()) - 1]!;
  const words = (count: number) => Array.from({ length: count }, word);
  const skill = (): Searchable => ({
    name: words(3).join(" "),
    description: words(25).join(" "),
    tags: words(3),
    examples: [words(8).join(" "), words(8).join(" ")],
  });

  const skills = Array.from({ length: SKILLS }, skill);
  const index = createTextIndex();
  const built = timed(() => {
    for (const [i, text] of skills.entries()) index.put(`skill-${i}`, text);
  });

  const misspelt = () => {
    const text = word();
    return `${text.slice(0, 2)}x${text.slice(3)}`;
  };
  const kinds: readonly (readonly [name: string, query: () => string])[] = [
    ["one word", () => word()],
    ["eight words", () => words(8).join(" ")],
    ["eight words, two of them misspelt", () => [...words(6), misspelt(), misspelt()].join(" ")],
    ["150 words", () => words(150).join(" ")],
  ];
  const measured = kinds.map(([name, query]) => {
    signal.throwIfAborted();
    const queries = Array.from({ length: QUERIES }, query);
    const times = queries.map((text) => timed(() => index.matches(text, 16))).sort((a, b) => a - b);
    return { name, middle: median(times), high: times[Math.floor(0.99 * QUERIES)]! };
  });

  return {
    goals: measured.map(({ name, middle }) => below(`search, ${name}, median`, middle, 1, "ms", 3)),
    figures: [
      [`index of ${SKILLS} skills`, `${built.toFixed(0)} ms`],
      ...measured.map(({ name, middle, high }): [string, string] => [
        `search, ${name}`,
        `median ${middle.toFixed(3)} ms, 99 % below ${high.toFixed(1)} ms`,
      ]),
    ],
    conditions: [
      ["load", `${QUERIES} queries of each kind, one after the other, in this process`],
      ["skills", `${SKILLS}, words from ${VOCABULARY}, seed ${SEED}`],
      ["cores", String(availableParallelism())],
      ["versions", versions("minisearch")],
    ],
  };
};

/** How long it takes, in milliseconds. */
function timed(work: () => void): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

/** Numbers from 0 up to 1, the same for the same seed (mulberry32). */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
