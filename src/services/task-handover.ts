/** What becomes of a task when a second agent was faster than the one that has it. */
import { create } from "@bufbuild/protobuf";
import { StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { overtakenCause } from "../domain/cause.ts";
import { copyImage, type NewUpdate, type TaskImage } from "../domain/task-log.ts";
import type { TaskResult } from "../domain/task-result.ts";
import type { TaskStore } from "../store/task-store.ts";
import { type AnotherAgent, endpointOf, rerouteTo } from "./another-agent.ts";
import type { Runners } from "./runners.ts";
import { type HedgedAttempt, mayBeHedged } from "./task-hedge.ts";

export interface HandoverDeps extends Pick<Runners, "running" | "signal" | "inTurn" | "connect" | "runnerFor"> {
  store: Pick<TaskStore, "findUpstreamContext">;
  replicaId: () => string;
}

/**
 * Gives a task to the second agent, with its answer, which came of what began at `since`. It is a takeover: the second
 * agent's runner writes under the next token, and the first one's is refused whatever it would still write. False when the
 * task is no longer as it must be.
 */
export async function handOver(
  { running, signal, inTurn, connect, runnerFor, store, replicaId }: HandoverDeps,
  attempt: HedgedAttempt,
  second: AnotherAgent,
  answer: TaskResult,
  since: Date,
): Promise<boolean> {
  const { header } = attempt.writer.image;
  return inTurn(header, async () => {
    const first = running.get(header)?.runner;
    if (first !== attempt) return false;
    const to = await rerouteTo(second, header, store);
    const reroute = "task" in answer ? { ...to, ...namesIn(answer.task) } : to;
    const agent = endpointOf(second);
    const runner = runnerFor(copyImage(first.writer.image), agent, connect(agent));
    let moves = false;
    const move = (image: TaskImage): NewUpdate[] => {
      moves = mayBeHedged(image) && image.header.leaseOwner === replicaId();
      const cause = overtakenCause({ from: image.header.agentId, to: agent.agentId });
      return moves ? [{ kind: "transition", body: create(StreamResponseSchema), state: image.state, cause }] : [];
    };
    let isMoved = false;
    try {
      const options = { take: true, forgetUpstream: true, hidden: "either", reroute } as const;
      isMoved = (await runner.writer.append(move, options, signal)) === "stored" && moves;
    } finally {
      if (!isMoved) runner.release();
    }
    if (!isMoved) return false;
    running.drop(header, first.writer);
    running.start(runner, (r) => r.take(answer), { since });
    first.giveWay();
    return true;
  });
}

const namesIn = ({ id, contextId }: { id: string; contextId: string }) => ({
  upstreamTaskId: id,
  ...(contextId !== "" && { upstreamContextId: contextId }),
});
