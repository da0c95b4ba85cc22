/** What callers can ask of reputation, and say about it. */
import { hash } from "node:crypto";
import { create, type JsonObject } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type GetReputationRequest,
  type ListReputationsRequest,
  type ListReputationsResponse,
  ListReputationsResponseSchema,
  type ReportOutcomeRequest,
  type Reputation,
  ReputationSchema,
  type SetTrustRequest,
} from "../../gen/signalbox/v1/reputation_pb.ts";
import { clip, type FieldViolation, SignalboxError } from "../domain/errors.ts";
import { isDnsLabel } from "../domain/identifiers.ts";
import { lengthViolations } from "../domain/message-rules.ts";
import { refuse } from "../domain/refusal.ts";
import { type AgentStandings, giveTrust, judge, standingAt, WHOLE } from "../domain/reputation/agent-standings.ts";
import type { TrustRule } from "../domain/reputation/trust-rule.ts";
import { newWindows, viewWindows, type WindowView } from "../domain/reputation/windows.ts";
import { stateOf } from "../domain/task-log.ts";
import { isTerminal, stateName } from "../domain/task-state.ts";
import type { ReputationKey, ReputationRepository } from "../store/reputation-repository.ts";
import type { AgentDirectory } from "./agent-directory.ts";
import type { Audit, Deed } from "./audit.ts";
import type { KnownStandings } from "./known-standings.ts";
import { pageLimit, pageToken, pageTokenAs } from "./paging.ts";
import { agentNotFound } from "./registry-views.ts";
import type { RequestContext } from "./request-context.ts";
import type { Runtime } from "./runtime.ts";
import type { Tasks } from "./tasks.ts";
import type { TrustRules } from "./trust.ts";

const DEFAULT_PAGE = 100;
const MOST_PAGE = 1_000;
const MAX_REPORT_ID = 128;
const MAX_COMMENT = 1_024;
const MOST_WEIGHT = 100;

export interface Reputations {
  /** Throws AGENT_NOT_FOUND. */
  get(context: RequestContext, request: GetReputationRequest): Promise<Reputation>;
  list(context: RequestContext, request: ListReputationsRequest): Promise<ListReputationsResponse>;
  /** Throws INVALID_ARGUMENT by field; TASK_NOT_FOUND, AGENT_NOT_FOUND, CAPABILITY_NOT_FOUND; TASK_NOT_ENDED. */
  report(context: RequestContext, request: ReportOutcomeRequest): Promise<Reputation>;
  /** Throws INVALID_ARGUMENT by field; AGENT_NOT_FOUND, CAPABILITY_NOT_FOUND. */
  setTrust(context: RequestContext, request: SetTrustRequest): Promise<Reputation>;
}

export interface ReputationsDeps {
  readonly repository: Pick<ReputationRepository, "ofAgent" | "list" | "change">;
  readonly reputation: Pick<KnownStandings, "changed">;
  readonly rules: TrustRules;
  readonly directory: AgentDirectory;
  readonly tasks: Pick<Tasks, "visible">;
  readonly audit: Audit;
  readonly runtime: Runtime;
  /** Told of each report that counts. */
  readonly onReport: () => void;
}

/** Whom something is about. */
interface Subject {
  readonly agentId: string;
  /** Undefined: the agent as a whole. */
  readonly capabilityId: string | undefined;
}

