/**
 * Three workspaces on one database, whose people make random calls at random servers in every binding, of their own and of each
 * other's things: nobody ever reads or changes a row of another workspace, unless the two have agreed to lend an agent.
 *
 * `SIGNALBOX_WORKSPACE_RUNS` are the runs on each database, `SIGNALBOX_WORKSPACE_SEED` repeats one.
 */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BACKENDS } from "../store/backends.ts";
import { raw } from "../store/tables.ts";
import { KINDS } from "./three-workspaces/calls.ts";
import { type Lab, openLab, WORKSPACES } from "./three-workspaces/lab.ts";
import { type Made, makeCall, type Plan, shownOfOthers } from "./three-workspaces/run.ts";
import { changes, leaksIn, readRows, restingRows } from "./three-workspaces/workspace-rows.ts";

const RUNS = Number(process.env.SIGNALBOX_WORKSPACE_RUNS ?? 3);
const SEED = Number(process.env.SIGNALBOX_WORKSPACE_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** Calls under way at once, where several workspaces call. */
const AT_ONCE = 6;

/** What others need: it is made again, as long as others have not gone well. */
const MAKES = [
  ...["SendMessage", "SubmitTask", "CreateTaskPushNotificationConfig", "ShareContext", "ListEntries"],
  ...["CreateKey", "PutMember", "OfferGrant", "RegisterAgent", "AddCapability", "SetAgentCredential", "UpdateRollout"],
];
/** Tables in which every workspace must have something, or nothing was proved of them. Of the others, calls take things away again. */
const FILLED = [
  ...["agents", "api_keys", "approvals", "audit_entries", "budget_reservations", "capabilities"],
  ...["exchange_messages", "exchange_quotes", "exchanges", "idempotency_keys"],
  ...["policy_versions", "reputation_reports", "reputations", "tasks", "task_updates", "workspaces"],
];

/** What no workspace may but that of the router. */
const RUNS_THE_ROUTER = ["SuspendWorkspace", "SetQuotas"];

const plan: fc.Arbitrary<Plan> = fc.record({
  workspace: fc.nat(2),
  kind: fc.nat(KINDS.length - 1),
  server: fc.nat(1),
  way: fc.nat(59),
  seed: fc.integer(),
});
/** Calls of one workspace alone, one after the other, or of all of them at once. */
const part = fc.record({
  alone: fc.option(fc.nat(2)),
  plans: fc.array(plan, { minLength: 15, maxLength: 20, size: "max" }),
});
const run = fc.array(part, { minLength: 3, maxLength: 4, size: "max" });

describe.each(BACKENDS)("on %s", (backend) => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await openLab(backend);
  });
  afterAll(() => lab?.close());

  async function allAtOnce(plans: readonly Plan[]): Promise<Made[]> {
    const made: Made[] = [];
    const left = [...plans];
    const one = async () => {
      for (let next = left.shift(); next; next = left.shift()) made.push(...(await makeCall(lab, next)));
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
    return made;
  }

  /** Calls of one workspace, and what came of everybody else's rows meanwhile. */
  async function alone(workspace: number, plans: readonly Plan[]): Promise<Made[]> {
    const others = WORKSPACES.filter((_, i) => i !== workspace).map(({ workspaceId }) => workspaceId);
    await lab.settle();
    const before = restingRows(await readRows(lab.db), others);
    const made: Made[] = [];
    for (const each of plans) made.push(...(await makeCall(lab, { ...each, workspace })));
    await lab.settle();
    const after = restingRows(await readRows(lab.db), others);
    expect(changes(before, after), `rows of ${others.join(" and ")} after ${said(made)}`).toEqual({
      gone: [],
      come: [],
    });
    return made;
  }

  async function judge(made: readonly Made[]): Promise<void> {
    const pairs = await raw(
      lab.db,
      "select distinct consumer_workspace_id as c, provider_workspace_id as p from grants where accepted_at is not null",
    );
    const lent = new Set(pairs.map(({ c, p }) => `${c} ${p}`));
    await lab.settle();
    expect(shownOfOthers([...made, ...lab.pushed()], lent)).toEqual([]);
    expect(leaksIn(await readRows(lab.db), WORKSPACES), `after ${said(made)}`).toEqual([]);
  }

  test("every kind of call goes well for each workspace at least once, and shows and changes nothing of the others", async () => {
    const left = new Set(
      WORKSPACES.keys().flatMap((workspace) => KINDS.keys().map((kind) => [workspace, kind] as const)),
    );
    const good = new Set<unknown>();
    const made: Made[] = [];
    for (let round = 0; round < 30 && !left.isSubsetOf(good); round++) {
      for (const pair of left) {
        const [workspace, kind] = pair;
        const seed = SEED + 31 * round + 1009 * kind;
        // At first as anybody would; then about others' things too.
        const isOwn = round % 3 !== 2;
        const server = kind + round;
        const [one, ...more] = await makeCall(lab, { workspace, kind, server, way: server, seed, isOwn });
        made.push(one!, ...more);
        const isGood = "ok" in one!.outcome;
        if (isGood) good.add(pair);
        if ((isGood && !MAKES.includes(one!.method.name)) || RUNS_THE_ROUTER.includes(one!.method.name))
          left.delete(pair);
      }
    }
    const missed = [...left.difference(good)].map(([workspace, kind]) => {
      const [last] = made
        .filter(({ workspace: of, method }) => of === WORKSPACES[workspace] && method === KINDS[kind]!.method)
        .slice(-1);
      return said([last!]);
    });
    expect(missed).toEqual([]);
    console.log(`${backend}: ${KINDS.length} kinds of calls, ${made.length} calls`);
    const rows = await readRows(lab.db);
    const isFilled = (table: string, id: string) => rows.some((row) => row.table === table && row.owners[0] === id);
    const empty = FILLED.filter((table) => !WORKSPACES.every(({ workspaceId }) => isFilled(table, workspaceId)));
    expect(empty).toEqual([]);
    const fromCache = made.filter(({ outcome }) => JSON.stringify(outcome).includes('"cachedFrom"'));
    expect(new Set(fromCache.map(({ workspace }) => workspace)).size).toBe(WORKSPACES.length);
    await judge(made);
  }, 120_000);

  test(`whatever they call, workspaces read and change only what is theirs (seed ${SEED})`, async () => {
    console.log(`${backend}: seed ${SEED}, ${RUNS} runs`);
    let calls = 0;
    const property = fc.asyncProperty(run, async (parts) => {
      for (const { alone: workspace, plans } of parts) {
        const made = workspace === null ? await allAtOnce(plans) : await alone(workspace, plans);
        calls += made.length;
        await judge(made);
      }
    });
    await fc.assert(property, { seed: SEED, numRuns: RUNS, endOnFailure: true });
    for (const workspace of WORKSPACES) {
      const ways = lab
        .pushed()
        .filter((pushed) => pushed.workspace === workspace)
        .map(({ what }) => what);
      expect(new Set(ways)).toEqual(new Set(["a webhook", "live events"]));
    }
    expect(calls).toBeGreaterThan(RUNS * 45);
    console.log(`${backend}: ${calls} calls`);
  }, 600_000);
});

const said = (made: readonly Made[]): string =>
  made.map(({ what, request, outcome }) => `${what} ${request} ${"ok" in outcome ? "ok" : outcome.reason}`).join("\n");
