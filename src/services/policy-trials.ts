/** Policies that are tried: on facts that somebody gives, and on what was asked for in the past. Nothing is stored. */
import { create, fromBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type EvaluatePolicyRequest,
  PolicyPhase as GivenPhase,
  type PolicyChange,
  PolicyChangeSchema,
  type PolicyDecision,
  PolicyDecisionSchema,
  PolicyEffect,
  type ReplayPolicyRequest,
  type ReplayPolicyResponse,
  ReplayPolicyResponseSchema,
} from "../../gen/signalbox/v1/policy_pb.ts";
import { RouteDecisionSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import { type FieldViolation, invalidArgument, queueFull } from "../domain/errors.ts";
import { viewerOf } from "../domain/identity/visibility.ts";
import type { PolicyPhase } from "../domain/policy/facts.ts";
import { factsOf } from "../domain/policy/facts-json.ts";
import { refuse } from "../domain/refusal.ts";
import type { DecidedTask, DecidedTasksQuery } from "../store/route-reads.ts";
import type { ActivePolicy, Policies } from "./policies.ts";
import { decisionOf } from "./policy-decision.ts";
import { keptCandidateFacts } from "./policy-facts.ts";
import type { PolicyReader } from "./policy-reader.ts";
import { readDraft } from "./policy-versions.ts";
import type { RequestContext } from "./request-context.ts";
import { replayRange } from "./routing/replay-range.ts";
import type { Runtime } from "./runtime.ts";

/** Tasks of one replay at most. */
const MOST_TASKS = 10_000;
/** Read at once: other work of the process goes on between two pages. */
const PAGE = 500;
/** Replays of one server at once. */
const MOST_REPLAYS = 2;
const DEFAULT_RANGE_MS = 86_400_000;
const MOST_CHANGES = 100;

export interface PolicyTrials {
  /** Throws INVALID_ARGUMENT for facts that there are not, or for a draft that is no policy. */
  evaluate(context: RequestContext, request: EvaluatePolicyRequest): Promise<PolicyDecision>;
  /** Throws INVALID_ARGUMENT, or QUEUE_FULL while as many run as may. */
  replay(context: RequestContext, request: ReplayPolicyRequest): Promise<ReplayPolicyResponse>;
}

export interface PolicyTrialsDeps {
  policies: Pick<Policies, "load" | "of" | "withDraft">;
  reader: PolicyReader;
  readDecidedTasks: (workspaceId: string, query: DecidedTasksQuery) => Promise<readonly DecidedTask[]>;
  runtime: Runtime;
}

export function createPolicyTrials({ policies, reader, readDecidedTasks, runtime }: PolicyTrialsDeps): PolicyTrials {
  let running = 0;

  async function inForce(workspaceId: string): Promise<ActivePolicy> {
    await policies.load(workspaceId);
    return policies.of(workspaceId);
  }

  const draftOf = async (context: RequestContext, text: string) =>
    policies.withDraft(await readDraft(reader, context, text, "document"));

  async function replayed(
    draft: ActivePolicy,
    { workspaceId, principal, signal }: RequestContext,
    range: { readonly fromMs: number; readonly beforeMs: number },
    limit: number,
  ): Promise<ReplayPolicyResponse> {
    const replay = createReplay(workspaceId, draft);
    const viewer = viewerOf(principal);
    let { fromMs } = range;
    let after: string | undefined;
    let hasMore = false;
    for (let read = 0; ; ) {
      signal.throwIfAborted();
      // One more than is looked at says whether there are more.
      const size = Math.min(PAGE, limit - read + 1);
      const query = { ...range, capabilityId: undefined, after, limit: size, viewer };
      const page = await readDecidedTasks(workspaceId, query);
      const taken = page.slice(0, limit - read);
      for (const task of taken) if (task.seen) replay.add(task);
      hasMore = page.length > taken.length;
      read += taken.length;
      if (hasMore) fromMs = taken.at(-1)?.createdAt.getTime() ?? range.beforeMs;
      if (hasMore || page.length < size) break;
      after = page.at(-1)!.taskId;
    }
    return create(ReplayPolicyResponseSchema, {
      ...replay.result(),
      hasMore,
      startTime: timestampFromDate(new Date(fromMs)),
      endTime: timestampFromDate(new Date(range.beforeMs)),
    });
  }

  return {
    async evaluate(context, { facts: given = {}, phase, document }) {
      const { workspaceId } = context;
      const asked = phaseOf(phase);
      const read = factsOf(given);
      if ("problems" in read) {
        refuse(read.problems.map(({ fact, description }) => ({ field: `facts.${fact}`, description })));
        throw invalidArgument([{ field: "facts", description: "are none" }]);
      }
      const policy = document === undefined ? await inForce(workspaceId) : await draftOf(context, document);
      const facts = { workspace_id: workspaceId, now: runtime.now().getTime(), ...read.facts };
      return decisionOf(policy, asked, policy.compiled.decide(asked, facts));
    },

    async replay(context, request) {
      const violations: FieldViolation[] = [];
      const range = replayRange(request, runtime.now().getTime(), DEFAULT_RANGE_MS, violations);
      const limit = request.limit || MOST_TASKS;
      if (limit < 0 || limit > MOST_TASKS) {
        violations.push({ field: "limit", description: `must be from 1 to ${MOST_TASKS}; 0 is the most` });
      }
      refuse(violations);
      if (running >= MOST_REPLAYS) throw queueFull("replays");
      running += 1;
      try {
        return await replayed(await draftOf(context, request.document), context, range, limit);
      } finally {
        running -= 1;
      }
    },
  };
}

/** Decides tasks once more, and counts what changes. */
function createReplay(workspaceId: string, draft: ActivePolicy) {
  const changes: PolicyChange[] = [];
  let taskCount = 0;
  let unknownCount = 0;
  let changedCount = 0;
  return {
    add({ taskId, disclosed, createdAt, decision: stored }: DecidedTask): void {
      const decision = stored && fromBinary(RouteDecisionSchema, stored);
      const facts = decision && keptCandidateFacts(workspaceId, decision);
      // What no agent could take has none that the policy could be asked about.
      if (!decision || !facts || decision.agentId === "") {
        unknownCount += 1;
        return;
      }
      taskCount += 1;
      const before = decision.policy ?? WITHOUT_POLICY;
      const verdict = draft.compiled.decide("CANDIDATE", facts);
      if (PolicyEffect[verdict.effect] === before.effect) return;
      changedCount += 1;
      if (changes.length === MOST_CHANGES) return;
      const after = decisionOf(draft, "CANDIDATE", verdict);
      const time = timestampFromDate(createdAt);
      changes.push(create(PolicyChangeSchema, { taskId: disclosed ? taskId : "", time, before, after }));
    },
    result: () => ({ taskCount, unknownCount, changedCount, changes }),
  };
}

const WITHOUT_POLICY: PolicyDecision = create(PolicyDecisionSchema, {
  effect: PolicyEffect.ALLOW,
  reason: "Allowed: there was no policy.",
  phase: GivenPhase.CANDIDATE,
});

const PHASES: Readonly<Record<number, PolicyPhase>> = {
  [GivenPhase.UNSPECIFIED]: "CANDIDATE",
  [GivenPhase.ADMISSION]: "ADMISSION",
  [GivenPhase.CANDIDATE]: "CANDIDATE",
  [GivenPhase.RESULT]: "RESULT",
};

function phaseOf(given: GivenPhase): PolicyPhase {
  const phase = PHASES[given];
  if (!phase) throw invalidArgument([{ field: "phase", description: "must be ADMISSION, CANDIDATE or RESULT" }]);
  return phase;
}