export function createReputations(deps: ReputationsDeps): Reputations {
  const { repository, reputation, rules, directory, tasks, runtime } = deps;

  async function show(context: RequestContext, { agentId, capabilityId }: Subject): Promise<Reputation> {
    const { workspaceId } = context;
    await rules.load(workspaceId);
    const records = await repository.ofAgent(workspaceId, agentId);
    const isKnown = records.length > 0 || (await directory.agent(workspaceId, agentId)) !== undefined;
    if (!isKnown) throw agentNotFound(agentId);
    const standings: AgentStandings = new Map(records.map((one) => [one.capabilityId, one.standing]));
    return view(workspaceId, { agentId, capabilityId: capabilityId ?? WHOLE }, standings);
  }

  async function view(
    workspaceId: string,
    { agentId, capabilityId }: ReputationKey,
    standings: AgentStandings,
  ): Promise<Reputation> {
    const rule = rules.of(workspaceId);
    const nowMs = runtime.now().getTime();
    const known = standings.get(capabilityId);
    const { trust, score } = standingAt(standings, capabilityId === WHOLE ? undefined : capabilityId, nowMs, rule);
    const promised = await promisedOf(workspaceId, { agentId, capabilityId });
    return create(ReputationSchema, {
      agentId,
      capabilityId,
      trust,
      score,
      succeeded: BigInt(known?.succeeded ?? 0),
      failed: BigInt(known?.failed ?? 0),
      windows: viewWindows(known?.windows ?? newWindows(), nowMs).map((window) => windowView(window, promised)),
      ...(known && known.atMs > 0 && { updateTime: timestampFromMs(known.atMs) }),
      ...mayOf(trust, rule),
    });
  }

  /** The availability that an agent promises of a capability. */
  async function promisedOf(workspaceId: string, { agentId, capabilityId }: ReputationKey) {
    const offered = (await directory.agents(workspaceId)).capabilities.get(agentId);
    return offered?.find((each) => each.capabilityId === capabilityId)?.availability;
  }

  /** An agent that is registered, and a capability that it offers. */
  async function registered({ workspaceId }: RequestContext, agentId: string, capabilityId: string): Promise<Subject> {
    const agent = isDnsLabel(agentId) ? await directory.agent(workspaceId, agentId) : undefined;
    if (!agent) throw agentNotFound(agentId);
    if (capabilityId === "") return { agentId, capabilityId: undefined };
    const offered = (await directory.agents(workspaceId)).capabilities.get(agentId) ?? [];
    if (!offered.some((each) => each.capabilityId === capabilityId)) throw notOffered(agentId, capabilityId);
    return { agentId, capabilityId };
  }

  async function subjectOf(context: RequestContext, request: ReportOutcomeRequest): Promise<Subject> {
    const { taskId, agentId, capabilityId } = request;
    if (taskId === "") return registered(context, agentId, capabilityId);
    const image = await tasks.visible(context, "", taskId);
    const { header } = image;
    if (!isTerminal(stateOf(image))) throw notEnded(taskId, stateName(stateOf(image)));
    if (header.agentId === "") throw agentNotFound("");
    return header;
  }

  async function change(
    context: RequestContext,
    { agentId, capabilityId }: Subject,
    how: (standings: AgentStandings, atMs: number) => string[],
    { comment, ...deed }: Pick<Deed, "action" | "taskId"> & { detail: JsonObject; comment: string },
    reportId?: string,
  ): Promise<boolean> {
    const { workspaceId } = context;
    const at = runtime.now();
    const detail = {
      ...deed.detail,
      ...(capabilityId !== undefined && { capability: capabilityId }),
      ...(comment !== "" && { comment: hash("sha256", comment) }),
    };
    const record = deps.audit.recording(context, { ...deed, targetType: "agent", targetId: agentId, detail });
    const isDone = await repository.change(
      { workspaceId, agentId },
      // A clock that is ahead must not make old what comes after it.
      (_, standings, nowMs) => how(standings, Math.min(at.getTime(), nowMs)),
      reportId === undefined ? undefined : { id: reportId, at },
      record,
    );
    if (isDone) reputation.changed(workspaceId);
    return isDone;
  }

  return {
    async get(context, { agentId, capabilityId }) {
      if (!isDnsLabel(agentId)) throw agentNotFound(agentId);
      refuse(labelViolations("capabilityId", capabilityId));
      return show(context, { agentId, capabilityId: capabilityId || undefined });
    },

    async list({ workspaceId }, request) {
      refuse(labelViolations("agentId", request.agentId));
      const limit = pageLimit(request.pageSize, DEFAULT_PAGE, MOST_PAGE);
      const after = pageTokenAs(request.pageToken, "ListReputations", keyIn);
      await rules.load(workspaceId);
      const records = await repository.list(workspaceId, {
        limit: limit + 1,
        after,
        ...(request.agentId !== "" && { agentId: request.agentId }),
      });
      const page = records.slice(0, limit);
      const last = page.at(-1);
      const wholes = new Map<string, AgentStandings>();
      const reputations: Reputation[] = [];
      for (const { agentId, capabilityId, standing } of page) {
        const standings = wholes.get(agentId) ?? (await wholeOf(workspaceId, agentId, capabilityId));
        wholes.set(agentId, standings.set(capabilityId, standing));
        reputations.push(await view(workspaceId, { agentId, capabilityId }, standings));
      }
      const nextPageToken = records.length > limit && last ? pageToken(last.agentId, last.capabilityId) : "";
      return create(ListReputationsResponseSchema, { reputations, nextPageToken });
    },

    async report(context, request) {
      refuse(reportViolations(request));
      await rules.load(context.workspaceId);
      const subject = await subjectOf(context, request);
      const { quality, comment } = request;
      const weight = request.weight || 1;
      const rule = rules.of(context.workspaceId);
      const id = request.reportId || runtime.newId();
      const counts = await change(
        context,
        subject,
        (standings, atMs) => judge(standings, subject.capabilityId, { quality, weight, atMs }, rule),
        {
          action: "reputation.report",
          ...(request.taskId !== "" && { taskId: request.taskId }),
          detail: { report: id, quality, weight },
          comment,
        },
        id,
      );
      if (counts) {
        deps.onReport();
        context.log.info({ ...factsOf(subject), reportId: id, quality, weight, comment }, "an outcome was reported");
      }
      return show(context, subject);
    },

    async setTrust(context, { agentId, capabilityId, trust, comment }) {
      refuse([
        ...(trust >= 0 && trust <= 1 ? [] : [{ field: "trust", description: "must be from 0 to 1" }]),
        ...lengthViolations("comment", comment, MAX_COMMENT),
      ]);
      await rules.load(context.workspaceId);
      const subject = await registered(context, agentId, capabilityId);
      const rule = rules.of(context.workspaceId);
      const give = (standings: AgentStandings, atMs: number) =>
        giveTrust(standings, subject.capabilityId, trust, atMs, rule);
      await change(context, subject, give, { action: "reputation.set-trust", detail: { trust }, comment });
      context.log.info({ ...factsOf(subject), trust, comment }, "the trust of an agent was set");
      return show(context, subject);
    },
  };

  /** What a page needs that begins in the middle of an agent: how that one stands as a whole. */
  async function wholeOf(workspaceId: string, agentId: string, capabilityId: string): Promise<AgentStandings> {
    if (capabilityId === WHOLE) return new Map();
    const [whole] = await repository.list(workspaceId, { limit: 1, agentId });
    return new Map(whole ? [[whole.capabilityId, whole.standing]] : []);
  }
}

