/** Which agents of other workspaces a workspace may use: what grants that were accepted say. All times are the database's. */
import type { Database, Row, Statement } from "./database.ts";

/** An agent that one workspace lends another by a grant. */
export interface Lending {
  readonly grantId: string;
  /** Whose agent it is, and its id there. */
  readonly providerId: string;
  readonly agentId: string;
  /** The one capability that is lent; undefined: all that the agent can do. */
  readonly capabilityId: string | undefined;
  /** Its id at the workspace that borrows it. */
  readonly aliasId: string;
  readonly acceptedAt: Date;
}

export interface LendingReads {
  /** What a workspace may use now, by alias. What a suspended workspace lends rests until that one is resumed. */
  of(consumerId: string): Promise<Lending[]>;
  /** The same of one alias. */
  find(consumerId: string, aliasId: string): Promise<Lending | undefined>;
  /** What was lent under the alias at a moment, whatever became of it since: the tasks of that moment are with it. */
  at(consumerId: string, aliasId: string, moment: Date): Promise<Lending | undefined>;
}

const COLUMNS = `g.grant_id, g.provider_workspace_id, g.agent_id, g.capability_id, g.alias_agent_id, g.accepted_at`;

const ACTIVE = `g.consumer_workspace_id = $1 and g.state = 2 and (g.expires_at is null or g.expires_at > clock_timestamp())
  and p.suspended_at is null`;

const OF: Statement = {
  name: "lendings-of-v1",
  text: `
    select ${COLUMNS} from grants g join workspaces p on p.workspace_id = g.provider_workspace_id
    where ${ACTIVE} order by g.alias_agent_id`,
};

const FIND: Statement = {
  name: "lendings-find-v1",
  text: `
    select ${COLUMNS} from grants g join workspaces p on p.workspace_id = g.provider_workspace_id
    where ${ACTIVE} and g.alias_agent_id = $2`,
};

const AT: Statement = {
  name: "lendings-at-v2",
  text: `
    select ${COLUMNS} from grants g
    where g.consumer_workspace_id = $1 and g.alias_agent_id = $2 and g.accepted_at <= $3
      and (g.ended_at is null or g.ended_at > $3) and (g.expires_at is null or g.expires_at > $3)
    order by g.accepted_at desc limit 1`,
};

export function createLendingReads(db: Database): LendingReads {
  return {
    of: async (consumerId) => (await db.query(OF, [consumerId])).map(lending),
    async find(consumerId, aliasId) {
      const [row] = await db.query(FIND, [consumerId, aliasId]);
      return row && lending(row);
    },
    async at(consumerId, aliasId, moment) {
      const [row] = await db.query(AT, [consumerId, aliasId, moment]);
      return row && lending(row);
    },
  };
}

const lending = (row: Row): Lending => ({
  grantId: row.grant_id as string,
  providerId: row.provider_workspace_id as string,
  agentId: row.agent_id as string,
  capabilityId: (row.capability_id as string | null) ?? undefined,
  aliasId: row.alias_agent_id as string,
  acceptedAt: row.accepted_at as Date,
});
