/**
 * Which core serves and which do the rest. On one core of its own a server shows what a call costs it, whatever the
 * machine; the load, the database and the bench share the others.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";

export interface Cores {
  /** In words, for people. */
  readonly description: string;
  /** A command, by its words, so that it runs on the servers' core. */
  onServerCore(command: readonly string[]): readonly string[];
}

/** Of a machine whose cores are nobody's in particular. */
export const ANY_CORE: Cores = { description: "nothing bound to any", onServerCore: (command) => command };

/** Keeps this process, and what it starts from now on, off the servers' core. Without `taskset` nothing is bound. */
export function divideCores(): Cores {
  const count = availableParallelism();
  try {
    const [server, ...rest] = allowedCores();
    if (server === undefined || rest.length === 0) throw new Error("there is one core");
    execFileSync("taskset", ["--all-tasks", "--cpu-list", "--pid", rest.join(","), String(process.pid)], {
      stdio: "ignore",
    });
    return {
      description: `${count}, each server bound to core ${server}, the bench and what else it starts to ${rest.join(",")}`,
      onServerCore: (command) => ["taskset", "--cpu-list", String(server), ...command],
    };
  } catch {
    return { description: `${count}, nothing bound to any`, onServerCore: (command) => command };
  }
}

/** From Linux's lists, such as `0-2,5`. */
function allowedCores(): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "";
  return list.split(",").flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}
