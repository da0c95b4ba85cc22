/**
 * Does pieces of work one after another, and those that come in quick succession together. A piece that says `chunk` waits
 * for others for a bounded time; one that says `last` goes with the chunks before it; any other goes alone. What waits goes
 * at once when something comes that cannot wait.
 */

/** Whether a piece of work may be done together with its neighbours. */
export type Gather = "chunk" | "last";

/** Pieces that are done as one at most. */
const MOST = 256;

export interface Gatherer<Work, Result> {
  add(work: Work, gather?: Gather): Promise<Result>;
  /** Does something else in turn. */
  inTurn<T>(work: () => Promise<T>): Promise<T>;
}

interface Waiting<Work, Result> {
  works: Work[];
  result: PromiseWithResolvers<Result>;
  timer: NodeJS.Timeout;
}

/** `perform` does what `join` has made of one or several pieces. */
export function createGatherer<Work, Result>(
  waitMs: number,
  perform: (work: Work) => Promise<Result>,
  join: (works: readonly Work[]) => Work,
): Gatherer<Work, Result> {
  let last: Promise<unknown> = Promise.resolve();
  let waiting: Waiting<Work, Result> | undefined;

  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = last.then(work);
    last = turn.catch(() => {});
    return turn;
  }

  function flush(): void {
    if (!waiting) return;
    const { works, result, timer } = waiting;
    waiting = undefined;
    clearTimeout(timer);
    result.resolve(inTurn(() => perform(join(works))));
  }

  return {
    inTurn(work) {
      flush();
      return inTurn(work);
    },
    add(work, gather) {
      if (gather === undefined || (gather === "last" && !waiting)) {
        flush();
        return inTurn(() => perform(work));
      }
      waiting ??= { works: [], result: Promise.withResolvers(), timer: setTimeout(flush, waitMs) };
      const { works, result } = waiting;
      works.push(work);
      if (gather === "last" || works.length >= MOST) flush();
      return result.promise;
    },
  };
}
