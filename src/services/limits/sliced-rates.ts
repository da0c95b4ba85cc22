/**
 * Rates that hold over all replicas. Each draws points of the running second in slices, and spends them in memory until the second is
 * over; then what is left of them is nothing any more. So the database is asked some twenty times a second for a limit however many calls
 * there are, and no second lets more through than its limit, on however many replicas: what one has and does not spend, others lack.
 */
import type { SharedRates } from "../../store/shared-rates.ts";
import type { Runtime } from "../runtime.ts";

/** The share of a limit that is drawn at once. Limits below this are drawn one point at a time. */
const SLICES = 20;
/** Keys that are remembered at most. Who is forgotten loses what it had of its second. */
const MOST_KEYS = 50_000;
/** How often whoever waits draws anew, before it is told to come again. */
const MOST_DRAWS = 8;

export interface SlicedRates {
  /**
   * Takes one point. Undefined: it is taken. A number: there is none, and a new second begins in so many milliseconds. A promise only where
   * the database must be asked. Never throws.
   */
  take(key: string, limit: number): undefined | number | Promise<number | undefined>;
}

/** What this replica has of the second of one key. */
interface Slice {
  points: number;
  untilMs: number;
  /** Whether nothing more is to be had of this second. */
  isLast: boolean;
  /** Calls that wait for points. */
  waiting: number;
  drawing: Promise<void> | undefined;
}

export function createSlicedRates(
  rates: Pick<SharedRates, "draw">,
  { elapsedMs }: Pick<Runtime, "elapsedMs">,
): SlicedRates {
  const slices = new Map<string, Slice>();

  function sliceOf(key: string): Slice {
    const known = slices.get(key);
    if (known) return known;
    if (slices.size >= MOST_KEYS) forgetSome();
    const slice: Slice = {
      points: 0,
      untilMs: Number.NEGATIVE_INFINITY,
      isLast: false,
      waiting: 0,
      drawing: undefined,
    };
    slices.set(key, slice);
    return slice;
  }

  /** Forgets those whose second is over; a tenth of all where that is nobody. */
  function forgetSome(): void {
    const now = elapsedMs();
    for (const [key, { untilMs, waiting }] of slices) if (untilMs <= now && waiting === 0) slices.delete(key);
    for (const key of slices.keys()) {
      if (slices.size <= MOST_KEYS * 0.9) return;
      slices.delete(key);
    }
  }

  async function draw(slice: Slice, key: string, limit: number): Promise<void> {
    const wanted = Math.min(limit, Math.max(slice.waiting, Math.floor(limit / SLICES), 1));
    const drawn = await rates.draw(key, limit, wanted);
    [slice.points, slice.untilMs, slice.isLast] = [drawn.points, drawn.untilMs, drawn.isLast];
  }

  async function wait(slice: Slice, key: string, limit: number): Promise<number | undefined> {
    slice.waiting += 1;
    try {
      for (let draws = 0; draws < MOST_DRAWS; draws++) {
        slice.drawing ??= draw(slice, key, limit).finally(() => {
          slice.drawing = undefined;
        });
        await slice.drawing;
        const answer = spend(slice);
        if (answer !== "ask") return answer;
      }
      return Math.max(1, slice.untilMs - elapsedMs());
    } finally {
      slice.waiting -= 1;
    }
  }

  function spend(slice: Slice): undefined | number | "ask" {
    const leftMs = slice.untilMs - elapsedMs();
    if (leftMs <= 0) return "ask";
    if (slice.points > 0) {
      slice.points -= 1;
      return undefined;
    }
    return slice.isLast ? leftMs : "ask";
  }

  return {
    take(key, limit) {
      const slice = sliceOf(key);
      const answer = spend(slice);
      return answer === "ask" ? wait(slice, key, limit) : answer;
    },
  };
}
