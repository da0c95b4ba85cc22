/**
 * Tasks that wait for the result of another, which their agents have not heard of: who cannot wait any longer goes on in its
 * agent's queue, in the attempt that it is in.
 */
import { create } from "@bufbuild/protobuf";
import { Role, StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { stateOf, type TaskImage } from "../domain/task-log.ts";
import { EngineState, isTerminal } from "../domain/task-state.ts";
import type { TaskWriter } from "./task-writer.ts";

/**
 * Lets a task of this replica wait in the queue of its agent, for whatever replica. `why` says in its log what for. `kept`: it is
 * as it was, because it is not as when it was accepted, and who begins anew sends the first message alone.
 *
 * @throws LeaseLostError when the task is another's.
 */
export async function putBack(
  writer: TaskWriter,
  why: string,
  signal: AbortSignal,
): Promise<"put-back" | "ended" | "kept"> {
  const waits = {
    kind: "transition",
    body: create(StreamResponseSchema),
    state: EngineState.QUEUED,
    cause: why,
  } as const;
  let isNew = false;
  await writer.append(
    (image) => {
      isNew = isAsAccepted(image);
      return isNew ? [waits] : [];
    },
    { wakeInMs: "at-agent", hidden: "either" },
    signal,
  );
  if (isTerminal(stateOf(writer.image))) return "ended";
  return isNew ? "put-back" : "kept";
}

const isAsAccepted = ({ state, header, task }: TaskImage): boolean =>
  state === EngineState.ASSIGNED &&
  header.upstreamTaskId === undefined &&
  task.history.filter(({ role }) => role === Role.USER).length === 1;
