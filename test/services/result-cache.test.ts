/** Whose results are given to whom, as a property over what is asked, by whom, of which agents, when. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  MessageSchema,
  Role,
  type SendMessageRequest,
  SendMessageRequestSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { agentText, messageUpdate, statusUpdate } from "../../src/domain/agent-report.ts";
import { capabilityOfSkill } from "../../src/domain/capability.ts";
import { DEFAULT_ROLLOUT } from "../../src/domain/rollout.ts";
import { EngineState } from "../../src/domain/task-state.ts";
import type { AgentDirectory, Offer, WorkspaceAgents } from "../../src/services/agent-directory.ts";
import type { LookupOutcome } from "../../src/services/lookup-counts.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { createResultCache } from "../../src/services/result-cache.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { createExpiredRows } from "../../src/store/expired-rows.ts";
import { createResultCacheRepository } from "../../src/store/result-cache-repository.ts";
import { createTaskStore } from "../../src/store/task-store.ts";
import { admitted } from "../fixtures/open-policy.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { headerOf } from "../fixtures/task-header.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

const TTL_MS = 1_000;
const never = new AbortController().signal;

/** Something that is asked: its answer must be that of the same thing. */
interface Asked {
  workspaceId: string;
  principalId: string;
  capabilityId: "own" | "shared";
  /** How often its agent has changed. */
  revision: number;
  /** Whether a rollout sends it to agents in this process. */
  isLocal: boolean;
  text: string;
  passMs: number;
}

const asked: fc.Arbitrary<Asked> = fc.record({
  workspaceId: fc.constantFrom("default", "other"),
  principalId: fc.constantFrom("ann", "bob"),
  capabilityId: fc.constantFrom("own", "shared"),
  revision: fc.constantFrom(1, 2),
  isLocal: fc.constantFrom(false, false, true),
  text: fc.constantFrom("a", "b"),
  passMs: fc.constantFrom(0, 1, 400, 1_000),
});

