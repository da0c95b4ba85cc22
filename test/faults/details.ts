/** The logs of tasks with which something is wrong, for people to read. */
import { engineStateName } from "../../src/domain/task-state.ts";
import type { Evidence, StoredLog } from "./evidence.ts";

/** Tasks that are shown at most. */
const MOST = 5;

/** The logs of the tasks that the faults name, by id or by a message, a line a row, with what agents did in between. */
export function detailsOf(faults: readonly string[], { tasks, journals }: Evidence): string[] {
  const messagesIn = ({ rows }: StoredLog) =>
    rows.flatMap(({ body: { payload } }) => (payload.case === "message" ? payload.value.messageId : []));
  const named = tasks.filter((log) => {
    const ids = [log.header.taskId, ...messagesIn(log)];
    return faults.some((fault) => ids.some((id) => fault.includes(id)));
  });
  return named.slice(0, MOST).flatMap((log) => {
    const messages = new Set(messagesIn(log));
    const upstream = new Set([log.header.upstreamTaskId]);
    const entries = journals.flatMap((journal) => journal.entries);
    for (const { messageId = "", taskId } of entries)
      if (messages.has(messageId) && taskId !== "") upstream.add(taskId);
    const rows = log.rows.map(({ seq, kind, state, at, fence, attempt, writtenBy, cause = "", body }) => {
      const { payload } = body;
      const shown = payload.case === "statusUpdate" ? payload.value.status?.state : state;
      const name = shown === undefined ? "" : engineStateName(shown as never);
      const line = `${seq} ${kind} ${name} fence ${fence} attempt ${attempt} by ${writtenBy}: ${cause.split("\n")[0]}`;
      return { at, line };
    });
    const told = entries
      .filter(({ messageId = "", taskId }) => messages.has(messageId) || upstream.has(taskId))
      .map(({ at, kind, messageId = "", taskId }) => ({ at, line: `  agent ${kind} ${messageId} ${taskId}` }));
    const lines = [...rows, ...told].sort((a, b) => a.at - b.at);
    const { taskId, agentId, leaseOwner } = log.header;
    return [
      `task ${taskId} for ${agentId}, lease of ${leaseOwner}`,
      ...lines.map(({ at, line }) => `  ${new Date(at).toISOString()} ${line}`),
    ];
  });
}
