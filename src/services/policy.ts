/**
 * The place of policy in the way of a request: may this caller ask for this, and which agents may take it. It decides before
 * anything is stored, and what it decided is stored with the task.
 */
import { create } from "@bufbuild/protobuf";
import { type Message, MessageSchema, type SendMessageRequest } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { PolicyDecision } from "../../gen/signalbox/v1/policy_pb.ts";
import { type RouteDecision, RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import type { TaskParent } from "../domain/budget/hold.ts";
import type { Facts, PolicyPhase } from "../domain/policy/facts.ts";
import { MAX_REPORTED_RULES, type Verdict } from "../domain/policy/verdict.ts";
import { routingWishes } from "../domain/routing-extension.ts";
import { givenCapabilityId, heldForCapabilityId, type TaskHeader } from "../domain/task-log.ts";
import type { ActivePolicy, Policies } from "./policies.ts";
import { policyDenied } from "./policy-decision.ts";
import { keptRequestFacts, type LookedFor, requestFacts } from "./policy-facts.ts";
import type { RequestContext } from "./request-context.ts";
import type { Possible } from "./routing/offers.ts";
import type { Runtime } from "./runtime.ts";
import { createSearchPolicy, type Judge, type SearchPolicy, type SearchPolicyDeps } from "./search-policy.ts";
import type { Trust } from "./trust.ts";

/** A request that may be made. */
export interface Admitted {
  /**
   * What is said of the agents that are found where `source` said where to look, for `capabilityId` if one was asked for. Left
   * out, it is what a task that exists was given for.
   */
  search(source: RouteSource, capabilityId?: string): SearchPolicy;
}

export interface Policy {
  /**
   * What a caller may find: who of the agents may take a short text of its. Undefined where it may ask for nothing at all. What is
   * asked here counts as no verdict of a request.
   */
  view(caller: Pick<RequestContext, "principal" | "workspaceId">): Promise<View | undefined>;
  /**
   * May this caller ask for this? Nothing is known of an agent yet.
   *
   * @throws SignalboxError POLICY_DENIED, naming the rule.
   */
  admit(
    context: RequestContext,
    request: SendMessageRequest,
    message: Message,
    parent: TaskParent | undefined,
  ): Promise<Admitted>;
  /**
   * For a task that was admitted and looks for another agent, by what was kept with its decision. An agent that needs an approval
   * which the task has not had is refused: nobody can be asked any more.
   */
  readmit(task: TaskHeader, decision: RouteDecision | undefined): Promise<Admitted>;
  /**
   * May this caller send a further message to a task that an agent has? What must be approved was approved when it began.
   *
   * @throws SignalboxError POLICY_DENIED
   */
  proceed(
    context: RequestContext,
    request: SendMessageRequest,
    message: Message,
    task: TaskHeader,
    agent: Possible,
  ): Promise<void>;
}

/** What is said of agents that somebody looks at. */
export interface View {
  /** Undefined where no rule is about agents: each may be found. */
  readonly judge: Judge | undefined;
}

export interface PolicyDeps {
  policies: Pick<Policies, "load" | "of">;
  trust: Pick<Trust, "load" | "score">;
  runtime: Runtime;
  /** Told of each verdict of a rule or default. */
  onVerdict: (phase: PolicyPhase, effect: Verdict["effect"]) => void;
}

export function createPolicy({ policies, trust, runtime, onVerdict }: PolicyDeps): Policy {
  async function activeOf(workspaceId: string): Promise<ActivePolicy> {
    const loading = policies.load(workspaceId);
    if (loading) await loading;
    const active = policies.of(workspaceId);
    const learning = active.compiled.matters("CANDIDATE") ? trust.load(workspaceId) : undefined;
    if (learning) await learning;
    return active;
  }

  function decide({ compiled }: ActivePolicy, phase: PolicyPhase, facts: Facts): Verdict {
    const verdict = compiled.decide(phase, facts);
    onVerdict(phase, verdict.effect);
    return verdict;
  }

  /** What is not refused here is looked at again with each agent, by all rules. */
  function refuseAtAdmission(active: ActivePolicy, asked: Facts): void {
    if (!active.compiled.matters("ADMISSION")) return;
    const verdict = decide(active, "ADMISSION", asked);
    if (verdict.effect === "DENY") throw policyDenied(active, verdict, "Policy does not let you ask for this");
  }

  /** The cache and the router look in the same place: nobody is judged there twice. */
  function searches(
    active: ActivePolicy,
    asked: Facts,
    workspaceId: string,
    settle = (verdict: Verdict) => verdict,
  ): (looked: LookedFor) => SearchPolicy {
    const deps: SearchPolicyDeps = {
      active,
      asked,
      score: ({ agent, capability }) => trust.score(workspaceId, agent.agentId, capability?.capabilityId),
      decide: (facts) => decide(active, "CANDIDATE", facts),
      settle,
    };
    let last: { looked: LookedFor; policy: SearchPolicy } | undefined;
    return (looked) => {
      const isSame = last?.looked.source === looked.source && last.looked.capabilityId === looked.capabilityId;
      if (!last || !isSame) last = { looked, policy: createSearchPolicy(deps, looked) };
      return last.policy;
    };
  }

  return {
    async view({ principal, workspaceId }) {
      const active = await activeOf(workspaceId);
      const asked = requestFacts({
        principal,
        workspaceId,
        message: SHORT_TEXT,
        acceptedModes: [],
        priority: undefined,
        parent: undefined,
        now: runtime.now(),
      });
      const { compiled } = active;
      if (compiled.matters("ADMISSION") && compiled.decide("ADMISSION", asked).effect === "DENY") return undefined;
      const score: SearchPolicyDeps["score"] = ({ agent, capability }) =>
        trust.score(workspaceId, agent.agentId, capability?.capabilityId);
      const decide = (facts: Facts) => compiled.decide("CANDIDATE", facts);
      const deps: SearchPolicyDeps = { active, asked, score, decide, settle: (verdict) => verdict };
      const looked = { source: RouteSource.UNSPECIFIED, capabilityId: undefined };
      return { judge: createSearchPolicy(deps, looked).judge };
    },

    async admit(context, request, message, parent) {
      const active = await activeOf(context.workspaceId);
      const asked = factsOf(context, request, message, parent, runtime.now());
      refuseAtAdmission(active, asked);
      const search = searches(active, asked, context.workspaceId);
      return { search: (source, capabilityId) => search({ source, capabilityId }) };
    },

    async readmit(task, decision) {
      const { workspaceId } = task;
      const active = await activeOf(workspaceId);
      const kept = (decision && keptRequestFacts(workspaceId, decision)) ?? factsOfTask(task);
      const asked = { ...kept, now: runtime.now().getTime() };
      const settle = (verdict: Verdict) => withoutAsking(verdict, active, decision?.policy);
      const search = searches(active, asked, workspaceId, settle);
      return { search: (source, capabilityId = givenCapabilityId(task)) => search({ source, capabilityId }) };
    },

    async proceed(context, request, message, task, agent) {
      const { workspaceId, parent, priority } = task;
      const active = await activeOf(workspaceId);
      if (!active.compiled.matters("CANDIDATE")) return;
      // It is as urgent as its task, and for the same, though its agent may no longer offer that.
      const asked = { ...factsOf(context, request, message, parent, runtime.now()), task_priority: priority };
      refuseAtAdmission(active, asked);
      const looked = { source: RouteSource.UNSPECIFIED, capabilityId: heldForCapabilityId(task) };
      const { judge } = searches(active, asked, workspaceId)(looked);
      const verdict = judge?.of(agent);
      if (verdict?.effect === "DENY") throw judge!.refusal(agent, verdict);
    },
  };
}

/** What a caller that has sent nothing yet is taken to send. */
const SHORT_TEXT = create(MessageSchema, { parts: [{ content: { case: "text", value: "" } }] });

/** What is known of any request. It is kept with its task also where there is no policy, so that one can be tried on it later. */
function factsOf(
  { principal, workspaceId }: RequestContext,
  { configuration, metadata }: SendMessageRequest,
  message: Message,
  parent: TaskParent | undefined,
  now: Date,
): Facts {
  const wishes = routingWishes(metadata);
  return requestFacts({
    principal,
    workspaceId,
    message,
    acceptedModes: configuration?.acceptedOutputModes ?? [],
    // What is wrong with them, the router says.
    priority: Array.isArray(wishes) ? undefined : wishes.priority,
    parent,
    now,
  });
}

/** What is known of a task that was accepted by a version which kept no facts. */
const factsOfTask = ({ workspaceId, priority, parent }: TaskHeader): Facts => ({
  workspace_id: workspaceId,
  task_priority: priority,
  delegation_depth: parent?.depth ?? 0,
  parent_agent_id: parent?.agentId,
});

/** Nobody is asked while a task is under way: what was approved already holds, as long as it is by the same rules. */
function withoutAsking(verdict: Verdict, active: ActivePolicy, before: PolicyDecision | undefined): Verdict {
  const { effect, approval, rules } = verdict;
  if (effect !== "REQUIRE_APPROVAL") return verdict;
  // Which of the effects was noted does not matter: a rule that asks for approval is named where it was given.
  const wasApproved =
    before !== undefined &&
    isOf(active, before) &&
    // Beyond that they are not named.
    rules.length < MAX_REPORTED_RULES &&
    rules.every((rule) => before.rules.some(({ path, file }) => path === rule.path && file === rule.file));
  // On what terms it was asked for tells it from what is refused in any case.
  return wasApproved ? { effect: "ALLOW", rules } : { effect: "DENY", rules, ...(approval && { approval }) };
}

/** Whether a decision was made by the policy that holds now. */
const isOf = ({ version, fileDigests }: ActivePolicy, before: PolicyDecision): boolean =>
  before.policyVersion === version &&
  before.fileDigests.length === fileDigests.length &&
  before.fileDigests.every((digest, i) => digest === fileDigests[i]);
