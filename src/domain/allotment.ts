/**
 * How a limit is shared by replicas. Each has a slice of it, in whole units, from which it serves its own work without asking
 * anybody; when the slice is used up, it asks for more, and what it does not need it gives back. What all slices hold
 * together never exceeds the limit, but for units that are in use already. Pure.
 */

/** What a replica says of its slice when it asks. All numbers are whole, and not negative. */
export interface SliceAsk {
  /** The limit as the replica knows it. */
  limit: number;
  /** Units that its work has. It keeps them whatever the limit says. */
  held: number;
  /** The slice that it would go on with if nobody else wanted of it: what it has, or less where some was idle for long. */
  keep: number;
  /** Units that its work needs, those that it has among them. */
  need: number;
  /** Units that it knows to be given back past it, in all: they are not among those that its work has. Undefined at first. */
  returned?: number | undefined;
}

/** What the other replicas have of the same limit. */
export interface OtherSlices {
  /** Units in their slices. */
  granted: number;
  /** Units that their work needs and that they did not get. */
  wanted: number;
}

/**
 * The slice that a replica has from now on. Who needs more gets half of what is left beside it, so that it need not ask for
 * each unit; where others want of it, nobody has more than its work needs. It is never less than what its work has.
 */
export function sliceAfter({ limit, held, keep, need }: SliceAsk, others: OtherSlices): number {
  const most = Math.max(0, limit - others.granted);
  let wish = need;
  if (others.wanted === 0) wish = need > keep ? need + Math.ceil(Math.max(0, most - need) / 2) : keep;
  return Math.max(held, Math.min(wish, most));
}
