/** OBSERVE, EXPLAIN and VERIFY: what is known of a task. */
import { create, toJson } from "@bufbuild/protobuf";
import { type Artifact, ArtifactSchema, SubscribeToTaskRequestSchema } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Observe } from "../../../gen/signalbox/v1/message_pb.ts";
import { GetRouteDecisionRequestSchema, type RouteDecision } from "../../../gen/signalbox/v1/routing_pb.ts";
import { ListTaskTransitionsRequestSchema } from "../../../gen/signalbox/v1/task_pb.ts";
import { canonicalDigest } from "../../domain/canonical-json.ts";
import { invalidArgument, SignalboxError } from "../../domain/errors.ts";
import type { ActResult } from "../../domain/exchange-answer.ts";
import { stateOf, viewTask } from "../../domain/task-log.ts";
import { isTerminal } from "../../domain/task-state.ts";
import type { RequestContext, StreamCursor } from "../request-context.ts";
import type { Routes } from "../routes.ts";
import type { Sender } from "../send.ts";
import type { TaskExecutions } from "../task-executions.ts";
import type { Tasks } from "../tasks.ts";
import type { Act } from "./act.ts";

const HOW_TO_FOLLOW =
  "Send the same message to MessageService.ExchangeStream (POST /v1/messages:stream), or call SubscribeToTask of A2A; go on after this sequence with observe.after_sequence, or the header signalbox-after-sequence.";
const NOTE =
  "The digest is compared with this router's own record. That nobody has changed the record is not proven by it: the proof by a chain of hashes comes with audit.";

export function observe(tasks: Tasks): Act<"observe"> {
  return async ({ taskId }, { context }) => {
    const image = await tasks.visible(context, "", taskId);
    const update = { payload: { case: "task" as const, value: viewTask(image) } };
    return { case: "observe", value: { update, sequence: BigInt(image.seq), howToFollow: HOW_TO_FOLLOW } };
  };
}

/** The task as it stands, and its updates until it ends; from a number of its log on, if one is given. */
export async function* observed(
  { sender, tasks }: { sender: Sender; tasks: Tasks },
  context: RequestContext,
  asked: Observe,
  cursor: StreamCursor | undefined,
): AsyncGenerator<{ sequence: number; result: ActResult }> {
  const { taskId: id, afterSequence } = asked;
  const from =
    afterSequence === undefined ? cursor : { sequence: Number(afterSequence), header: "message.observe.afterSequence" };
  const image = await tasks.visible(context, "", id);
  if (!from && isTerminal(stateOf(image))) {
    const update = { payload: { case: "task" as const, value: viewTask(image) } };
    yield { sequence: image.seq, result: { case: "observe", value: { update, sequence: BigInt(image.seq) } } };
    return;
  }
  const request = create(SubscribeToTaskRequestSchema, { id });
  for await (const { sequence, response } of sender.subscribe(context, request, from)) {
    yield { sequence, result: { case: "observe", value: { update: response, sequence: BigInt(sequence) } } };
  }
}

export function explain(routes: Routes, executions: TaskExecutions): Act<"explain"> {
  async function decisionOf(context: RequestContext, taskId: string): Promise<RouteDecision | undefined> {
    try {
      return await routes.decision(context, create(GetRouteDecisionRequestSchema, { taskId }));
    } catch (error) {
      if (error instanceof SignalboxError && error.reason === "NO_DECISION") return undefined;
      throw error;
    }
  }
  return async ({ taskId, pageSize, pageToken }, { context }) => {
    const request = create(ListTaskTransitionsRequestSchema, { taskId, pageSize, pageToken });
    const { transitions, nextPageToken } = await executions.transitions(context, request);
    const decision = await decisionOf(context, taskId);
    return { case: "explain", value: { ...(decision && { decision }), transitions, nextPageToken } };
  };
}

export function verify(tasks: Tasks): Act<"verify"> {
  return async ({ taskId, digest: claimed, artifacts }, { context }) => {
    const image = await tasks.visible(context, "", taskId);
    const digest = digestOf(image.task.artifacts);
    const given = artifacts.length > 0 ? claimOf(artifacts) : claimed.toLowerCase();
    return {
      case: "verify",
      value: {
        ...(given !== "" && { matches: given === digest }),
        digest,
        algorithm: "sha-256/rfc8785",
        lastSequence: BigInt(image.seq),
        final: isTerminal(stateOf(image)),
        note: NOTE,
      },
    };
  };
}

/** SHA-256 over the canonical JSON of a list of artifacts, in hexadecimal. */
export const digestOf = (artifacts: readonly Artifact[]): string =>
  canonicalDigest(artifacts.map((artifact) => toJson(ArtifactSchema, artifact))).toString("hex");

function claimOf(artifacts: readonly Artifact[]): string {
  try {
    return digestOf(artifacts);
  } catch (error) {
    const description = `have no canonical JSON: ${(error as Error).message}`;
    throw invalidArgument([{ field: "message.verify.artifacts", description }], error);
  }
}
