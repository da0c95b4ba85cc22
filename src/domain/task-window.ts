/**
 * How the tasks of the last five minutes went: how many ended, failed and needed another attempt, and how long they took. Of a
 * fixed size, whatever comes: times are counted in classes that are 8 % wide. Pure: the time is given, in milliseconds of any
 * one clock.
 */

/** What is older does not count, to within a tenth of it. */
export const WINDOW_MS = 300_000;
const SLOTS = 10;
const SLOT_MS = WINDOW_MS / SLOTS;
const CLASSES = 256;
/** A class begins where the one before ends, and ends at this many times its beginning: the last one at 4 days. */
const GROWTH = 1.08;
const LOG_GROWTH = Math.log(GROWTH);

interface Slot {
  /** Which span of time it is of: the number of spans since the clock began. */
  span: number;
  ended: number;
  failed: number;
  retried: number;
  readonly times: Uint32Array;
}

export interface TaskWindow {
  readonly slots: (Slot | undefined)[];
}

/** How a task ended. Tasks that their client has canceled say nothing, and are left out. */
export interface TaskEnd {
  /** From its acceptance, in milliseconds. */
  readonly latencyMs: number;
  readonly failed: boolean;
  /** Whether it needed more than one attempt. */
  readonly retried: boolean;
}

/** What is in a window. */
export interface TaskRates {
  /** How many tasks ended. The other values are of these, and 0 when there are none. */
  readonly samples: number;
  readonly errorRate: number;
  readonly retryRate: number;
  /** 95 of 100 took no longer, to within 4 %. */
  readonly p95Ms: number;
}

export const newTaskWindow = (): TaskWindow => ({ slots: new Array<Slot | undefined>(SLOTS).fill(undefined) });

/** Takes in the end of a task. */
export function addTask(window: TaskWindow, { latencyMs, failed, retried }: TaskEnd, nowMs: number): void {
  const span = Math.floor(nowMs / SLOT_MS);
  const place = span % SLOTS;
  let slot = window.slots[place];
  if (!slot) {
    slot = { span, ended: 0, failed: 0, retried: 0, times: new Uint32Array(CLASSES) };
    window.slots[place] = slot;
  } else if (slot.span !== span) {
    slot.span = span;
    slot.ended = slot.failed = slot.retried = 0;
    slot.times.fill(0);
  }
  slot.ended += 1;
  if (failed) slot.failed += 1;
  if (retried) slot.retried += 1;
  slot.times[classOf(latencyMs)]! += 1;
}

/** What the window holds by now. */
export function ratesOf(window: TaskWindow, nowMs: number): TaskRates {
  const oldest = Math.floor(nowMs / SLOT_MS) - SLOTS + 1;
  const slots = window.slots.filter((slot) => slot !== undefined && slot.span >= oldest) as Slot[];
  const sum = (of: (slot: Slot) => number) => slots.reduce((total, slot) => total + of(slot), 0);
  const samples = sum(({ ended }) => ended);
  if (samples === 0) return { samples, errorRate: 0, retryRate: 0, p95Ms: 0 };
  return {
    samples,
    errorRate: sum(({ failed }) => failed) / samples,
    retryRate: sum(({ retried }) => retried) / samples,
    p95Ms: timeAtRank(slots, Math.ceil(samples * 0.95)),
  };
}

function timeAtRank(slots: readonly Slot[], rank: number): number {
  let passed = 0;
  for (let i = 0; i < CLASSES; i++) {
    for (const { times } of slots) passed += times[i]!;
    if (passed >= rank) return middleOf(i);
  }
  return middleOf(CLASSES - 1);
}

/** Class 0 is what takes less than a millisecond. */
function classOf(latencyMs: number): number {
  if (!(latencyMs >= 1)) return 0;
  return Math.min(CLASSES - 1, 1 + Math.floor(Math.log(latencyMs) / LOG_GROWTH));
}

const middleOf = (index: number): number => (index === 0 ? 0 : Math.round(GROWTH ** (index - 0.5)));