const mayOf = (trust: number, { read, write }: TrustRule) => ({ mayRead: trust >= read, mayWrite: trust >= write });

function windowView(window: WindowView, promised: number | undefined) {
  const { lengthMs, good, bad, successRate, latencies, slaAdherence } = window;
  const [p50Ms, p95Ms, p99Ms] = latencies ?? [];
  const isJudged = promised !== undefined && slaAdherence !== undefined && successRate !== undefined;
  return {
    seconds: BigInt(lengthMs / 1000),
    succeeded: BigInt(good),
    failed: BigInt(bad),
    ...(successRate && {
      successRate: successRate.share,
      successRateLow: successRate.low,
      successRateHigh: successRate.high,
    }),
    ...(latencies && { p50Ms, p95Ms, p99Ms }),
    ...(slaAdherence !== undefined && { slaAdherence }),
    ...(isJudged && { slaMet: slaAdherence >= promised && successRate.share >= promised }),
  };
}

function reportViolations(request: ReportOutcomeRequest): FieldViolation[] {
  const { reportId, taskId, agentId, capabilityId, quality, weight, comment } = request;
  const found = [
    ...lengthViolations("reportId", reportId, MAX_REPORT_ID),
    ...lengthViolations("comment", comment, MAX_COMMENT),
  ];
  if (reportId.includes("\0")) found.push({ field: "reportId", description: "must not hold a NUL" });
  if (taskId === "" && agentId === "") {
    found.push({ field: "taskId", description: "give the task that is judged, or agentId" });
  } else if (taskId !== "" && (agentId !== "" || capabilityId !== "")) {
    found.push({ field: "agentId", description: "is that of the task; leave agentId and capabilityId out" });
  }
  if (!(quality >= 0 && quality <= 1)) found.push({ field: "quality", description: "must be from 0, a failure, to 1" });
  if (!(weight >= 0 && weight <= MOST_WEIGHT)) {
    found.push({ field: "weight", description: `must be above 0 and not above ${MOST_WEIGHT}; 1 when it is left out` });
  }
  return found;
}

const labelViolations = (field: string, id: string): FieldViolation[] =>
  id === "" || isDnsLabel(id) ? [] : [{ field, description: "is no id: those are DNS labels" }];

const factsOf = ({ agentId, capabilityId }: Subject) => ({ agentId, ...(capabilityId && { capabilityId }) });

/** What a page token names. */
function keyIn(text: string): ReputationKey | undefined {
  const [agentId = "", capabilityId, more] = text.split("/");
  const isOurs = isDnsLabel(agentId) && capabilityId !== undefined && more === undefined;
  return isOurs && (capabilityId === WHOLE || isDnsLabel(capabilityId)) ? { agentId, capabilityId } : undefined;
}

const notOffered = (agentId: string, capabilityId: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "CAPABILITY_NOT_FOUND",
    message: `Agent "${agentId}" offers no capability "${clip(capabilityId)}". signalbox capabilities list --agent ${agentId} shows what it does.`,
    metadata: { agentId, capabilityId: clip(capabilityId) },
  });

const notEnded = (taskId: string, state: string) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "TASK_NOT_ENDED",
    message: `Task "${taskId}" is ${state}: it can be judged when it has ended.`,
    metadata: { taskId },
  });
