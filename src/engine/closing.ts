/** How to close what was opened, in the order in which it was. */
export type Closing = (() => unknown)[];

/** Closes one after another: the last that was opened is closed first. */
export async function closeAll(closing: Closing): Promise<void> {
  for (const close of closing.toReversed()) await close();
}
