/** Whose turn it is, for strategies that take turns. */

/** So many, and they are counted from 0 again: what the record can hold. */
const TURNS = 2 ** 32;
/** Names whose turns are remembered. One that is forgotten begins anew with its first agent. */
const MOST_NAMES = 10_000;

/** How many turns were taken of a name before, from 0 on. `isTaken` says whether this is one more. */
export type TurnOf = (name: string, isTaken: boolean) => number;

export function createTurns(): TurnOf {
  /** The name that was longest without a turn comes first. */
  const turns = new Map<string, number>();
  return (name, isTaken) => {
    const turn = turns.get(name) ?? 0;
    if (isTaken) {
      turns.delete(name);
      turns.set(name, (turn + 1) % TURNS);
      if (turns.size > MOST_NAMES) turns.delete(turns.keys().next().value!);
    }
    return turn;
  };
}
