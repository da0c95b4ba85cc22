/** What callers say of agents, on replicas whose clocks are not the database's. */
import { create } from "@bufbuild/protobuf";
import { beforeEach, expect, test } from "vitest";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ReportOutcomeRequestSchema, SetTrustRequestSchema } from "../../gen/signalbox/v1/reputation_pb.ts";
import type { AgentDirectory } from "../../src/services/agent-directory.ts";
import { createKnownStandings } from "../../src/services/known-standings.ts";
import { createReputations, type Reputations } from "../../src/services/reputations.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createReputationRepository } from "../../src/store/reputation-repository.ts";
import { defaultTrustRules } from "../fixtures/default-trust-rules.ts";
import { noAudit } from "../fixtures/no-audit.ts";
import { describeEachBackend, silent } from "../store/backends.ts";

const HOUR_MS = 3_600_000;
const system = systemRuntime();
const worker = { agentId: "worker", card: create(AgentCardSchema) };
const directory = {
  agent: async () => worker,
  agents: async () => ({ byId: new Map([["worker", worker]]), capabilities: new Map() }),
} as unknown as AgentDirectory;

describeEachBackend("what is said of an agent", (context) => {
  let caller: RequestContext;

  beforeEach(() => {
    caller = { workspaceId: system.newId(), log: silent } as RequestContext;
  });

  /** A replica whose clock is so far ahead. */
  const replica = (aheadMs: number): Reputations =>
    createReputations({
      repository: createReputationRepository(context.db),
      reputation: { changed() {} },
      rules: defaultTrustRules,
      directory,
      tasks: { visible: () => expect.unreachable() },
      audit: noAudit,
      runtime: { ...system, now: () => new Date(Date.now() + aheadMs) },
      onReport() {},
    });
  const setTrust = (by: Reputations, trust: number, as = caller) =>
    by.setTrust(as, create(SetTrustRequestSchema, { agentId: "worker", trust }));
  const report = (by: Reputations, quality: number) =>
    by.report(caller, create(ReportOutcomeRequestSchema, { agentId: "worker", quality }));
  const updatedMs = async () =>
    Number((await replica(0).get(caller, { agentId: "worker", capabilityId: "" } as never)).updateTime?.seconds) * 1000;

  test("where a clock is ahead, does not make what comes after it old", async () => {
    await setTrust(replica(HOUR_MS), 0.9);
    expect((await report(replica(0), 0)).trust).toBe(0.8);
    await report(replica(HOUR_MS), 1);
    expect(await updatedMs()).toBeLessThanOrEqual(Date.now() + HOUR_MS / 2);
  });

  test("where a clock is behind, counts all the same", async () => {
    await setTrust(replica(-HOUR_MS), 0.9);
    expect((await report(replica(-HOUR_MS), 0)).trust).toBe(0.8);
    expect((await report(replica(0), 0)).trust).toBe(0.7);
  });

  test("in one workspace is not said of the agent of that name in another", async () => {
    const other = { ...caller, workspaceId: system.newId() };
    await setTrust(replica(0), 0.1);
    await setTrust(replica(0), 0.9, other);
    const repository = createReputationRepository(context.db);
    const known = createKnownStandings({ repository, runtime: system, rules: defaultTrustRules, enforces: true });
    for (const { workspaceId } of [caller, other]) await known.load(workspaceId);
    expect(known.leastTrusted(5).map(({ workspaceId, agentId, trust }) => [workspaceId, agentId, trust])).toEqual([
      [caller.workspaceId, "worker", expect.closeTo(0.1, 3)],
      [other.workspaceId, "worker", 0.9],
    ]);
    expect(known.leastTrusted(1)).toHaveLength(1);
  });
});
