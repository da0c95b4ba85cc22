/** Guesses what a misspelled name was meant to be. */

/** The candidate that is at most `most` typing mistakes away, the nearest of them; undefined when none is. */
export function nearest(name: string, candidates: Iterable<string>, most: number): string | undefined {
  let best: string | undefined;
  let bestDistance = most + 1;
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - name.length) >= bestDistance) continue;
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** What to do about a name that is none of the candidates: the nearest that is, or which there are. */
export function suggestion(name: string, candidates: readonly string[]): string {
  const near = nearest(name, candidates, Math.max(2, Math.floor(name.length / 3)));
  if (near) return `Did you mean ${near}?`;
  return candidates.length > 0 ? `There are ${candidates.join(", ")}.` : "There is none.";
}

/** How many characters must be added, dropped, changed, or swapped with their neighbor. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(previous[j]! + 1, row[j - 1]! + 1, previous[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, before[j - 2]! + 1);
      row.push(cost);
    }
    before = previous;
    previous = row;
  }
  return previous[b.length]!;
}
