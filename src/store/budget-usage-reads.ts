/** What was used of budgets, for people and for programs. Every method takes the workspace first, alone or in its argument. */
import type { LimitKey } from "./allotment-repository.ts";
import type { Database, Row, Statement } from "./database.ts";

/** One window, over all replicas. Units are millionths of the currency, or tasks. */
export interface WindowUsage {
  key: string;
  /** The limit by which it was last shared out. */
  limit: number;
  used: number;
  /** Held by tasks that have not ended. */
  reserved: number;
  /** What tasks have cost beyond what was to be had. */
  overrun: number;
  endsAt: Date;
}

/** The same as one replica needs it. */
export interface WindowStanding {
  used: number;
  reserved: number;
  /** Units that other replicas have and do not use now. */
  elsewhere: number;
}

/** Which windows, in the order of their keys. */
export interface WindowRange {
  /** Keys from here on, and before `to`. */
  from: string;
  to: string;
  /** Only those beyond this one. */
  after?: string | undefined;
  /** Only those that end after this. */
  endsAfter?: Date | undefined;
  order: "ascending" | "descending";
  limit: number;
}

export interface BudgetUsageReads {
  standing(limit: LimitKey, replicaId: string): Promise<WindowStanding>;
  windows(workspaceId: string, range: WindowRange): Promise<WindowUsage[]>;
  /**
   * The windows of all workspaces that are open at a time and of which the greatest shares are used, at most `limit`, of the ten times
   * as many of which the most is shared out.
   */
  fullest(at: Date, limit: number): Promise<(WindowUsage & { workspaceId: string })[]>;
}

const STANDING: Statement = {
  name: "budget-standing-v1",
  text: `
    select coalesce(sum(t.charged + t.extra), 0)::bigint as used,
           coalesce(sum(r.units - t.released - t.charged), 0)::bigint as reserved,
           coalesce(sum(s.granted - (coalesce(r.units, 0) - t.released + t.extra))
                    filter (where s.replica_id <> $3 and s.state = 0), 0)::bigint as elsewhere
    from budget_slices s
    left join budget_reservations r
      on r.workspace_id = s.workspace_id and r.limit_key = s.limit_key and r.replica_id = s.replica_id
    cross join lateral (
      select coalesce(sum(released), 0) as released, coalesce(sum(charged), 0) as charged, coalesce(sum(extra), 0) as extra
      from budget_settlements t
      where t.workspace_id = s.workspace_id and t.limit_key = s.limit_key and t.replica_id = s.replica_id
    ) t
    where s.workspace_id = $1 and s.limit_key = $2`,
};

// Sums of the slices, of what was reserved and of what came of it, each by itself: a replica may have one and not the other.
const usage = (slices: string): string => `
    select s.*, coalesce(t.charged + t.extra, 0)::bigint as used,
           (coalesce(r.units, 0) - coalesce(t.released + t.charged, 0))::bigint as reserved,
           coalesce(t.overrun, 0)::bigint as overrun
    from (${slices}) s
    cross join lateral (
      select sum(units) as units from budget_reservations
      where workspace_id = s.workspace_id and limit_key = s.limit_key
    ) r
    cross join lateral (
      select sum(released) as released, sum(charged) as charged, sum(extra) as extra, sum(overrun) as overrun
      from budget_settlements where workspace_id = s.workspace_id and limit_key = s.limit_key
    ) t`;

const windowsIn = (order: "asc" | "desc"): Statement => ({
  name: `budget-windows-${order}-v1`,
  text: `${usage(`
      select workspace_id, limit_key, max(limit_units) as limit_units, max(ends_at) as ends_at from budget_slices
      where workspace_id = $1 and limit_key >= $2 and limit_key < $3
        and ($4::text is null or limit_key ${order === "asc" ? ">" : "<"} $4)
        and ($5::timestamptz is null or ends_at > $5)
      group by workspace_id, limit_key order by limit_key ${order} limit $6`)} order by s.limit_key ${order}`,
});
const ASCENDING = windowsIn("asc");
const DESCENDING = windowsIn("desc");

// Keys that begin with no letter and no digit are of quotas. Where little is shared out, little is used: sums are made only of those of which the most is. What is shared out and idle is given
// back within seconds, so ten times as many as are asked for are enough to choose from.
const FULLEST: Statement = {
  name: "budget-fullest-v3",
  text: `
    select * from (${usage(`
      select workspace_id, limit_key, max(limit_units) as limit_units, max(ends_at) as ends_at from budget_slices
      where ends_at > $1 and limit_key >= '0' group by workspace_id, limit_key
      order by sum(granted)::float8 / greatest(max(limit_units), 1) desc, workspace_id, limit_key limit 10 * $2::int`)}
    ) u order by (used + reserved)::float8 / greatest(limit_units, 1) desc, workspace_id, limit_key limit $2::int`,
};

export function createBudgetUsageReads(db: Database): BudgetUsageReads {
  return {
    async standing({ workspaceId, key }, replicaId) {
      const [row] = await db.query(STANDING, [workspaceId, key, replicaId]);
      return {
        used: row!.used as number,
        reserved: row!.reserved as number,
        elsewhere: Math.max(0, row!.elsewhere as number),
      };
    },
    async windows(workspaceId, { from, to, after, endsAfter, order, limit }) {
      const statement = order === "ascending" ? ASCENDING : DESCENDING;
      const values = [workspaceId, from, to, after ?? null, endsAfter ?? null, limit];
      return (await db.reading(workspaceId, (reader) => reader.query(statement, values))).map(usageIn);
    },
    async fullest(at, limit) {
      const rows = await db.query(FULLEST, [at, limit]);
      return rows.map((row) => ({ ...usageIn(row), workspaceId: row.workspace_id as string }));
    },
  };
}

const usageIn = (row: Row): WindowUsage => ({
  key: row.limit_key as string,
  limit: row.limit_units as number,
  used: row.used as number,
  reserved: row.reserved as number,
  overrun: row.overrun as number,
  endsAt: row.ends_at as Date,
});
