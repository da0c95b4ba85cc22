/**
 * What tasks have cost, as their agents report it. What is beyond what a task held is taken of what is left of the budget: here, then
 * with other replicas; what is nowhere is noted as overrun.
 */
import type { Logger } from "pino";
import { beyondHold } from "../domain/budget/hold.ts";
import { costSaid } from "../domain/cost-extension.ts";
import { decimalOf } from "../domain/money.ts";
import type { NewUpdate, TaskHeader, TaskImage } from "../domain/task-log.ts";
import type { LimitKey } from "../store/allotment-repository.ts";
import type { Bill, Budgets } from "./budget-port.ts";
import type { Slice } from "./limit-slice.ts";
import type { Runtime } from "./runtime.ts";

/** How long it is waited for what other replicas do not need, in milliseconds. */
export const WAIT_MS = 1_500;

export interface BudgetBillsDeps {
  /** This replica's slice of a window, if the budget is still there or something is left of it. */
  sliceOf(limit: LimitKey): Slice | undefined;
  /** Units that other replicas have and do not use now, and those of all that are neither used nor held by tasks. */
  leftOf(limit: LimitKey, units: number): Promise<{ elsewhere: number; free: number }>;
  /** Resolves when there may be units where there were none. */
  room(): Promise<void>;
  roomWithin(ms: number, room: Promise<void>, signal: AbortSignal): Promise<void>;
  replicaId: () => string;
  /** Told of what tasks cost beyond what was to be had, in millionths. */
  onOverrun: (micros: number) => void;
  runtime: Pick<Runtime, "elapsedMs">;
  log: Logger;
}

/** What a task has cost beyond one of its holds. */
interface Beyond {
  readonly key: string;
  readonly units: number;
}

/** Units of it that were to be had, and of whose slice they were taken. */
interface Taken {
  readonly slice: Slice | undefined;
  /** This replica, as it was called then: it may be declared dead and join anew before the bill is made. */
  readonly replicaId: string;
  readonly extra: number;
}

export function createBudgetBills(deps: BudgetBillsDeps): Pick<Budgets, "billOf" | "isOverspent" | "fullBillOf"> {
  const { sliceOf, replicaId, runtime, log } = deps;

  /** What an agent reports of a task that holds money, in millionths; undefined where it reports nothing, or nothing that counts. */
  function reportedCost({ header, task }: TaskImage, updates: readonly NewUpdate[]): number | undefined {
    const { holds, taskId, agentId } = header;
    if (!holds?.some(({ unit }) => unit === "MONEY")) return undefined;
    const said = costSaid(updates, task.metadata);
    if (said === undefined || "micros" in said) return said?.micros;
    const about = { taskId, agentId, cost: said.rubbish };
    log.warn(about, "an agent reported a cost that is none; what was declared counts");
    return undefined;
  }

  function bill(header: TaskHeader, micros: number, take: (beyond: Beyond) => Taken): Bill {
    const { taskId, agentId } = header;
    const taken: Taken[] = [];
    const beyond = beyondHolds(header, micros).map((one) => {
      const { key, units } = one;
      const had = take(one);
      taken.push(had);
      return { key, replicaId: had.replicaId, extra: had.extra, overrun: units - had.extra };
    });
    let isOpen = true;
    return {
      micros,
      beyond,
      stored() {
        if (!isOpen) return;
        isOpen = false;
        for (const { key, overrun } of beyond) {
          if (overrun === 0) continue;
          deps.onOverrun(overrun);
          const about = { taskId, agentId, budget: key, overrun: decimalOf(overrun) };
          log.warn(about, "a task cost more than its budget had left");
        }
      },
      cancel() {
        if (!isOpen) return;
        isOpen = false;
        for (const { slice, extra } of taken.splice(0)) if (extra > 0) slice?.giveBack(extra);
      },
    };
  }

  /** Takes as much of what is needed as there is, here and at other replicas. */
  async function takeMost(limit: LimitKey, units: number, signal: AbortSignal): Promise<Taken> {
    const slice = sliceOf(limit);
    const until = runtime.elapsedMs() + WAIT_MS;
    try {
      for (let asked = 0; slice; asked++) {
        const room = deps.room();
        if (await slice.ask(units)) return { slice, replicaId: replicaId(), extra: units };
        const { elsewhere, free } = await deps.leftOf(limit, slice.limit);
        const leftMs = until - runtime.elapsedMs();
        if ((elsewhere === 0 && free <= slice.idle) || leftMs <= 0 || signal.aborted) break;
        slice.hope();
        if (asked > 0) await deps.roomWithin(leftMs, room, signal);
      }
    } catch (err) {
      log.debug({ err }, "what a task cost beyond what it held could not be had of the database");
    }
    return { slice, replicaId: replicaId(), extra: takeUpTo(slice, units) };
  }

  return {
    billOf(image, updates) {
      const micros = reportedCost(image, updates);
      if (micros === undefined) return undefined;
      const { workspaceId } = image.header;
      return bill(image.header, micros, ({ key, units }) => {
        const slice = sliceOf({ workspaceId, key });
        return { slice, replicaId: replicaId(), extra: takeUpTo(slice, units) };
      });
    },

    isOverspent({ header, task }, updates) {
      const said = header.holds && costSaid(updates, task.metadata);
      return said !== undefined && "micros" in said && beyondHolds(header, said.micros).length > 0;
    },

    async fullBillOf(image, updates, signal) {
      const micros = reportedCost(image, updates);
      if (micros === undefined) return undefined;
      const { header } = image;
      const { workspaceId } = header;
      const taken = await Promise.all(
        beyondHolds(header, micros).map(
          async ({ key, units }) => [key, await takeMost({ workspaceId, key }, units, signal)] as const,
        ),
      );
      const takenOf = new Map(taken);
      return bill(header, micros, ({ key }) => takenOf.get(key)!);
    },
  };
}

const beyondHolds = ({ holds = [] }: TaskHeader, costMicros: number): Beyond[] =>
  holds.flatMap((held) => {
    const units = beyondHold(held, { completed: true, costMicros });
    return units === 0 ? [] : [{ key: held.key, units }];
  });

function takeUpTo(slice: Slice | undefined, units: number): number {
  const extra = Math.min(units, slice?.idle ?? 0);
  return extra > 0 && slice?.take(extra) ? extra : 0;
}
