/**
 * What a decision of a policy costs: beside ten times as many rules, and beside two other engines that decide by the same
 * rules. Rounds are interleaved: a machine that slows down slows all. Every engine must come to the same decisions.
 */
import { atLeast, type Benchmark, below, median } from "./lab/report.ts";
import { versions } from "./lab/versions.ts";
import { casbin, cedar, type Decide, signalbox } from "./policy-rules/engines.ts";
import { type Request, RULES_A_CAPABILITY, requestsFor, termsFor } from "./policy-rules/rule-set.ts";

const RULES = 1_000;
const MANY_RULES = 10_000;
const SEED = 20_261_127;
const ROUNDS = 101;
/** In a round: so many that what the others' rounds left in the caches of the processor no longer counts. */
const DECISIONS = 10_000;
/** Rounds before those that count: by then the compiler has done its work. */
const WARM_UP = 10;
const GOAL_US = 5;
const GOAL_GROWTH = 2;
const GOAL_FASTER = 100;

interface Contestant {
  readonly name: string;
  readonly decide: Decide;
  readonly requests: readonly Request[];
  /** In a round: more of those that take less. */
  readonly decisions: number;
  readonly us: number[];
}

export const bench: Benchmark = async (signal) => {
  const terms = termsFor(RULES, SEED);
  const requests = requestsFor(terms, 2_000, SEED + 1);
  const many = termsFor(MANY_RULES, SEED + 2);
  const contestant = (name: string, decide: Decide, decisions: number, asked = requests): Contestant => ({
    name,
    decide,
    requests: asked,
    decisions,
    us: [],
  });
  const few = contestant(`signalbox, ${RULES} rules`, signalbox(terms), DECISIONS);
  const grown = contestant(
    `signalbox, ${MANY_RULES} rules`,
    signalbox(many),
    DECISIONS,
    requestsFor(many, 2_000, SEED + 3),
  );
  const withCedar = contestant(`cedar-wasm, ${RULES} rules`, cedar(terms), 4);
  const withCasbin = contestant(`casbin, ${RULES} rules`, await casbin(terms), 4);
  const all = [few, grown, withCedar, withCasbin];
  const allowed = checkAgreement(requests.slice(0, 300), [few, withCedar, withCasbin]);
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    signal.throwIfAborted();
    for (const each of all) {
      const us = timed(each, round + WARM_UP);
      if (round >= 0) each.us.push(us);
    }
  }
  const ratio = (a: Contestant, b: Contestant) => median(a.us.map((us, round) => us / b.us[round]!));
  return {
    goals: [
      below(`decision, ${RULES} rules of which ${RULES_A_CAPABILITY} can match`, median(few.us), GOAL_US, "us"),
      below(`${MANY_RULES} rules / ${RULES} rules`, ratio(grown, few), GOAL_GROWTH, "ratio"),
      atLeast("cedar-wasm / signalbox", ratio(withCedar, few), GOAL_FASTER, "ratio", 0),
      atLeast("casbin / signalbox", ratio(withCasbin, few), GOAL_FASTER, "ratio", 0),
    ],
    figures: [
      ["decision", "median of rounds; fastest and slowest tenth"],
      ...all.map(({ name, us }): [string, string] => [name, spread(us)]),
    ],
    conditions: [
      ["versions", versions("@cedar-policy/cedar-wasm", "casbin")],
      ["rules", `${RULES_A_CAPABILITY} a capability: one ALLOW, four DENY with a bound each; all else is refused`],
      ["requests", `for capabilities at random; ${allowed} of 300 are allowed, by all engines alike`],
      ["signalbox", "read from YAML and compiled before; facts made for each decision"],
      ["cedar-wasm", "policies parsed before (preparsePolicySet), statefulIsAuthorized without entities or schema"],
      ["casbin", "model and policies loaded before, enforceSync, no role manager, bounds as numbers"],
      ["rounds", `${ROUNDS}, interleaved, seed ${SEED}`],
    ],
  };
};

/** How many requests are allowed. Engines that disagree do not have the same rules. */
function checkAgreement(requests: readonly Request[], contestants: readonly Contestant[]): number {
  let allowed = 0;
  for (const request of requests) {
    const [first, ...others] = contestants.map(({ decide }) => decide(request));
    if (others.some((other) => other !== first)) {
      throw new Error(`the engines disagree about ${JSON.stringify(request)}`);
    }
    if (first) allowed++;
  }
  return allowed;
}

/** Microseconds of one decision, over a round of them. */
function timed({ decide, requests, decisions }: Contestant, round: number): number {
  let allowed = 0;
  const begin = performance.now();
  for (let i = 0; i < decisions; i++) {
    if (decide(requests[(round * decisions + i) % requests.length]!)) allowed++;
  }
  const us = ((performance.now() - begin) * 1_000) / decisions;
  // What nobody uses, a compiler may leave out.
  if (allowed < 0) throw new Error("less than nothing was allowed");
  return us;
}

function spread(us: readonly number[]): string {
  const sorted = us.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]!.toFixed(2);
  return `${at(0.5)} us; ${at(0.1)} to ${at(0.9)} us`;
}
