/** Two servers and two workspaces that use one agent; and that no mixture of grants opens a way that none of them says. */

import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";
import { AgentCardSchema, GetTaskRequestSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Engine } from "../../src/engine.ts";
import { createAgentDirectory } from "../../src/services/agent-directory.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createAgentRepository } from "../../src/store/agent-repository.ts";
import { createCapabilityRepository } from "../../src/store/capability-repository.ts";
import { createLendingReads } from "../../src/store/lending-reads.ts";
import { startRemotePuppet } from "../agents/remote-puppet.ts";
import { describeEachBackend } from "../store/backends.ts";
import { raw } from "../store/tables.ts";
import { addWorkspaces, contextIn, grant, openLendingLab, register, revoke, sendIn } from "./lending-lab.ts";

const LONG = { timeout: 60_000 };
const PLACES = 2;

const taskIn = ({ tasks }: Engine, workspaceId: string, id: string) =>
  tasks.get(contextIn(workspaceId), create(GetTaskRequestSchema, { id }));

async function lab() {
  const opened = await openLendingLab("postgres", { replicas: 2 });
  onTestFinished(() => opened.close());
  const agent = await startRemotePuppet();
  onTestFinished(() => agent.close());
  const [a, b] = opened.engines as [Engine, Engine];
  await register(a, "lender", "worker", agent.card, { maxConcurrency: PLACES });
  const grantId = await grant(opened.db, {
    provider: "lender",
    consumer: "borrower",
    agentId: "worker",
    alias: "hand",
  });
  return { ...opened, agent, a, b, grantId };
}

/** Does the agent's work, as it comes, and counts how much of it there is at once. */
function work({ agent, db }: Pick<Awaited<ReturnType<typeof lab>>, "agent" | "db">) {
  const counts = { now: 0, most: 0, done: [] as string[] };
  async function doNext(): Promise<void> {
    const turn = await agent.turn();
    const next = doNext();
    counts.now += 1;
    counts.most = Math.max(counts.most, counts.now);
    turn.name();
    counts.done.push(turn.text);
    // What would come beside it has the time of some statements to come.
    for (let i = 0; i < 20; i++) await raw(db, "select 1");
    counts.now -= 1;
    turn.status("COMPLETED");
    return next;
  }
  // What it waits for when the test is over never comes.
  void doNext().catch(() => {});
  return counts;
}

test("the limit holds over both workspaces on both servers, and nobody starves", LONG, async () => {
  const opened = await lab();
  const { a, b } = opened;
  const counts = work(opened);
  const sent: { workspaceId: string; id: string }[] = [];
  const give = async (engine: Engine, workspaceId: string, tenant: string, text: string) => {
    const { id } = await sendIn(engine, workspaceId, text, { tenant });
    sent.push({ workspaceId, id });
  };
  await Promise.all(Array.from({ length: 20 }, (_, i) => give(i % 2 ? a : b, "lender", "a.worker", `l${i}`)));
  await Promise.all(Array.from({ length: 10 }, (_, i) => give(i % 2 ? a : b, "borrower", "a.hand", `b${i}`)));
  for (const { workspaceId, id } of sent) {
    await expect.poll(async () => (await taskIn(a, workspaceId, id)).status?.state, LONG).toBe(TaskState.COMPLETED);
  }
  expect(counts.done).toHaveLength(30);
  expect(new Set(counts.done).size).toBe(30);
  expect(counts.most).toBeLessThanOrEqual(PLACES);
  // The lender's were all there before: they did not all go first.
  const lastOfBorrower = counts.done.findLastIndex((text) => text.startsWith("b"));
  expect(lastOfBorrower).toBeLessThan(29);
});

test.each(["revoked", "expired"])(
  "when a grant is %s under load, each task ends, and says why where it did not begin",
  LONG,
  async (how) => {
    const opened = await lab();
    const { a, b, db, agent, grantId } = opened;
    const sent: string[] = [];
    const give = async (engine: Engine) => sent.push((await sendIn(engine, "borrower", "x", { tenant: "a.hand" })).id);
    for (let i = 0; i < 10; i++) await give(i % 2 ? a : b);
    // Both places are taken, and the others wait.
    const turns = [await agent.turn(), await agent.turn()];
    for (const turn of turns) turn.name();
    if (how === "revoked") await revoke(db, grantId);
    else await raw(db, "update grants set expires_at = clock_timestamp()");
    for (const engine of [a, b]) {
      await expect
        .poll(
          () =>
            give(engine).then(
              () => "sent",
              (error: { reason: string }) => error.reason,
            ),
          LONG,
        )
        .toBe("TARGET_NOT_FOUND");
    }
    for (const turn of turns) turn.status("COMPLETED");
    const counted = work(opened);
    const ends = new Map<string, number>();
    for (const id of sent) {
      await expect
        .poll(async () => (await taskIn(b, "borrower", id)).status?.state, LONG)
        .toSatisfy((state) => state === TaskState.COMPLETED || state === TaskState.FAILED);
      const { status } = await taskIn(a, "borrower", id);
      const text = status?.state === TaskState.FAILED ? JSON.stringify(status.message?.parts) : "COMPLETED";
      if (text !== "COMPLETED") expect(text).toContain('Agent \\"hand\\" left');
      ends.set(text, (ends.get(text) ?? 0) + 1);
    }
    // Those that were under way were done, and no other was begun after the end.
    expect(ends.get("COMPLETED")).toBe(2 + counted.done.length);
  },
);

