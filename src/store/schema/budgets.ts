/** What replicas have of budgets, and what tasks have used. See schema.ts. */
import type { Generated } from "kysely";

/** What one replica has of one window of a budget. */
export interface BudgetSliceTable {
  workspace_id: string;
  limit_key: string;
  replica_id: string;
  /** What it may have reserved and used, in all. */
  granted: number;
  wanted: Generated<number>;
  /** The limit by which it was last granted something. */
  limit_units: number;
  /** When the window ends. */
  ends_at: Date;
  /** 0: its replica's own; 1: that one is dead; 2: and no task has any of it. */
  state: Generated<number>;
}

/** What tasks have been given of a slice. It only grows. */
export interface BudgetReservationTable {
  workspace_id: string;
  limit_key: string;
  replica_id: string;
  units: number;
  /** Set when its replica is dead: `units` stay as they are. */
  closed_units: number | null;
}

/** What came of it, by the replica that wrote it down. All of it only grows. */
export interface BudgetSettlementTable {
  workspace_id: string;
  limit_key: string;
  replica_id: string;
  written_by: string;
  /** Units that tasks have held and did not use. */
  released: Generated<number>;
  /** Units that they used of what they held. */
  charged: Generated<number>;
  /** Units that they used beyond that, and that the slice had. */
  extra: Generated<number>;
  /** What they cost beyond what was to be had. */
  overrun: Generated<number>;
  is_closed: Generated<boolean>;
}
