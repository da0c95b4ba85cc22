/**
 * What agents declare and what was measured of them, as strategies reckon with it: numbers that no arithmetic turns into
 * NaN, whatever was put in.
 */

/** Beyond it, more is the same: a product of two stays far from the end of the numbers. */
const MOST = 1e15;

/** From 0 to 1e15. What is no number counts as the most: of the unknown, nothing good is assumed. */
export const quantity = (value: number): number => (value < MOST ? Math.max(0, value) : MOST);

/** From 0 to 1. What is no number counts as 1. */
export const share = (value: number): number => (value < 1 ? Math.max(0, value) : 1);