describeEachBackend("any grants", (ctx) => {
  const WORKSPACES = ["w0", "w1", "w2"];
  const IDS = ["a0", "a1", "x0", "x1"];
  const anyGrant = fc.record({
    provider: fc.constantFrom(...WORKSPACES),
    consumer: fc.constantFrom(...WORKSPACES),
    agentId: fc.constantFrom(...IDS),
    alias: fc.constantFrom(...IDS),
    capabilityId: fc.constantFrom(undefined, "can-a0", "can-a1"),
    state: fc.constantFrom(1 as const, 2 as const, 3 as const),
    expiresInMs: fc.constantFrom(undefined, 3_600_000, -1_000),
  });
  const anyCase = fc.record({
    own: fc.uniqueArray(fc.tuple(fc.constantFrom(...WORKSPACES), fc.constantFrom("a0", "a1")), {
      selector: (pair) => pair.join("/"),
    }),
    grants: fc.uniqueArray(anyGrant, {
      maxLength: 8,
      // Of those that are accepted, one has an alias at a workspace.
      comparator: (a, b) => a.state === 2 && b.state === 2 && a.consumer === b.consumer && a.alias === b.alias,
    }),
    suspended: fc.constantFrom(undefined, ...WORKSPACES),
  });

  test("let a workspace reach its own agents, and those that both sides agreed on, and no other", LONG, async () => {
    const agents = createAgentRepository(ctx.db);
    await addWorkspaces(ctx.db, ...WORKSPACES);
    await fc.assert(
      fc.asyncProperty(anyCase, async ({ own, grants, suspended }) => {
        await raw(ctx.db, "delete from agents");
        await raw(ctx.db, "delete from grants");
        await raw(ctx.db, "update workspaces set suspended_at = case when workspace_id = $1 then now() end", [
          suspended ?? null,
        ]);
        for (const [workspaceId, agentId] of own) {
          const skills = [{ id: `can-${agentId}`, name: agentId }];
          const card = create(AgentCardSchema, { name: agentId, skills });
          const source = { card, cardUrl: "http://secret.example", cardEtag: "secret" };
          await agents.insert(workspaceId, agentId, { source, safeToRepeat: false, maxConcurrency: 0 }, new Date());
        }
        for (const one of grants) await grant(ctx.db, one as Parameters<typeof grant>[1]);
        const directory = createAgentDirectory(
          agents,
          createCapabilityRepository(ctx.db),
          systemRuntime(),
          {},
          createLendingReads(ctx.db),
        );
        const has = (workspaceId: string, agentId: string) => own.some(([w, a]) => w === workspaceId && a === agentId);
        for (const workspaceId of WORKSPACES) {
          const all = await directory.agents(workspaceId);
          const expected = new Map<string, string>();
          for (const g of grants) {
            const holds = g.state === 2 && g.consumer === workspaceId && (g.expiresInMs ?? 1) > 0;
            const offers = g.capabilityId === undefined || g.capabilityId === `can-${g.agentId}`;
            if (holds && offers && has(g.provider, g.agentId) && g.provider !== suspended)
              expected.set(g.alias, `${g.provider}/${g.agentId}`);
          }
          for (const [w, agentId] of own) if (w === workspaceId) expected.set(agentId, "own");
          const seen = [...all.byId.values()].map((agent): [string, string] => [
            agent.agentId,
            agent.home ? `${agent.home.workspaceId}/${agent.home.agentId}` : "own",
          ]);
          expect(seen).toEqual([...expected].sort(([a], [b]) => (a < b ? -1 : 1)));
          for (const agentId of IDS) {
            const agent = await directory.agent(workspaceId, agentId);
            expect(agent).toBe(all.byId.get(agentId));
            if (!agent) continue;
            expect(agent.workspaceId).toBe(workspaceId);
            if (agent.home) expect([agent.cardUrl, agent.cardEtag]).toEqual([undefined, undefined]);
            expect(all.capabilities.get(agentId)!.every((offered) => offered.agentId === agentId)).toBe(true);
          }
        }
      }),
      { numRuns: 40 },
    );
  });
});
