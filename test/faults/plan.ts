/** What each client of the fault suite does, by chance and yet the same with the same seed. */
import type { Priority } from "../../src/domain/task-log.ts";
import { PRIORITIES } from "../../src/domain/task-log.ts";
import type { FaultAgent } from "./agents.ts";

/** How a client begins its task. */
export type Way = "blocking" | "stream" | "immediate";

export interface Plan {
  agent: FaultAgent;
  /** The words of agent/behaviour.ts. */
  text: string;
  way: Way;
  priority: Priority;
  deadlineMs?: number;
  /** When it cancels, once it knows its task, in milliseconds; twice to set a cancel against a cancel. */
  cancelsAfterMs: number[];
  /** When it breaks its first call off, in milliseconds. */
  leavesAfterMs?: number;
  /** Whether it answers when it is asked. */
  answers: boolean;
  /** When it adds a message to its task, whatever that is doing, in milliseconds after it knows it. */
  addsAfterMs?: number;
  /** Items after which it leaves a stream of its own accord, and goes on at another replica. */
  hopsEvery?: number;
}

/** The words and how often each is meant, in parts of 100. */
const WORDS: readonly [parts: number, text: (random: () => number) => string][] = [
  [30, () => "quick"],
  [20, (random) => `chunks ${3 + Math.floor(random() * 30)}`],
  [20, (random) => `slow ${Math.floor(random() * 1_500)}`],
  [10, () => "ask"],
  [4, (random) => `auth ${Math.floor(random() * 800)}`],
  [4, () => "hang"],
  [4, (random) => `late ${Math.floor(random() * 1_500)}`],
  [4, () => "twice"],
  [3, () => "reply"],
  [1, () => "die"],
];

const SAID = WORDS.flatMap(([parts, text]) => Array<typeof text>(parts).fill(text));

export function planOf(random: () => number, agents: readonly FaultAgent[]): Plan {
  const chance = (parts: number) => random() * 100 < parts;
  const oneOf = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
  const text = oneOf(SAID)(random);
  const hangs = text === "hang";
  const way = oneOf<Way>(hangs ? ["stream", "immediate"] : ["blocking", "stream", "immediate"]);
  const limited = chance(hangs ? 50 : 6);
  const cancels = chance(12) || (hangs && !limited);
  const moment = () => Math.floor(random() * 500);
  return {
    agent: oneOf(agents),
    text,
    way,
    priority: oneOf(PRIORITIES),
    ...(limited && { deadlineMs: 200 + Math.floor(random() * 2_000) }),
    cancelsAfterMs: cancels ? (chance(30) ? Array(2).fill(moment()) : [moment()]) : [],
    ...(chance(8) && { leavesAfterMs: moment() }),
    answers: chance(90),
    ...(chance(8) && { addsAfterMs: moment() }),
    ...(chance(25) && { hopsEvery: 1 + Math.floor(random() * 5) }),
  };
}
