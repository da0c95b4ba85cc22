/** What was said of agents' capabilities with AddCapability. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Selectable, sql, type Transaction } from "kysely";
import { type Capability, CapabilitySchema } from "../../gen/signalbox/v1/registry_pb.ts";
import type { Recording } from "./audit-trail.ts";
import type { Database } from "./database.ts";
import type { CapabilityTable } from "./schema/agents.ts";
import type { Schema } from "./schema.ts";

export interface CapabilityRecord {
  agentId: string;
  /** As it was given. */
  given: Capability;
  /** Another one with every change; no two capabilities ever have the same. */
  version: number;
}

/** The key of the last record of a page. */
export interface CapabilityKey {
  agentId: string;
  capabilityId: string;
}

export interface CapabilityRepository {
  /**
   * Gives an agent a capability, in the place of one of the same id. "missing": there is no such agent; "full": it has `most`
   * others already. The agent counts as changed.
   */
  put(
    workspaceId: string,
    agentId: string,
    given: Capability,
    options: { most: number; now: Date; record?: Recording },
  ): Promise<"stored" | "missing" | "full">;
  /** False when the agent, if there is one, was given no such capability. Otherwise the agent counts as changed. */
  remove(workspaceId: string, agentId: string, capabilityId: string, now: Date, record?: Recording): Promise<boolean>;
  /** Those of all agents, by agent and capability, after `after`. */
  list(workspaceId: string, page: { after?: CapabilityKey; limit: number }): Promise<CapabilityRecord[]>;
  /** Those of one agent, by capability. */
  ofAgent(workspaceId: string, agentId: string): Promise<CapabilityRecord[]>;
}

export function createCapabilityRepository({ kysely }: Database): CapabilityRepository {
  return {
    put(workspaceId, agentId, given, { most, now, record }) {
      return kysely.transaction().execute(async (tx) => {
        // Holds the agent's row, so that what is counted stays as it is.
        if (!(await holdAgent(tx, workspaceId, agentId))) return "missing";
        const { capabilityId } = given;
        const others = await tx
          .selectFrom("capabilities")
          .select((eb) => eb.cast<number>(eb.fn.countAll(), "integer").as("count"))
          .where("workspace_id", "=", workspaceId)
          .where("agent_id", "=", agentId)
          .where("capability_id", "<>", capabilityId)
          .executeTakeFirstOrThrow();
        if (others.count >= most) return "full";
        const body = toBinary(CapabilitySchema, given);
        await tx
          .insertInto("capabilities")
          .values({
            workspace_id: workspaceId,
            agent_id: agentId,
            capability_id: capabilityId,
            body,
            created_at: now,
            updated_at: now,
          })
          .onConflict((conflict) =>
            conflict.columns(["workspace_id", "agent_id", "capability_id"]).doUpdateSet({
              body,
              version: sql`nextval('capability_versions')`,
              updated_at: now,
            }),
          )
          .execute();
        await touchAgent(tx, workspaceId, agentId, now);
        await record?.(tx);
        return "stored";
      });
    },

    remove(workspaceId, agentId, capabilityId, now, record) {
      return kysely.transaction().execute(async (tx) => {
        // First, as `put` does, so that the two cannot wait for each other.
        if (!(await holdAgent(tx, workspaceId, agentId))) return false;
        const result = await tx
          .deleteFrom("capabilities")
          .where("workspace_id", "=", workspaceId)
          .where("agent_id", "=", agentId)
          .where("capability_id", "=", capabilityId)
          .executeTakeFirst();
        if (result.numDeletedRows === 0n) return false;
        await touchAgent(tx, workspaceId, agentId, now);
        await record?.(tx);
        return true;
      });
    },

    async list(workspaceId, { after, limit }) {
      const rows = await kysely
        .selectFrom("capabilities")
        .selectAll()
        .where("workspace_id", "=", workspaceId)
        .$if(after !== undefined, (q) =>
          q.where((eb) =>
            eb(eb.refTuple("agent_id", "capability_id"), ">", eb.tuple(after!.agentId, after!.capabilityId)),
          ),
        )
        .orderBy("agent_id")
        .orderBy("capability_id")
        .limit(limit)
        .execute();
      return rows.map(record);
    },

    async ofAgent(workspaceId, agentId) {
      const rows = await kysely
        .selectFrom("capabilities")
        .selectAll()
        .where("workspace_id", "=", workspaceId)
        .where("agent_id", "=", agentId)
        .orderBy("capability_id")
        .execute();
      return rows.map(record);
    },
  };
}

async function holdAgent(tx: Transaction<Schema>, workspaceId: string, agentId: string): Promise<boolean> {
  const row = await tx
    .selectFrom("agents")
    .select("agent_id")
    .where("workspace_id", "=", workspaceId)
    .where("agent_id", "=", agentId)
    .forUpdate()
    .executeTakeFirst();
  return row !== undefined;
}

/** Cards are made of capabilities too, and are as new as the agent's last change. */
async function touchAgent(tx: Transaction<Schema>, workspaceId: string, agentId: string, now: Date): Promise<void> {
  await tx
    .updateTable("agents")
    .set({ updated_at: now })
    .where("workspace_id", "=", workspaceId)
    .where("agent_id", "=", agentId)
    .execute();
}

function record(row: Selectable<CapabilityTable>): CapabilityRecord {
  return { agentId: row.agent_id, given: fromBinary(CapabilitySchema, row.body), version: row.version };
}