describeEachBackend("the result cache", (ctx) => {
  async function open(maxBytes = 1_048_576) {
    await raw(ctx.db, "truncate cached_results, replicas, tasks, task_updates cascade");
    const replicaId = await registerReplica(ctx.db);
    const store = createTaskStore(ctx.db, { maxWaiting: 1000, replicaId: () => replicaId });
    const system = systemRuntime();
    const state = { clock: Date.parse("2026-01-01T00:00:00Z"), revision: 1, isLocal: false };
    const runtime: Runtime = { ...system, now: () => new Date(state.clock) };
    const outcomes: LookupOutcome[] = [];
    const offersOf = (capabilityId: "own" | "shared"): Offer[] => {
      const card = { skills: [], defaultInputModes: [], defaultOutputModes: [] } as never;
      const skill = { id: capabilityId, name: capabilityId, description: "", tags: [], examples: [] };
      const made = capabilityOfSkill("agent", card, { ...skill, inputModes: [], outputModes: [] } as never)!;
      const agent = { agentId: "agent", createdAt: new Date(0), revision: state.revision } as Offer["agent"];
      return [
        { agent, capability: { ...made, cacheTtlMs: TTL_MS, cacheShared: capabilityId === "shared" }, version: 0 },
      ];
    };
    const directory = {
      agents: async () =>
        ({
          byCapability: new Map([
            ["own", offersOf("own")],
            ["shared", offersOf("shared")],
          ]),
        }) as unknown as WorkspaceAgents,
    } as unknown as AgentDirectory;
    const repository = createResultCacheRepository(ctx.db);
    const cache = createResultCache({
      repository,
      directory,
      rollouts: {
        load: () => undefined,
        of: () => (state.isLocal ? { ...DEFAULT_ROLLOUT, rollbackToLocal: true } : DEFAULT_ROLLOUT),
      },
      store,
      hub: createUpdateHub(),
      runtime,
      log: silent,
      maxBytes,
      onLookup: (_, __, outcome) => outcomes.push(outcome),
    });
    const requestOf = ({ capabilityId, text }: Asked): SendMessageRequest =>
      create(SendMessageRequestSchema, {
        tenant: `c.${capabilityId}`,
        message: create(MessageSchema, {
          messageId: system.newId(),
          role: Role.USER,
          parts: [{ content: { case: "text", value: text } }],
        }),
      });

    /** Stores a task that completes now with an answer of its own. */
    async function complete(taskId: string, of: Asked, answer: string): Promise<void> {
      const at = runtime.now();
      const header = headerOf({ taskId, workspaceId: of.workspaceId, createdAt: at, leaseOwner: replicaId });
      const { message } = requestOf(of);
      await store.submit({ header, updates: [{ ...messageUpdate(message!), state: EngineState.ASSIGNED }] });
      const said = agentText(header, system.newId(), answer);
      const status = { state: TaskState.COMPLETED, timestamp: timestampFromDate(at), message: said };
      const updates = [statusUpdate(header, status)];
      await store.append({ workspaceId: of.workspaceId, taskId, expectedSeq: 1, fence: 1, at, updates });
    }

    /** Asks; what is not there is answered anew with `answer`. Returns what was answered, and how. */
    async function ask(of: Asked, answer: string): Promise<{ answer: string; outcome: LookupOutcome }> {
      Object.assign(state, { revision: of.revision, isLocal: of.isLocal });
      const context = {
        workspaceId: of.workspaceId,
        principal: { id: of.principalId },
        extensions: [],
        noStore: false,
        addressTarget: undefined,
        signal: never,
      } as unknown as RequestContext;
      const taskId = system.newId();
      const found = await cache.lookup(context, requestOf(of), taskId, admitted);
      const outcome = outcomes.at(-1)!;
      const given = await found?.standIn?.answer({ signal: never, timeoutMs: 1000 });
      if (given?.payload.case === "task") {
        const part = given.payload.value.status?.message?.parts[0]?.content;
        return { answer: part?.case === "text" ? part.value : "", outcome };
      }
      await complete(taskId, of, answer);
      return { answer, outcome };
    }
    return { state, ask, rows: createExpiredRows(ctx.db), repository };
  }

  test("gives a result to who asks the same of the same agents in time, and to nobody else", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(asked, { minLength: 2, maxLength: 12 }), async (asks) => {
        const { state, ask } = await open();
        const known = new Map<string, { answer: string; at: number }>();
        for (const [i, of] of asks.entries()) {
          state.clock += of.passMs;
          const { workspaceId, principalId, capabilityId, revision, isLocal, text } = of;
          const whose = capabilityId === "shared" ? "" : principalId;
          const key = JSON.stringify([workspaceId, whose, capabilityId, revision, isLocal, text]);
          const before = known.get(key);
          const isFresh = before !== undefined && state.clock - before.at < TTL_MS;
          const { answer, outcome } = await ask(of, `${i}`);
          expect({ outcome, answer }).toEqual(
            isFresh ? { outcome: "hit", answer: before.answer } : { outcome: "miss", answer: `${i}` },
          );
          if (!isFresh) known.set(key, { answer, at: state.clock });
        }
      }),
      { numRuns: 25 },
    );
  });

  const one: Asked = {
    workspaceId: "default",
    principalId: "ann",
    capabilityId: "own",
    revision: 1,
    isLocal: false,
    text: "a",
    passMs: 0,
  };

  test("gives nothing that is larger than may be", async () => {
    const { ask } = await open(1_000);
    await ask(one, "x".repeat(1_000));
    expect(await ask(one, "y")).toEqual({ answer: "y", outcome: "miss" });
    expect((await ask(one, "z")).outcome).toBe("hit");
  });

  test("forgets what has expired, and the oldest where there is too much", async () => {
    const { state, ask, rows, repository } = await open();
    for (const text of ["a", "b", "c"]) {
      await ask({ ...one, text }, text);
      state.clock += 100;
    }
    expect(await rows.evictResults(2, 10)).toBe(1);
    expect((await ask({ ...one, text: "c" }, "new")).outcome).toBe("hit");
    expect((await ask({ ...one, text: "a" }, "new")).outcome).toBe("miss");
    expect(await repository.count("default")).toEqual(new Map([["own", 3]]));
    state.clock += TTL_MS - 1;
    await rows.removeResults(new Date(state.clock), 10);
    expect(await repository.count("default")).toEqual(new Map([["own", 1]]));
    state.clock += 1;
    await rows.removeResults(new Date(state.clock), 10);
    expect(await repository.count("default", "own")).toEqual(new Map());
  });

  test("keeps the entry of a task that runs still, however short its time is", async () => {
    const { state, rows, repository } = await open();
    const running = headerOf({ leaseOwner: null as never });
    const createdAt = new Date(state.clock);
    const entry = { key: Buffer.alloc(32), capabilityId: "own", taskId: running.taskId, ttlMs: 10, createdAt };
    await raw(
      ctx.db,
      `insert into tasks (workspace_id, task_id, context_id, agent_id, state, a2a_state, status_at, last_seq, disclosed, created_at)
       values ('default', $1, 'c', 'agent', ${EngineState.INPUT_REQUIRED}, ${TaskState.INPUT_REQUIRED}, $2, 1, true, $2)`,
      [running.taskId, createdAt],
    );
    expect(await repository.enter("default", entry)).toBeUndefined();
    expect(await rows.removeResults(new Date(state.clock + 1_000), 10)).toBe(1);
    expect((await repository.count("default")).get("own")).toBe(1);
    expect(await rows.removeResults(new Date(state.clock + 1_000), 10)).toBe(0);
    await raw(ctx.db, `update tasks set state = ${EngineState.CANCELED}, a2a_state = ${TaskState.CANCELED}`);
    await rows.removeResults(new Date(state.clock + 120_000), 10);
    expect((await repository.count("default")).get("own")).toBeUndefined();
  });
});
