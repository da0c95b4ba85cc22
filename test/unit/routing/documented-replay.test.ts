/** The replay of docs/routing.md: its numbers are read from the page, and reckoned with. */
import { expect, test } from "vitest";
import { decimalOf } from "../../../src/domain/money.ts";
import type { Candidate } from "../../../src/domain/routing/candidate.ts";
import { choose } from "../../../src/domain/routing/choose.ts";
import { createReplay, type Expectation, type RecordedDecision } from "../../../src/domain/routing/replay.ts";
import { DEFAULT_WEIGHTS } from "../../../src/domain/routing/strategies.ts";
import { candidate } from "./candidates.ts";
import { rowsAfter, sectionOf } from "./documented-page.ts";

const EXAMPLE = sectionOf("Replay");
const costOf = (agent: string) => Number(new RegExp(`${agent} (?:asks )?(0\\.\\d+)`).exec(EXAMPLE)?.[1]) * 1e6;
const OPTIONS = { key: "context", turn: 0, seed: 42, weights: DEFAULT_WEIGHTS };

const DECISIONS = rowsAfter(EXAMPLE, "| decision |").map(([, amber, birch, took, wouldTake]) => {
  const candidates = [seen("amber", amber!), seen("birch", birch!)].filter((each) => each !== undefined);
  return { candidates, took: took!, wouldTake: wouldTake! };
});

function seen(agentId: string, cell: string): Candidate | undefined {
  if (cell === "none") return undefined;
  const [latency, errorRate] = cell.split(", ");
  const costMicros = Math.round(costOf(agentId));
  return candidate(agentId, { latencyMs: Number.parseFloat(latency!), errorRate: Number(errorRate), costMicros });
}

const recorded = ({ candidates, took }: (typeof DECISIONS)[number]): RecordedDecision => ({
  ...OPTIONS,
  agentId: took,
  strategy: candidates.length > 1 ? "LOWEST_LATENCY" : undefined,
  weights: undefined,
  candidates,
  candidateCount: candidates.length,
});

test("lowest latency decided as the page says", () => {
  expect(DECISIONS).toHaveLength(4);
  for (const { candidates, took } of DECISIONS) {
    expect(candidates[choose(candidates, "LOWEST_LATENCY", OPTIONS).index]?.agentId).toBe(took);
  }
});

test("lowest cost would decide as the page says, with what is to be expected", () => {
  const replay = createReplay({ strategy: "LOWEST_COST", weights: undefined }, DEFAULT_WEIGHTS);
  for (const decision of DECISIONS) {
    const { took, wouldTake } = decision;
    const moved = replay.add(recorded(decision), undefined);
    expect(moved).toEqual(took === wouldTake ? undefined : { from: took, to: wouldTake });
  }
  const { before, after, open, changed } = replay.result();
  const cells = ({ costMicros, latencyMs, success }: Expectation) => [
    decimalOf(costMicros),
    `${latencyMs} ms`,
    `${Number((success * 100).toFixed(6))} %`,
  ];
  const documented = rowsAfter(EXAMPLE, "| expected");
  expect(documented.map(([, cell]) => cell)).toEqual(cells(before));
  expect(documented.map(([, , cell]) => cell)).toEqual(cells(after));
  expect([open, changed]).toEqual([3, 2]);
  expect(EXAMPLE).toContain("Two of the three decisions with a choice would change");
  const saved = decimalOf(before.costMicros - after.costMicros);
  const slower = after.latencyMs - before.latencyMs;
  const worse = Number(((before.success - after.success) * 100).toFixed(6));
  expect(EXAMPLE).toContain(`that saves ${saved}, and costs ${slower} ms and ${worse} % of success a task.`);
});
