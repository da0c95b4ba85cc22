/** Lists are read in parts, each by an index of its own: together they have what one condition would have, whatever is asked for. */
import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import { EngineState } from "../../src/domain/task-state.ts";
import { listTasks, type TaskCursor, type TaskFilter } from "../../src/store/task-list-reads.ts";
import { CROWD, FEW, storeManyTasks } from "../fixtures/many-tasks.ts";
import { describeEachBackend } from "./backends.ts";
import { raw } from "./tables.ts";

const COUNT = 500;
const LIMIT = 61;

const maybe = <T>(values: readonly T[]) => fc.option(fc.constantFrom(...values), { nil: undefined, freq: 1 });
const agentId = maybe(["agent-2", "agent-7", FEW.agent, "nobody"]);
const capabilityId = maybe(["capability-2", "capability-4", FEW.capability]);
const state = maybe([1, 2, 3, 4, 6, 7]);
const engineState = maybe(Object.values(EngineState));
const principal = maybe([CROWD, FEW.principal, "principal-7", "anonymous", "friend"]);
const filters = fc.record({ agentId, capabilityId, state, engineState, context: fc.boolean(), from: fc.boolean() });

describeEachBackend("lists of tasks", (ctx) => {
  let contextId: string;
  let from: Date;

  beforeAll(async () => {
    await storeManyTasks(ctx.db, { count: COUNT });
    await storeManyTasks(ctx.db, { workspaceId: "beside", count: COUNT });
    // Some that run, some that wait, some that went on to another agent, and some of before there were principals. Past the guard of
    // transitions, which knows none of these ways.
    await raw(ctx.db, "alter table tasks disable trigger tasks_transition");
    const change = (set: string, every: number, rest: number) =>
      raw(
        ctx.db,
        `update tasks t set ${set} from (select task_id, row_number() over (order by task_id) as n from tasks where workspace_id = 'default') o
         where t.workspace_id = 'default' and t.task_id = o.task_id and n % ${every} = ${rest} and t.agent_id <> '${FEW.agent}'`,
      );
    await change("state = 2, a2a_state = 2, lease_owner = 'r'", 9, 1);
    await change("state = 9, a2a_state = 1, lease_owner = 'r'", 31, 2);
    await change("state = 1, a2a_state = 2, wake_at = now(), lease_owner = null", 23, 3);
    await change("earlier_agent_ids = '{agent-7,agent-3}', given_capability_id = 'capability-4'", 7, 4);
    await change("principal_id = null", 11, 5);
    await change("disclosed = false", 41, 6);
    await raw(ctx.db, "alter table tasks enable trigger tasks_transition");
    const rows = await raw(
      ctx.db,
      `select context_id, status_at from tasks order by status_at, task_id offset 250 limit 1`,
    );
    contextId = rows[0]!.context_id as string;
    from = rows[0]!.status_at as Date;
    await raw(
      ctx.db,
      `insert into context_shares (workspace_id, owner_id, context_id, subject_kind, subject, can_write, created_at)
       select distinct workspace_id, principal_id, context_id, 1, 'friend', false, now() from tasks
       where workspace_id = 'default' and principal_id = $1 and task_id > (select min(task_id) from tasks) limit 40`,
      [CROWD],
    );
  });

  const plain = `
    select task_id from tasks t where workspace_id = 'default' and disclosed
      and ($1::text is null or agent_id = $1 or $1 = any(earlier_agent_ids))
      and ($2::text is null or case when earlier_agent_ids is null then capability_id else given_capability_id end = $2)
      and ($3::int is null or a2a_state = $3) and ($4::int is null or state = $4)
      and ($5::text is null or context_id = $5) and ($6::timestamptz is null or status_at >= $6)
      and ($7::text is null or coalesce(principal_id, 'anonymous') = $7 or exists (
        select from context_shares s where s.workspace_id = t.workspace_id and s.owner_id = t.principal_id
          and s.context_id = t.context_id and s.subject = $7))
    order by status_at desc, task_id desc`;

  test("have what is asked for, in order, page after page", async () => {
    await fc.assert(
      fc.asyncProperty(filters, principal, async ({ context, from: since, ...given }, id) => {
        const asked = {
          ...given,
          contextId: context ? contextId : undefined,
          statusFrom: since ? from : undefined,
        };
        const values = [
          asked.agentId,
          asked.capabilityId,
          asked.state,
          asked.engineState,
          asked.contextId,
          asked.statusFrom,
          id,
        ];
        const rows = await raw(
          ctx.db,
          plain,
          values.map((value) => value ?? null),
        );
        const expected = rows.map(({ task_id }) => task_id as string);
        const filter = Object.fromEntries(
          Object.entries(asked).filter(([, value]) => value !== undefined),
        ) as TaskFilter;
        const viewer = id === undefined ? undefined : { id, roles: [] };
        const found: string[] = [];
        for (let after: TaskCursor | undefined; ; ) {
          const { tasks, total } = await listTasks(ctx.db, "default", filter, {
            limit: LIMIT,
            viewer,
            ...(after && { after }),
          });
          expect(total).toBe(expected.length);
          found.push(...tasks.map(({ header }) => header.taskId));
          const last = tasks.at(-1);
          if (!last || tasks.length < LIMIT) break;
          after = { statusAt: last.statusAt, taskId: last.header.taskId };
        }
        expect(found).toEqual(expected);
      }),
      { numRuns: 40 },
    );
  }, 90_000);

  test("are counted to 10,000, and estimated beyond by what is the workspace's own", async () => {
    const count = 12_000;
    await storeManyTasks(ctx.db, { workspaceId: "long", count, agentId: "clerk" });
    const total = async (filter: TaskFilter, id?: string) =>
      (await listTasks(ctx.db, "long", filter, { limit: 1, viewer: id === undefined ? undefined : { id, roles: [] } }))
        .total;
    // Nothing is known of the table yet.
    expect(await total({})).toBeGreaterThan(10_000);
    await raw(ctx.db, "analyze tasks");
    const about = async (filter: TaskFilter, exact: number) => {
      const estimate = await total(filter);
      expect(estimate).toBeGreaterThan(10_000);
      expect(Math.abs(estimate / exact - 1)).toBeLessThan(0.3);
    };
    await about({}, count);
    await about({ agentId: "clerk" }, count - FEW.count);
    await about({ state: 3 }, count * 0.97);
    const [tenth] = await raw(ctx.db, "select status_at from tasks where workspace_id = 'long' order by 1 offset 1200");
    await about({ statusFrom: tenth!.status_at as Date }, count - 1200);
    expect(await total({}, CROWD)).toBe(count / 2 - FEW.count);
    expect(await total({ state: 4 })).toBe(count / 100);
  });
});
