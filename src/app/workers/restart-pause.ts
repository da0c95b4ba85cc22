/** How long a worker's place stays empty when it has died. */

/** The first pause, in milliseconds, before chance shortens it. Each death in a row doubles it. */
const FIRST_MS = 200;
/** The longest pause, in milliseconds. */
export const LONGEST_PAUSE_MS = 30_000;

/**
 * In milliseconds, from half of what is due to all of it: workers that died of one cause do not come back at once. `deaths` are those in
 * a row before this one, from 0; `random` is from 0 to 1.
 */
export function restartPauseMs(deaths: number, random: number): number {
  const due = Math.min(LONGEST_PAUSE_MS, FIRST_MS * 2 ** deaths);
  return Math.round((due * (1 + random)) / 2);
}
