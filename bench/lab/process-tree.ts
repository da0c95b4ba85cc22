/** What a process and its children cost, from Linux's /proc. */
import { readFile } from "node:fs/promises";

/** Linux tells times in hundredths of a second, whatever its own clock. */
const TICK_MS = 10;

/**
 * Time on the processor of a process and its children since they started, those included that have ended, in milliseconds.
 * Undefined where it cannot be read.
 */
export async function treeCpuMs(pid: number): Promise<number | undefined> {
  try {
    const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).split(" ").filter(Boolean);
    // One that has ended since then is in the time of its parent.
    const ofChildren = await Promise.all(children.map((child) => ticks(child).catch(() => 0)));
    return ofChildren.reduce((sum, own) => sum + own, await ticks(pid)) * TICK_MS;
  } catch {
    return undefined;
  }
}

/** In user and kernel mode, its own and that of its children that have ended. */
async function ticks(pid: number | string): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  // The name in parentheses may hold anything; the times are fields 14 to 17, and the name is field 2.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
}
