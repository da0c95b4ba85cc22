/**
 * The place of policy in the way of a request: may this caller ask for this, and which agents may take it. It decides before
 * anything is stored, and what it decided is stored with the task.
 */
import type { Message, SendMessageRequest } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type PolicyDecision, PolicyEffect } from "../../gen/signalbox/v1/policy_pb.ts";
import { type RouteDecision, RouteSource } from "../../gen/signalbox/v1/routing_pb.ts";
import type { TaskParent } from "../domain/budget/hold.ts";
import type { SignalboxError } from "../domain/errors.ts";
import type { Facts, PolicyPhase } from "../domain/policy/facts.ts";
import { type ApprovalTerms, MAX_REPORTED_RULES, type Verdict } from "../domain/policy/verdict.ts";
import { routingWishes } from "../domain/routing-extension.ts";
import { givenCapabilityId, heldForCapabilityId, type TaskHeader } from "../domain/task-log.ts";
import type { ActivePolicy, Policies } from "./policies.ts";
import { decisionOf, policyDenied } from "./policy-decision.ts";
import { candidateFacts, keptFacts, keptRequestFacts, type LookedFor, requestFacts } from "./policy-facts.ts";
import type { RequestContext } from "./request-context.ts";
import type { Possible } from "./routing/offers.ts";
import type { Runtime } from "./runtime.ts";
import type { Trust } from "./trust.ts";

/** Decides about agents that may take a task. */
export interface Judge {
  of(offer: Possible): Verdict;
  /** As what it was decided so: of an agent that was named alone, what of its offers was refused, if anything was. */
  readingOf(offer: Possible): Possible;
  /** What a client is told of an agent that is refused. */
  refusal(offer: Possible, verdict: Verdict): SignalboxError;
}

/** A request that may be made. */
export interface Admitted {
  /**
   * What is said of the agents that are found where `source` said where to look, for `capabilityId` if one was asked for. Left
   * out, it is what a task that exists was given for.
   */
  search(source: RouteSource, capabilityId?: string): SearchPolicy;
}

/** What is said of the agents that a search finds. */
export interface SearchPolicy {
  /** Undefined where no rule is about agents: each may take it. */
  readonly judge: Judge | undefined;
  /**
   * Notes in a decision what was said of the agent that was chosen, and of what. Returns on what terms the task must be
   * approved first, if it must.
   */
  note(decision: RouteDecision, chosen: Possible): ApprovalTerms | undefined;
}

export interface Policy {
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

  function judgeBy(active: ActivePolicy, asked: Facts, workspaceId: string, looked: LookedFor): Judge | undefined {
    if (!active.compiled.matters("CANDIDATE")) return undefined;
    function decideOne(offer: Possible): Verdict {
      const reputation = trust.score(workspaceId, offer.agent.agentId, offer.capability?.capabilityId);
      return decide(active, "CANDIDATE", candidateFacts(asked, offer, looked, reputation));
    }
    return {
      of: (offer) => strictest(readings(offer).map(decideOne)),
      readingOf(offer) {
        const all = readings(offer);
        if (all.length === 1) return offer;
        const verdicts = all.map(decideOne);
        return all[verdicts.indexOf(strictest(verdicts))]!;
      },
      refusal: ({ agent }, verdict) =>
        policyDenied(active, verdict, `Policy does not let agent "${agent.agentId}" take this`),
    };
  }

  const searchBy = (active: ActivePolicy, asked: Facts, looked: LookedFor, judge: Judge | undefined): SearchPolicy => ({
    judge,
    note(decision, chosen) {
      const verdict = judge?.of(chosen);
      decision.policyFacts = keptFacts(asked, judge ? judge.readingOf(chosen) : chosen, looked, decision);
      if (verdict) decision.policy = decisionOf(active, "CANDIDATE", verdict);
      return verdict?.approval;
    },
  });

  return {
    async admit(context, request, message, parent) {
      const active = await activeOf(context.workspaceId);
      const asked = factsOf(context, request, message, parent, runtime.now());
      refuseAtAdmission(active, asked);
      return {
        search(source, capabilityId) {
          const looked = { source, capabilityId };
          return searchBy(active, asked, looked, judgeBy(active, asked, context.workspaceId, looked));
        },
      };
    },

    async readmit(task, decision) {
      const { workspaceId } = task;
      const active = await activeOf(workspaceId);
      const kept = (decision && keptRequestFacts(workspaceId, decision)) ?? factsOfTask(task);
      const asked = { ...kept, now: runtime.now().getTime() };
      return {
        search(source, capabilityId = givenCapabilityId(task)) {
          const looked = { source, capabilityId };
          const judge = judgeBy(active, asked, workspaceId, looked);
          const of = (offer: Possible) => withoutAsking(judge!.of(offer), active, decision?.policy);
          return searchBy(active, asked, looked, judge && { ...judge, of });
        },
      };
    },

    async proceed(context, request, message, task, agent) {
      const { workspaceId, parent, priority } = task;
      const active = await activeOf(workspaceId);
      if (!active.compiled.matters("CANDIDATE")) return;
      // It is as urgent as its task, and for the same, though its agent may no longer offer that.
      const asked = { ...factsOf(context, request, message, parent, runtime.now()), task_priority: priority };
      refuseAtAdmission(active, asked);
      const looked = { source: RouteSource.UNSPECIFIED, capabilityId: heldForCapabilityId(task) };
      const judge = judgeBy(active, asked, workspaceId, looked);
      const verdict = judge?.of(agent);
      if (verdict?.effect === "DENY") throw judge!.refusal(agent, verdict);
    },
  };
}

/**
 * Whoever names an agent alone asks for anything that it does: it must be allowed for all that it offers, and for what is none
 * of that.
 */
const readings = (offer: Possible): readonly Possible[] =>
  offer.capability || !offer.among
    ? [offer]
    : [offer, ...offer.among.map((capability) => ({ agent: offer.agent, capability }))];

/** The first of those that allow least. */
function strictest(verdicts: readonly Verdict[]): Verdict {
  const first = (effect: Verdict["effect"]) => verdicts.find((verdict) => verdict.effect === effect);
  return first("DENY") ?? first("REQUIRE_APPROVAL") ?? verdicts[0]!;
}

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
  const wasApproved =
    before?.effect === PolicyEffect.REQUIRE_APPROVAL &&
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
