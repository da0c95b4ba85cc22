/** A process's side of `startServer`: it says that it is ready, answers questions, and ends with the one that started it. */
import { type Answer, CPU_QUESTION, MEMORY_QUESTION, type Question } from "../lab/server-process.ts";

export interface Announced {
  /** Runs when the bench has no more need of this process, or is gone; then the process ends. */
  stop?: () => Promise<void>;
  /** Answers what the bench asks. */
  answer?: (question: never) => Promise<unknown>;
}

/** Tells the bench that this process is ready, and where it is when it is a server. */
export function announce(address: object, { stop = async () => {}, answer }: Announced = {}): void {
  const send = process.send?.bind(process);
  if (!send) throw new Error("this process is started by a benchmark: npm run bench");
  const end = () => void stop().finally(() => process.exit());
  process.once("disconnect", end);
  process.on("message", async ({ id, question }: Question) => {
    try {
      send({ id, answer: await (ofEvery(question) ?? answer?.(question as never)) } satisfies Answer);
    } catch (error) {
      send({ id, error: String((error as Error).stack ?? error) } satisfies Answer);
    }
  });
  // The bench may have gone while this process started.
  if (process.connected) send(address);
  else end();
}

/** What every process answers; undefined for what this one is asked for itself. */
function ofEvery(question: unknown): number | undefined {
  if (question === CPU_QUESTION) return cpuMs();
  if (question === MEMORY_QUESTION) return process.memoryUsage.rss();
  return undefined;
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

// Ctrl-C reaches every process of a terminal; the bench ends its servers in order.
process.on("SIGINT", () => {});
